// A delta: the rows in which one table differs from another of the same geometry, or a server's
// part of them.
//
// File, little-endian: 8 bytes "ENGRDELT"; u32 format version (1); u32 bytes of the header, its
// checksum included; 32 bytes digest of the base, 32 of the target; u64 low and high half of the
// base's sum S (proto/digest.h), of the target's, and of the change that this file's rows make;
// u32 row bytes; u32 layers; per layer u32 id, u32 0, u64 rows of the layer, u64 rows of it here;
// u32 CRC32C of all before. Then the rows, by layer as in the header and ascending: u64 row id; u64
// low and high half of what the row adds to the base's S; u32 CRC32C of the row; u32 CRC32C of the
// 28 bytes before; the row as served.
//
// What a row adds to the base's S tells a server of any shard whether it holds the delta's base;
// the change of all rows together takes the base's S to the target's, which no rows of another
// delta, missing or repeated ones do.
#ifndef ENGRAM_STORAGE_DELTA_FILE_H_
#define ENGRAM_STORAGE_DELTA_FILE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/digest.h"
#include "proto/sha256.h"

namespace engram {

struct DeltaLayer {
  uint32_t layer = 0;
  uint64_t rows = 0;     // of the layer
  uint64_t changed = 0;  // in this file
  bool operator==(const DeltaLayer&) const = default;
};

struct DeltaHeader {
  Sha256 base{};
  Sha256 target{};
  RowSum base_sum;
  RowSum target_sum;
  RowSum change;  // of this file's rows
  uint32_t row_bytes = 0;
  std::vector<DeltaLayer> layers;  // as the geometry's

  uint64_t changed() const;
  uint64_t record_bytes() const;
  // Whether all rows of the delta are here, not a part of them.
  bool whole() const;
  bool operator==(const DeltaHeader&) const = default;
};

// Longer headers are refused before they are read.
inline constexpr uint32_t kMaxDeltaHeaderBytes = 1 << 20;

std::string EncodeDeltaHeader(const DeltaHeader& header);
// Of the front of a delta's bytes; `bytes` gets the header's. InvalidArgument: no delta, or of
// another format version; DataLoss: cut off or damaged. `name` is what messages call it.
absl::StatusOr<DeltaHeader> DecodeDeltaHeader(absl::string_view delta, absl::string_view name,
                                              size_t& bytes);

struct DeltaRow {
  size_t layer_index = 0;
  uint64_t row = 0;
  RowSum before;  // what the row adds to the base's sum
  uint32_t checksum = 0;
  const uint8_t* bytes = nullptr;  // [row_bytes]; borrowed
};

// A row of a delta as it is in the file, behind `out`.
void AppendDeltaRecord(const DeltaRow& row, uint32_t row_bytes, std::string& out);

// Holds records, as they come, against a header: order, ids, checksums, number and sum. Errors are
// DataLoss and name the row.
class DeltaChecker {
 public:
  // Borrows both.
  DeltaChecker(const DeltaHeader& header, absl::string_view name) : header_(header), name_(name) {}

  // The next record, [header.record_bytes()].
  absl::StatusOr<DeltaRow> Take(const uint8_t* record);
  // After the last one.
  absl::Status Finish() const;

 private:
  absl::Status Error(uint64_t row, absl::string_view what) const;

  const DeltaHeader& header_;
  const std::string name_;
  size_t layer_ = 0;
  uint64_t taken_ = 0;
  uint64_t taken_of_layer_ = 0;
  uint64_t last_row_ = 0;
  RowSum change_;
};

// Reads a delta from its front to its end. Belongs to one thread.
class DeltaReader {
 public:
  // As DecodeDeltaHeader; NotFound and the like: the system's code. DataLoss: the file is not as
  // long as its header says.
  static absl::StatusOr<std::unique_ptr<DeltaReader>> Open(const std::string& path);
  ~DeltaReader();

  const DeltaHeader& header() const { return header_; }
  const std::string& path() const { return path_; }

  // The next row, whose bytes stay until the next call; none at the end, when all rows were found
  // to be those of the header. DataLoss as DeltaChecker.
  absl::StatusOr<std::optional<DeltaRow>> Next();

 private:
  DeltaReader(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  absl::Status Fill();

  const std::string path_;
  const int fd_;
  DeltaHeader header_;
  std::optional<DeltaChecker> checker_;
  uint64_t left_ = 0;   // rows
  std::string buffer_;  // records that were read
  size_t at_ = 0;       // into it
};

// Writes a delta beside its place and moves it there when it is whole.
class DeltaWriter {
 public:
  // `header`: its `changed` numbers and `change` are counted here. The system's code where the file
  // cannot be made.
  static absl::StatusOr<std::unique_ptr<DeltaWriter>> Create(const std::string& path,
                                                             DeltaHeader header);
  ~DeltaWriter();  // removes what was not finished

  // Rows come by layer and ascending: InvalidArgument otherwise. The system's code (a full disk).
  absl::Status Add(const DeltaRow& row);
  // Durable and in its place when it returns OK.
  absl::Status Finish();

  const DeltaHeader& header() const { return header_; }

 private:
  DeltaWriter(std::string path, std::string temporary, int fd, DeltaHeader header)
      : path_(std::move(path)),
        temporary_(std::move(temporary)),
        fd_(fd),
        header_(std::move(header)) {}
  absl::Status Flush();

  const std::string path_;
  const std::string temporary_;
  const int fd_;
  DeltaHeader header_;
  std::string buffer_;
  uint64_t written_ = 0;
  size_t last_layer_ = 0;
  std::optional<uint64_t> last_row_;
};

}  // namespace engram

#endif  // ENGRAM_STORAGE_DELTA_FILE_H_
