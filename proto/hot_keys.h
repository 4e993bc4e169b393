// The n-grams that clients' caches hold, by their row ids: what another client's cache can start
// with, whoever gave the ids.
#ifndef ENGRAM_PROTO_HOT_KEYS_H_
#define ENGRAM_PROTO_HOT_KEYS_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/sha256.h"

namespace engram {

struct HotKeys {
  // The rows of some heads of one n-gram, in columns from `column` on of a layer.
  struct Key {
    uint32_t layer = 0;   // id
    uint32_t column = 0;  // of the first row
    uint32_t count = 0;   // how often it was asked for of late
    std::vector<uint64_t> rows;
    bool operator==(const Key&) const = default;
  };
  Sha256 digest{};        // of the table whose rows they are
  std::vector<Key> keys;  // the most frequent first

  bool operator==(const HotKeys&) const = default;
};

// What several clients hold, counts added up: the `most` that were asked for most; of those as
// frequent, in the order of layer, column and rows. InvalidArgument: none, or of several tables.
absl::StatusOr<HotKeys> MergeHotKeys(std::span<const HotKeys> parts, size_t most);

// Whether the file is one of these, by how it begins. As ReadFile.
absl::StatusOr<bool> IsHotKeysFile(const std::string& path);

// A file of them, little-endian:
//   8 bytes "ENGRHOTK", u32 version 1, 32 digest, u64 keys, u32 CRC32C of all that,
//   of each key u32 layer, u32 column, u32 count, u32 rows, u64 row ids; u32 CRC32C of the keys
absl::Status WriteHotKeys(const std::string& path, const HotKeys& hot);
// InvalidArgument naming the file: no such file's form, another version, a size out of bounds.
// DataLoss: a checksum that does not fit. Else as ReadFile.
absl::StatusOr<HotKeys> ReadHotKeys(const std::string& path);

}  // namespace engram

#endif  // ENGRAM_PROTO_HOT_KEYS_H_
