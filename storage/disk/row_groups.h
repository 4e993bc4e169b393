// How rows lie in a shard's database: in groups that fill a block of 4 KiB each, so that the index
// has one entry per group and a row costs one aligned read.
//
// Groups are cut anew at every block of the sidecar's sums (65,536 rows), so that a group belongs
// to one block. A group's value: `rows` rows, then the CRC32C of each, little-endian; rows that the
// shard does not hold are zeros and their checksum 0. Its key: 'r', layer u16, group u64, both
// big-endian, so that keys are in the order of rows.
#ifndef ENGRAM_STORAGE_DISK_ROW_GROUPS_H_
#define ENGRAM_STORAGE_DISK_ROW_GROUPS_H_

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "absl/strings/string_view.h"
#include "proto/digest.h"
#include "proto/row_layout.h"

namespace engram {

inline constexpr uint32_t kDiskBlockBytes = 4096;

// Layers and groups as bytes.
class GroupKey {
 public:
  GroupKey(uint32_t layer, uint64_t group) {
    bytes_[0] = 'r';
    bytes_[1] = static_cast<char>(layer >> 8);
    bytes_[2] = static_cast<char>(layer);
    for (size_t i = 0; i < 8; ++i) bytes_[3 + i] = static_cast<char>(group >> (56 - 8 * i));
  }
  absl::string_view view() const { return {bytes_.data(), bytes_.size()}; }

 private:
  std::array<char, 11> bytes_;
};

// Pure arithmetic on a row layout.
class RowGroups {
 public:
  explicit RowGroups(const RowLayout& layout)
      : row_bytes_(layout.row_bytes()),
        rows_(std::max<uint32_t>(1, kRoom / (layout.row_bytes() + kChecksumBytes))) {}

  uint32_t row_bytes() const { return row_bytes_; }
  uint32_t rows() const { return rows_; }  // of a group
  size_t value_bytes() const { return size_t{rows_} * (row_bytes_ + kChecksumBytes); }

  // Ascending with the rows; one more per group within a block.
  uint64_t GroupOf(uint64_t row) const {
    return (row / kBlockRows) << 16 | (row % kBlockRows) / rows_;
  }
  uint64_t FirstRow(uint64_t group) const {
    return (group >> 16) * kBlockRows + (group & 0xFFFF) * rows_;
  }
  uint64_t EndRow(uint64_t group) const {
    return std::min(FirstRow(group) + rows_, ((group >> 16) + 1) * kBlockRows);
  }

  // A row's place in its group's value, and its checksum's.
  size_t RowAt(uint64_t row) const { return row % kBlockRows % rows_ * row_bytes_; }
  size_t ChecksumAt(uint64_t row) const {
    return size_t{rows_} * row_bytes_ + row % kBlockRows % rows_ * kChecksumBytes;
  }
  uint32_t Checksum(absl::string_view value, uint64_t row) const {
    uint32_t checksum;
    std::memcpy(&checksum, value.data() + ChecksumAt(row), sizeof(checksum));
    return checksum;
  }

 private:
  static constexpr uint32_t kChecksumBytes = sizeof(uint32_t);
  // Of a block of the database, beside its keys and its own checksum.
  static constexpr uint32_t kRoom = kDiskBlockBytes - 64;

  uint32_t row_bytes_;
  uint32_t rows_;
};

}  // namespace engram

#endif  // ENGRAM_STORAGE_DISK_ROW_GROUPS_H_
