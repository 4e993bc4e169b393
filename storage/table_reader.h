// Rows straight from a checkpoint's files, in the served layout.
#ifndef ENGRAM_STORAGE_TABLE_READER_H_
#define ENGRAM_STORAGE_TABLE_READER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/checkpoint.h"

namespace engram {

// Reads by pread, so any number of threads may read at once.
class TableReader {
 public:
  // Opens the table files. Borrows `checkpoint`, which must outlive the reader.
  static absl::StatusOr<std::unique_ptr<TableReader>> Open(const Checkpoint& checkpoint);
  ~TableReader();

  // Packs rows [begin, begin + count) of the layer at `layer_index` (its place in
  // Geometry::layers()) into `out` [count, row_bytes]. The range must lie within the layer.
  // DataLoss naming file and tensor where the file ends early; the system's code where it fails.
  absl::Status Read(size_t layer_index, uint64_t begin, uint64_t count, uint8_t* out) const;

 private:
  struct Source {
    int weight_fd = -1;
    int scale_fd = -1;  // -1: the layout has no scales
  };
  explicit TableReader(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  const Checkpoint& checkpoint_;
  std::vector<int> fds_;         // owned, one per table file
  std::vector<Source> sources_;  // per layer
};

}  // namespace engram

#endif  // ENGRAM_STORAGE_TABLE_READER_H_
