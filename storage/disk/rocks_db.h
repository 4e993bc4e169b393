// RocksDB, as far as a shard needs it: sorted files written apart, taken into a database at once,
// and read. The only home of its headers is the source file.
#ifndef ENGRAM_STORAGE_DISK_ROCKS_DB_H_
#define ENGRAM_STORAGE_DISK_ROCKS_DB_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace engram {

// Codes of everything here: DataLoss for what is damaged or gone, ResourceExhausted for a full
// disk, Unavailable for any other failure to read or write. Messages name the file where RocksDB
// does.

// A sorted file under way. One value to a block of 4 KiB, whole blocks aligned, checksums in each.
class RocksFileWriter {
 public:
  static absl::StatusOr<std::unique_ptr<RocksFileWriter>> Create(const std::string& path);
  ~RocksFileWriter();

  absl::Status Put(absl::string_view key, absl::string_view value);  // keys ascend
  absl::Status Finish();                                             // on the disk, synced

 private:
  struct Impl;
  explicit RocksFileWriter(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

using VisitValue = absl::FunctionRef<absl::Status(absl::string_view key, absl::string_view value)>;

// Every value of a file, in the order of keys, each checked against its block's checksum. Ends at
// the first failure, of the visitor's too.
absl::Status ReadRocksFile(const std::string& path, VisitValue visit);

// Creates the database where there is none, and takes all the files into it, or none of them: they
// are moved. Their keys must not overlap; they go before those that are there, in a level of their
// own. A RocksDb that is open goes on reading what it was opened on, also after a merge.
absl::Status IngestRocksFiles(const std::string& database, const std::vector<std::string>& files);

// Merges all files into the lowest level, at no more than kMergeBytesPerSecond. The disk must have
// room for all of them once more until then. Cancelled: `stop`, asked now and then, said so.
absl::Status MergeRocksFiles(const std::string& database, absl::FunctionRef<bool()> stop);
inline constexpr int64_t kMergeBytesPerSecond = 100'000'000;

// A database opened for reading. Any number of threads.
class RocksDb {
 public:
  // NotFound: there is none. A file that is missing or damaged fails the reads of its values alone.
  // `direct`: reads go past the page cache.
  static absl::StatusOr<std::unique_ptr<RocksDb>> Open(const std::string& database, bool direct);
  ~RocksDb();

  // NotFound: no such key. Else as above.
  absl::StatusOr<std::string> Get(absl::string_view key) const;

  // One read per key, one after the other; keys must ascend. visit(i, value or why not); a value
  // that is not there is DataLoss here.
  using VisitRead = absl::FunctionRef<void(size_t i, const absl::StatusOr<absl::string_view>&)>;
  void Read(std::span<const absl::string_view> keys, VisitRead visit) const;

  // Values of keys in [begin, end), read ahead. Ends at the first failure, of the visitor's too.
  absl::Status Scan(absl::string_view begin, absl::string_view end, VisitValue visit) const;

  // Memory that the files' indexes take, which stay there.
  uint64_t index_bytes() const;
  uint64_t file_bytes() const;
  // Whether the next file that overlaps others would find no level free for it alone.
  bool crowded() const;
  uint64_t read_bytes() const;  // of values, by Get and Read, since it was opened

 private:
  struct Impl;
  explicit RocksDb(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace engram

#endif  // ENGRAM_STORAGE_DISK_ROCKS_DB_H_
