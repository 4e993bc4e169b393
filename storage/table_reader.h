// Rows straight from a checkpoint's files, in the served layout.
#ifndef ENGRAM_STORAGE_TABLE_READER_H_
#define ENGRAM_STORAGE_TABLE_READER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/checkpoint.h"

namespace engram {

// Reads by pread, so any number of threads may read at once.
class TableReader {
 public:
  // Opens the table files. Borrows `checkpoint`, which must outlive the reader. DataLoss: a file is
  // no longer the one whose header the checkpoint has read.
  static absl::StatusOr<std::unique_ptr<TableReader>> Open(const Checkpoint& checkpoint);
  ~TableReader();

  // Packs rows [begin, begin + count) of the layer at `layer_index` (its place in
  // Geometry::layers()) into `out` [count, row_bytes]. The range must lie within the layer.
  // DataLoss naming file and tensor where the file ends early; InvalidArgument naming the row where
  // an F32 scale is not a power of two that ue8m0 holds; the system's code where it fails.
  absl::Status Read(size_t layer_index, uint64_t begin, uint64_t count, uint8_t* out) const;

  // The first row of [begin, end) of which a byte may be other than zero; `end` where all of them
  // lie in holes of their files (lseek SEEK_DATA; a file system without it has no holes).
  uint64_t SkipHoles(size_t layer_index, uint64_t begin, uint64_t end) const;

  // DataLoss naming the file unless all are as they were when their headers were read.
  absl::Status CheckFiles() const;

 private:
  explicit TableReader(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  absl::Status ReadField(const RowField& field, uint64_t begin, uint64_t count, uint8_t* out) const;

  const Checkpoint& checkpoint_;
  std::map<std::string, int> fds_;  // owned, by file
};

}  // namespace engram

#endif  // ENGRAM_STORAGE_TABLE_READER_H_
