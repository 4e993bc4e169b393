#include "service/unary_calls.h"

#include <grpcpp/alarm.h>

#include <optional>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "proto/describe.h"
#include "proto/version.h"
#include "proto/wire.h"
#include "service/admission.h"
#include "service/unary_call.h"

namespace engram {
namespace {

v1::ServerState StateOf(const CallContext& context) {
  if (context.table.rows->state().failed()) return v1::SERVER_STATE_FAILED;
  return context.phase == Phase::kServing ? v1::SERVER_STATE_SERVING : v1::SERVER_STATE_DRAINING;
}

// A unary answer has no room for single failures.
absl::Status Gathered(const PendingGather& gather) {
  if (!gather.status.ok() || gather.failures.empty()) return gather.status;
  const RowFailure& first = gather.failures.front();
  return absl::Status(first.code, absl::StrCat(gather.failures.size(),
                                               " rows could not be read, the first at "
                                               "position ",
                                               first.position));
}

// A gather under way, and what it must find when it comes back.
struct UnaryGather {
  PendingGather gather;
  std::shared_ptr<const HeldGeneration> generation;
};

absl::Status Describe(CallContext& context, const v1::DescribeRequest& request,
                      v1::DescribeResponse& response) {
  const Table& table = context.table;
  response.set_server_version(kVersion);
  response.set_model(table.model);
  ToMessage(table.geometry, response.mutable_geometry());
  ToMessage(table.rows->layout(), response.mutable_row_layout());
  if (table.token_map.has_value()) {
    ToMessage(*table.token_map, request.include_token_map(), response.mutable_token_map());
  }
  const GenerationSet& set = context.Held();
  for (size_t i = 0; i < set.held().size(); ++i) {
    const HeldGeneration& held = *set.held()[i];
    v1::Generation* generation = response.add_generations();
    generation->set_digest(held.digest.data(), held.digest.size());
    generation->set_state(set.IsActive(i) ? v1::GENERATION_STATE_ACTIVE
                                          : v1::GENERATION_STATE_PREPARED);
    ToMessage(table.rows->ranges(), generation);
    if (held.base.has_value()) generation->set_base(held.base->data(), held.base->size());
    generation->set_changed_rows(held.changed_rows);
  }
  response.set_state(StateOf(context));
  response.set_shard_index(table.shard.index);
  response.set_shard_count(table.shard.count);
  v1::Limits* limits = response.mutable_limits();
  limits->set_max_rows_per_request(context.options.max_rows_per_request);
  limits->set_max_rows_per_unary_request(MaxUnaryRows(table.rows->layout()));
  limits->set_max_request_bytes(context.options.max_request_bytes);
  limits->set_max_requests_in_flight(context.options.max_requests_in_flight);
  response.add_features(v1::FEATURE_ROW_CHECKSUMS);
  response.add_features(v1::FEATURE_CHANGE_NOTICES);
  const StoreState& state = table.rows->state();
  response.mutable_verification()->set_passes(state.verified_passes);
  response.mutable_verification()->set_rows(state.verified_rows);
  response.set_failure(std::string(state.failure().message()));
  return absl::OkStatus();
}

std::optional<absl::Status> Gather(CallContext& context, const v1::GatherRequest& request,
                                   v1::GatherResponse& response,
                                   std::function<void(absl::Status)> later) {
  if (context.phase != Phase::kServing) return absl::UnavailableError("the server is draining");
  const RowLayout& layout = context.table.rows->layout();
  const size_t count = static_cast<size_t>(request.rows_size() + request.wide_rows_size());
  if (count > MaxUnaryRows(layout)) {
    return absl::InvalidArgumentError(
        absl::StrCat("request asks for ", count, " rows; a unary Gather takes at most ",
                     MaxUnaryRows(layout), " (GatherStream has room for more)"));
  }
  const std::span<const uint32_t> rows(request.rows().data(), request.rows().size());
  const std::span<const uint64_t> wide(request.wide_rows().data(), request.wide_rows().size());
  const auto under_way = std::make_shared<UnaryGather>();
  PendingGather& gather = under_way->gather;
  ASSIGN_OR_RETURN(under_way->generation,
                   AdmitGather(context.table, context.Held(), request.digest(), request.layer(),
                               request.flags(), rows, wide));
  const RowStore& store = *under_way->generation->rows;
  response.mutable_rows()->resize(count * layout.row_bytes());
  gather.out = reinterpret_cast<uint8_t*>(response.mutable_rows()->data());
  if ((request.flags() & kFlagChecksums) != 0) {
    response.mutable_checksums()->Resize(static_cast<int>(count), 0);
    gather.checksums = response.mutable_checksums()->mutable_data();
  }
  // Holds itself until it is done.
  gather.done = [held = under_way, later = std::move(later)]() mutable {
    const std::shared_ptr<UnaryGather> mine = std::move(held);
    const auto tell = std::move(later);
    tell(Gathered(mine->gather));
  };
  const bool done = wide.empty() ? store.StartGather(request.layer(), rows, gather)
                                 : store.StartGather(request.layer(), wide, gather);
  if (!done) return std::nullopt;
  gather.done = nullptr;
  return Gathered(gather);
}

}  // namespace

uint64_t MaxUnaryRows(const RowLayout& layout) {
  constexpr uint64_t kResponseBytes = (4 << 20) - (64 << 10);
  constexpr uint64_t kChecksumBytes = 4;
  return kResponseBytes / (layout.row_bytes() + kChecksumBytes);
}

void CountUnaryGather(CallContext& context, const v1::GatherRequest& request,
                      const v1::GatherResponse& response, const absl::Status& status,
                      absl::Duration took) {
  ServerCounters& counters = *context.counters;
  counters.Request(WirePriority::kDecode);
  if (!status.ok()) {
    counters.Error(ReasonOf(status, Holds(context.Held(), request.digest()),
                            context.phase == Phase::kServing));
    return;
  }
  const size_t bytes = response.rows().size();
  const size_t rows = bytes / context.table.rows->layout().row_bytes();
  counters.rows.Observe(rows);
  counters.sent_rows.Add(rows);
  counters.sent_row_bytes.Add(bytes);
  counters.duration.Observe(took);
}

void ListenForDescribe(CallContext& context) {
  new UnaryCall<v1::DescribeRequest, v1::DescribeResponse>(
      context, &AsyncEngramService::RequestDescribe, Describe, AnswerOn::kServing);
}

void ListenForGather(CallContext& context) {
  new UnaryCall<v1::GatherRequest, v1::GatherResponse>(context, &AsyncEngramService::RequestGather,
                                                       Gather);
}

}  // namespace engram
