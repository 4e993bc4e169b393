// What an arena file says of itself.
#ifndef ENGRAM_STORAGE_ARENA_HEADER_H_
#define ENGRAM_STORAGE_ARENA_HEADER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/range_map.h"
#include "proto/sha256.h"

namespace engram {

inline constexpr uint64_t kHugePage = uint64_t{2} << 20;

inline uint64_t AlignUp(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

// Which rows of which table.
struct ArenaContents {
  Sha256 digest{};  // covers geometry, row layout and token map
  uint32_t row_bytes = 0;
  std::vector<RowRange> ranges;  // sorted by (layer, begin)

  bool operator==(const ArenaContents&) const = default;
};

enum class ArenaState { kLoading = 1, kComplete = 2, kDamaged = 3 };

struct ArenaHeader {
  ArenaState state = ArenaState::kLoading;
  ArenaContents contents;
  // Places in the file: rows one behind the other, then their CRC32C, little-endian.
  uint64_t rows_offset = 0;
  uint64_t checksums_offset = 0;

  // With the places that an arena of these contents is made with: rows and checksums begin at
  // multiples of 2 MiB, those of less than 2 MiB at multiples of 4 KiB.
  static ArenaHeader For(ArenaContents contents);

  // Where the checksums end.
  uint64_t end() const;

  // The header as it stands at the front of the file (the frame of storage/file_frame.h, magic
  // "ENGRARNA", around an engram.storage.v1.ArenaHeader message): as long for every state.
  std::string Serialize() const;
  // InvalidArgument: not an arena, or of another format version. DataLoss: damaged, or places that
  // cannot be. Messages name `path`. `front`: the file's first bytes, or all of it.
  static absl::StatusOr<ArenaHeader> Parse(absl::string_view front, const std::string& path);
};

// "engram-<16 digits of the digest>-<8 of a hash of the ranges>.arena": one file for each table and
// shard, whatever directory they share.
std::string ArenaFileName(const ArenaContents& contents);

}  // namespace engram

#endif  // ENGRAM_STORAGE_ARENA_HEADER_H_
