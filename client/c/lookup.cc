// Tickets of the C ABI.
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/c/handles.h"
#include "client/c/status.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

absl::Status CheckBuffer(const void* buffer, size_t bytes, size_t i, const char* what) {
  if (buffer != nullptr || bytes == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(what, " of element ", i, " is NULL"));
}

absl::Status ToBuffers(const engram_buffer* outputs, size_t count, std::vector<LayerBuffer>& out) {
  RETURN_IF_ERROR(CheckArray(outputs, count, kMaxLayers, "outputs"));
  out.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    RETURN_IF_ERROR(CheckBuffer(outputs[i].out, outputs[i].out_bytes, i, "outputs: `out`"));
    out.push_back({outputs[i].layer, {outputs[i].out, outputs[i].out_bytes}});
  }
  return absl::OkStatus();
}

// What every submit does: the ticket's last lookup ends, and `start` makes the next one.
template <typename Start>
engram_status* Submit(engram_client* client, const engram_lookup_options* options,
                      engram_ticket* ticket, Start start) {
  return Call([&]() -> absl::Status {
    RETURN_IF_ERROR(CheckNotNull(client, "client"));
    RETURN_IF_ERROR(CheckNotNull(ticket, "ticket"));
    ticket->ticket = Ticket();
    LookupOptions lookup;
    RETURN_IF_ERROR(ToLookupOptions(options, client->defaults, lookup));
    ASSIGN_OR_RETURN(ticket->ticket, start(*client->client, lookup));
    return absl::OkStatus();
  });
}

}  // namespace
}  // namespace engram

using engram::Call;
using engram::CheckArray;
using engram::CheckNotNull;

engram_status* engram_ticket_create(engram_ticket** ticket) {
  return Call([&]() -> absl::Status {
    RETURN_IF_ERROR(CheckNotNull(ticket, "ticket"));
    *ticket = new engram_ticket;
    return absl::OkStatus();
  });
}

void engram_ticket_destroy(engram_ticket* ticket) { delete ticket; }

engram_status* engram_client_submit_rows(engram_client* client, const engram_rows* layers,
                                         size_t layer_count, const engram_lookup_options* options,
                                         engram_ticket* ticket) {
  using engram::Client, engram::LookupOptions, engram::Ticket;
  const auto start = [&](Client& to, const LookupOptions& lookup) -> absl::StatusOr<Ticket> {
    RETURN_IF_ERROR(CheckArray(layers, layer_count, engram::kMaxLayers, "layers"));
    std::vector<engram::RowsLookup> rows;
    rows.reserve(layer_count);
    for (size_t i = 0; i < layer_count; ++i) {
      const engram_rows& layer = layers[i];
      RETURN_IF_ERROR(engram::CheckBuffer(layer.ids, layer.count, i, "layers: `ids`"));
      RETURN_IF_ERROR(engram::CheckBuffer(layer.out, layer.out_bytes, i, "layers: `out`"));
      rows.push_back({layer.layer, {layer.ids, layer.count}, {layer.out, layer.out_bytes}});
    }
    return to.SubmitRows(rows, lookup);
  };
  return engram::Submit(client, options, ticket, start);
}

engram_status* engram_client_submit_ids(engram_client* client, const engram_step_ids* ids,
                                        const engram_buffer* outputs, size_t output_count,
                                        const engram_lookup_options* options,
                                        engram_ticket* ticket) {
  using engram::Client, engram::LookupOptions, engram::Ticket;
  const auto start = [&](Client& to, const LookupOptions& lookup) -> absl::StatusOr<Ticket> {
    engram::StepIds step;
    RETURN_IF_ERROR(engram::ToStepIds(ids, step));
    std::vector<engram::LayerBuffer> buffers;
    RETURN_IF_ERROR(engram::ToBuffers(outputs, output_count, buffers));
    return to.SubmitIds(step, buffers, lookup);
  };
  return engram::Submit(client, options, ticket, start);
}

engram_status* engram_client_submit_tokens(engram_client* client, const uint32_t* tokens,
                                           size_t token_count, const uint8_t* dead,
                                           engram_lookback* state, const engram_buffer* outputs,
                                           size_t output_count,
                                           const engram_lookup_options* options,
                                           engram_ticket* ticket) {
  using engram::Client, engram::LookupOptions, engram::Ticket;
  const auto start = [&](Client& to, const LookupOptions& lookup) -> absl::StatusOr<Ticket> {
    RETURN_IF_ERROR(CheckArray(tokens, token_count, UINT32_MAX, "tokens"));
    engram::LookBack* look_back = nullptr;
    RETURN_IF_ERROR(
        engram::ToLookBack(state, client->defaults.compressed_vocab, "state", look_back));
    std::vector<engram::LayerBuffer> buffers;
    RETURN_IF_ERROR(engram::ToBuffers(outputs, output_count, buffers));
    return to.SubmitTokens({tokens, token_count}, {dead, dead == nullptr ? 0 : token_count},
                           *look_back, buffers, lookup);
  };
  return engram::Submit(client, options, ticket, start);
}

engram_status* engram_ticket_wait(engram_ticket* ticket, uint32_t layer, int64_t timeout_us) {
  return Call([&]() -> absl::Status {
    RETURN_IF_ERROR(CheckNotNull(ticket, "ticket"));
    return ticket->ticket.Wait(layer, engram::DeadlineOf(timeout_us));
  });
}

engram_status* engram_ticket_wait_all(engram_ticket* ticket, int64_t timeout_us) {
  return Call([&]() -> absl::Status {
    RETURN_IF_ERROR(CheckNotNull(ticket, "ticket"));
    return ticket->ticket.WaitAll(engram::DeadlineOf(timeout_us));
  });
}

engram_status* engram_ticket_done(const engram_ticket* ticket, uint32_t layer, int32_t* done) {
  return Call([&]() -> absl::Status {
    RETURN_IF_ERROR(CheckNotNull(ticket, "ticket"));
    RETURN_IF_ERROR(CheckNotNull(done, "done"));
    *done = ticket->ticket.Done(layer) ? 1 : 0;
    return absl::OkStatus();
  });
}
