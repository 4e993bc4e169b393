// Prefetches of the C ABI.
#include "client/prefetch.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/c/handles.h"
#include "client/c/status.h"
#include "client/c/structs.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

// `options` may be null.
absl::Status ToPrefetchOptions(const engram_prefetch_options* options, PrefetchOptions& out) {
  if (options == nullptr) return absl::OkStatus();
  engram_prefetch_options given = ENGRAM_PREFETCH_OPTIONS_INIT;
  RETURN_IF_ERROR(ReadStruct(options, "options", given));
  RETURN_IF_ERROR(CheckArray(given.layers, given.layer_count, kMaxLayers, "options->layers"));
  out.layers.assign(given.layers, given.layers + given.layer_count);
  out.columns = {given.columns.begin, given.columns.end};
  RETURN_IF_ERROR(ToPriority(given.priority, LookupPriority::kPrefill, out.priority));
  if (given.timeout_us != 0) out.timeout = absl::Microseconds(given.timeout_us);
  return absl::OkStatus();
}

}  // namespace
}  // namespace engram

using engram::Call;
using engram::CheckNotNull;

engram_status* engram_prefetch_start(engram_client* client, const uint32_t* tokens,
                                     size_t token_count, const uint8_t* dead,
                                     engram_lookback* state, const engram_prefetch_options* options,
                                     engram_prefetch** prefetch) {
  return Call([&]() -> absl::Status {
    RETURN_IF_ERROR(CheckNotNull(client, "client"));
    RETURN_IF_ERROR(CheckNotNull(prefetch, "prefetch"));
    RETURN_IF_ERROR(engram::CheckArray(tokens, token_count, UINT32_MAX, "tokens"));
    engram::PrefetchOptions with;
    RETURN_IF_ERROR(engram::ToPrefetchOptions(options, with));
    engram::LookBack* look_back = nullptr;
    RETURN_IF_ERROR(
        engram::ToLookBack(state, client->defaults.compressed_vocab, "state", look_back));
    auto handle = std::make_unique<engram_prefetch>();
    ASSIGN_OR_RETURN(
        handle->prefetch,
        engram::Prefetch::Start(*client->client, {tokens, token_count},
                                {dead, dead == nullptr ? 0 : token_count}, *look_back, with));
    *prefetch = handle.release();
    return absl::OkStatus();
  });
}

void engram_prefetch_destroy(engram_prefetch* prefetch) { delete prefetch; }

engram_status* engram_prefetch_state_at(const engram_prefetch* prefetch, size_t tokens,
                                        engram_lookback* state) {
  return Call([&]() -> absl::Status {
    RETURN_IF_ERROR(CheckNotNull(prefetch, "prefetch"));
    RETURN_IF_ERROR(CheckNotNull(state, "state"));
    if (tokens > prefetch->prefetch.tokens()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the state behind ", tokens, " tokens of a prefetch of ", prefetch->prefetch.tokens()));
    }
    const engram::LookBack at = prefetch->prefetch.StateAt(tokens);
    std::memcpy(state, &at, sizeof(at));
    return absl::OkStatus();
  });
}

engram_status* engram_prefetch_size(const engram_prefetch* prefetch, size_t* tokens,
                                    uint64_t* bytes) {
  return Call([&]() -> absl::Status {
    RETURN_IF_ERROR(CheckNotNull(prefetch, "prefetch"));
    if (tokens != nullptr) *tokens = prefetch->prefetch.tokens();
    if (bytes != nullptr) *bytes = prefetch->prefetch.bytes();
    return absl::OkStatus();
  });
}

engram_status* engram_prefetch_wait(engram_prefetch* prefetch, int64_t timeout_us) {
  return Call([&]() -> absl::Status {
    RETURN_IF_ERROR(CheckNotNull(prefetch, "prefetch"));
    return prefetch->prefetch.Wait(engram::DeadlineOf(timeout_us));
  });
}
