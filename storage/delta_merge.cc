#include "storage/delta_merge.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "storage/delta_file.h"

namespace engram {
namespace {

using Place = std::pair<size_t, uint64_t>;

// Where a row stands among all rows; behind all of them where there is none.
Place PlaceOf(const std::optional<DeltaRow>& row) {
  return row.has_value() ? Place{row->layer_index, row->row} : Place{SIZE_MAX, 0};
}

}  // namespace

absl::Status MergeDeltas(const std::string& first, const std::string& second,
                         const std::string& out) {
  ASSIGN_OR_RETURN(const auto lower, DeltaReader::Open(first));
  ASSIGN_OR_RETURN(const auto upper, DeltaReader::Open(second));
  if (upper->header().base != lower->header().target ||
      upper->header().row_bytes != lower->header().row_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(second, " is not on the target of ", first));
  }
  DeltaHeader header = lower->header();
  header.target = upper->header().target;
  header.target_sum = upper->header().target_sum;
  const uint32_t row_bytes = header.row_bytes;
  ASSIGN_OR_RETURN(const auto writer, DeltaWriter::Create(out, std::move(header)));
  ASSIGN_OR_RETURN(std::optional<DeltaRow> below, lower->Next());
  ASSIGN_OR_RETURN(std::optional<DeltaRow> above, upper->Next());
  while (below.has_value() || above.has_value()) {
    const Place low = PlaceOf(below), high = PlaceOf(above);
    DeltaRow row = high <= low ? *above : *below;
    if (low <= high) row.before = below->before;
    RowSum after;
    after.AddRow(writer->header().layers[row.layer_index].layer, row.row, row.bytes, row_bytes);
    if (after != row.before) RETURN_IF_ERROR(writer->Add(row));
    if (low <= high) {
      ASSIGN_OR_RETURN(below, lower->Next());
    }
    if (high <= low) {
      ASSIGN_OR_RETURN(above, upper->Next());
    }
  }
  return writer->Finish();
}

}  // namespace engram
