// Groups as they are read back, held against what they must be.
#ifndef ENGRAM_STORAGE_DISK_PART_CHECK_H_
#define ENGRAM_STORAGE_DISK_PART_CHECK_H_

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "proto/digest.h"
#include "proto/range_map.h"
#include "storage/disk/row_groups.h"

namespace engram {

// Takes the groups of rows of one block, in order, and adds their rows up.
class PartCheck {
 public:
  // `rows` must lie within one block of the sidecar's sums.
  PartCheck(const RowGroups& groups, const RowRange& rows);

  // Called with each row of the part; `bytes` [row_bytes].
  using VisitRow = absl::FunctionRef<void(uint64_t row, const uint8_t* bytes, uint32_t checksum)>;

  // The next group. DataLoss naming the rows: another key, another size, or a row that differs from
  // its checksum. Not after done().
  absl::Status Take(absl::string_view key, absl::string_view value, VisitRow visit);

  bool done() const { return group_ > last_group_; }
  const RowRange& rows() const { return rows_; }
  const RowSum& sum() const { return sum_; }  // of the rows taken

 private:
  const RowGroups groups_;
  const RowRange rows_;
  uint64_t group_;  // that comes next
  const uint64_t last_group_;
  RowSum sum_;
};

}  // namespace engram

#endif  // ENGRAM_STORAGE_DISK_PART_CHECK_H_
