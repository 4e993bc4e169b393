#include "storage/disk/part_check.h"

#include "absl/strings/str_cat.h"
#include "proto/crc32c.h"

namespace engram {

PartCheck::PartCheck(const RowGroups& groups, const RowRange& rows)
    : groups_(groups),
      rows_(rows),
      group_(groups.GroupOf(rows.begin)),
      last_group_(groups.GroupOf(rows.end - 1)) {}

absl::Status PartCheck::Take(absl::string_view key, absl::string_view value, VisitRow visit) {
  const RowRange held{rows_.layer, std::max(rows_.begin, groups_.FirstRow(group_)),
                      std::min(rows_.end, groups_.EndRow(group_))};
  if (key != GroupKey(rows_.layer, group_).view() || value.size() != groups_.value_bytes()) {
    return absl::DataLossError(absl::StrCat(ToString(held), " are missing in the database"));
  }
  for (uint64_t row = held.begin; row < held.end; ++row) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(value.data()) + groups_.RowAt(row);
    const uint32_t checksum = groups_.Checksum(value, row);
    if (Crc32c(bytes, groups_.row_bytes()) != checksum) {
      return absl::DataLossError(absl::StrCat("row ", row, " of layer ", rows_.layer,
                                              " differs in the database from its checksum"));
    }
    sum_.AddRow(rows_.layer, row, bytes, groups_.row_bytes());
    visit(row, bytes, checksum);
  }
  ++group_;
  return absl::OkStatus();
}

}  // namespace engram
