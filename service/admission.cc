#include "service/admission.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "proto/wire.h"

namespace engram {

bool Holds(const GenerationSet& held, absl::string_view digest) {
  Sha256 wanted;
  if (digest.size() != wanted.size()) return false;
  std::copy(digest.begin(), digest.end(), wanted.begin());
  return held.Find(wanted) != nullptr;
}

absl::StatusOr<std::shared_ptr<const HeldGeneration>> AdmitGather(
    const Table& table, const GenerationSet& held, absl::string_view digest, uint32_t layer,
    uint32_t flags, std::span<const uint32_t> rows, std::span<const uint64_t> wide_rows) {
  if (table.rows->state().failed()) return table.rows->state().failure();
  if ((flags & ~kFlagChecksums) != 0) {
    return absl::UnimplementedError(
        absl::StrCat("request flags ", flags, " are not all known here"));
  }
  Sha256 wanted;
  if (digest.size() != wanted.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the request's digest has ", digest.size(), " bytes, expected 32"));
  }
  std::copy(digest.begin(), digest.end(), wanted.begin());
  std::shared_ptr<const HeldGeneration> generation = held.Find(wanted);
  if (generation == nullptr) {
    std::string digests;
    for (const auto& each : held.held()) {
      absl::StrAppend(&digests, digests.empty() ? "" : ", ", ToHex(each->digest));
    }
    return absl::FailedPreconditionError(absl::StrCat("the request is for the table of digest ",
                                                      ToHex(wanted), "; this server serves ",
                                                      digests));
  }
  ASSIGN_OR_RETURN(const size_t index, table.geometry.LayerIndex(layer));
  const bool wide = table.geometry.layers()[index].rows >= UINT32_MAX;
  if (wide ? !rows.empty() : !wide_rows.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("row ids of layer ", layer, " must come in `",
                                                   wide ? "wide_rows" : "rows", "`"));
  }
  RETURN_IF_ERROR(wide ? generation->rows->Check(layer, wide_rows)
                       : generation->rows->Check(layer, rows));
  return generation;
}

}  // namespace engram
