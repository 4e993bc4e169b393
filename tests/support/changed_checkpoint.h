// Checkpoints that differ from another in some rows.
#ifndef ENGRAM_TESTS_SUPPORT_CHANGED_CHECKPOINT_H_
#define ENGRAM_TESTS_SUPPORT_CHANGED_CHECKPOINT_H_

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "storage/checkpoint.h"
#include "tests/support/checkpoint_builder.h"
#include "tests/support/status_matchers.h"

namespace engram {

// Writes `to`, a copy of the checkpoint `from` (V4.1's layout) in which a value of each of `rows`
// (layer index, row) has another lowest bit.
inline void WriteChanged(const std::string& from, const std::string& to,
                         const std::vector<std::pair<size_t, uint64_t>>& rows) {
  std::filesystem::copy(from, to, std::filesystem::copy_options::recursive);
  std::filesystem::remove(to + "/engram.sidecar");
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Checkpoint::Open(to));
  std::map<std::string, std::string> files;  // contents by path
  for (const auto& [layer_index, row] : rows) {
    const RowField& field = checkpoint.layers()[layer_index].fields[0];
    const TensorPlace& weight = field.pieces[0].place;
    std::string& bytes = files[to + "/" + weight.file];
    if (bytes.empty()) bytes = ReadTestFile(to + "/" + weight.file);
    char& byte = bytes[weight.file_offset + row * field.file_row_bytes + 5];
    byte = static_cast<char>(byte ^ 1);
  }
  for (const auto& [path, bytes] : files) WriteTestFile(path, bytes);
}

}  // namespace engram

#endif  // ENGRAM_TESTS_SUPPORT_CHANGED_CHECKPOINT_H_
