// Tables whose rows all peers hold, made for a benchmark and removed after it.
#ifndef ENGRAM_TESTS_BENCH_PEER_TABLES_H_
#define ENGRAM_TESTS_BENCH_PEER_TABLES_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace engram::bench {

// A directory that is removed with all that is in it. Movable.
class ScratchDirectory {
 public:
  // Below `parent`; empty: below TMPDIR or /tmp.
  static absl::StatusOr<ScratchDirectory> Create(const std::string& parent);
  ScratchDirectory(ScratchDirectory&& other) noexcept : path_(std::move(other.path_)) {
    other.path_.clear();
  }
  ScratchDirectory& operator=(ScratchDirectory&&) = delete;
  ~ScratchDirectory();

  const std::string& path() const { return path_; }

 private:
  explicit ScratchDirectory(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

// From here on SIGINT and SIGTERM remove all scratch directories and end the process. Before the
// first thread is started: they inherit that the signals are blocked.
void RemoveScratchOnSignals();

// Writes a checkpoint with sidecar to `directory`, whose layer kPeerLayer has at least `rows` rows,
// and beside it `directory`.map: a shard map whose shard kPeerShard holds that layer alone. With a
// tokenizer.json, unless `tokenizer` is empty.
absl::Status MakePeerTable(const std::string& directory, uint64_t rows,
                           const std::string& tokenizer = "");

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_PEER_TABLES_H_
