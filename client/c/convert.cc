// Arguments of the C ABI -> those of the C++ interface.
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/c/handles.h"
#include "client/c/status.h"
#include "client/c/structs.h"
#include "proto/base/status_macros.h"

namespace engram {

static_assert(sizeof(engram_lookback) == sizeof(LookBack) &&
              offsetof(engram_lookback, depth) == offsetof(LookBack, depth) &&
              offsetof(engram_lookback, ids) == offsetof(LookBack, ids));
static_assert(ENGRAM_WORD_PENDING == kWordPending && ENGRAM_WORD_READY == kWordReady &&
              ENGRAM_WORD_ERROR == kWordError);

absl::Status ToPriority(int32_t priority, LookupPriority normal, LookupPriority& out) {
  switch (priority) {
    case ENGRAM_PRIORITY_DEFAULT:
      out = normal;
      return absl::OkStatus();
    case ENGRAM_PRIORITY_DECODE:
      out = LookupPriority::kDecode;
      return absl::OkStatus();
    case ENGRAM_PRIORITY_PREFILL:
      out = LookupPriority::kPrefill;
      return absl::OkStatus();
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("option `priority` is ", priority, ", which is no priority"));
  }
}

absl::Status ToLookupOptions(const engram_lookup_options* options, const LookupDefaults& defaults,
                             LookupOptions& out) {
  out.timeout = defaults.timeout;
  out.missing = defaults.missing;
  if (options == nullptr) return absl::OkStatus();
  engram_lookup_options given = ENGRAM_LOOKUP_OPTIONS_INIT;
  RETURN_IF_ERROR(ReadStruct(options, "options", given));
  if (given.timeout_us != 0) out.timeout = absl::Microseconds(given.timeout_us);
  RETURN_IF_ERROR(ToPriority(given.priority, LookupPriority::kDecode, out.priority));
  if (given.missing < ENGRAM_MISSING_DEFAULT || given.missing > ENGRAM_MISSING_ZEROS) {
    return absl::InvalidArgumentError(
        absl::StrCat("option `missing` is ", given.missing, ", which is no choice"));
  }
  if (given.missing != ENGRAM_MISSING_DEFAULT) {
    out.missing = given.missing == ENGRAM_MISSING_ZEROS ? MissingRows::kZeros : MissingRows::kFail;
  }
  RETURN_IF_ERROR(
      CheckArray(given.degraded, given.degraded_count, UINT32_MAX, "options->degraded"));
  out.degraded = {given.degraded, given.degraded_count};
  if (given.on_done != nullptr) {
    // Two pointers: small enough that std::function allocates nothing.
    out.on_done = [call = given.on_done, user = given.on_done_user](const absl::Status& status) {
      if (status.ok()) return call(user, nullptr);
      engram_status* const failure = NewStatus(status);
      call(user, failure);
      engram_status_free(failure);
    };
  }
  return absl::OkStatus();
}

absl::Status ToStepIds(const engram_step_ids* ids, StepIds& out) {
  engram_step_ids given = ENGRAM_STEP_IDS_INIT;
  RETURN_IF_ERROR(ReadStruct(ids, "ids", given));
  RETURN_IF_ERROR(CheckArray(given.layers, given.layer_count, kMaxLayers, "ids->layers"));
  RETURN_IF_ERROR(CheckArray(given.mask, given.mask_count, UINT32_MAX, "ids->mask"));
  out.tokens = given.tokens;
  out.per_column = given.per_column != 0;
  out.own_columns = given.own_columns != 0;
  out.mask = {given.mask, given.mask_count};
  out.layers.reserve(given.layer_count);
  for (size_t i = 0; i < given.layer_count; ++i) {
    const engram_layer_ids& layer = given.layers[i];
    if (layer.id_bytes != 4 && layer.id_bytes != 8) {
      return absl::InvalidArgumentError(absl::StrCat("ids->layers[", i, "].id_bytes is ",
                                                     layer.id_bytes, ", ids have 4 or 8 bytes"));
    }
    if (reinterpret_cast<uintptr_t>(layer.ids) % static_cast<uintptr_t>(layer.id_bytes) != 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "ids->layers[", i, "].ids is not aligned to its ", layer.id_bytes, " bytes"));
    }
    if (layer.id_bytes == 4) {
      out.layers.emplace_back(static_cast<const int32_t*>(layer.ids), layer.token_stride,
                              layer.column_stride);
    } else {
      out.layers.emplace_back(static_cast<const int64_t*>(layer.ids), layer.token_stride,
                              layer.column_stride);
    }
  }
  return absl::OkStatus();
}

absl::Status ToLookBack(engram_lookback* state, uint32_t compressed_vocab, const char* name,
                        LookBack*& out) {
  RETURN_IF_ERROR(CheckNotNull(state, name));
  bool good = state->depth <= kMaxNgram;
  for (const uint32_t id : state->ids) good = good && id < compressed_vocab;
  if (!good) {
    return absl::InvalidArgumentError(absl::StrCat(
        "argument `", name, "` is no look-back state of this table (all zeros start one)"));
  }
  out = reinterpret_cast<LookBack*>(state);
  return absl::OkStatus();
}

absl::Time DeadlineOf(int64_t timeout_us) {
  return timeout_us < 0 ? absl::InfiniteFuture() : absl::Now() + absl::Microseconds(timeout_us);
}

}  // namespace engram
