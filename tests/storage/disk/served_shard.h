// Shards on disk that change, for tests: three tables, each with some rows of the one before
// changed, the deltas between them, and a server's data directory.
#ifndef ENGRAM_TESTS_STORAGE_DISK_SERVED_SHARD_H_
#define ENGRAM_TESTS_STORAGE_DISK_SERVED_SHARD_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <mutex>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/crc32c.h"
#include "storage/delta.h"
#include "storage/delta_file.h"
#include "storage/disk/disk_store.h"
#include "storage/disk/disk_table.h"
#include "storage/generations.h"
#include "storage/overlay_store.h"
#include "storage/sidecar.h"
#include "storage/table_digest.h"
#include "tests/support/changed_checkpoint.h"
#include "tests/support/status_matchers.h"

namespace engram {

class ServedShard : public ::testing::Test {
 protected:
  static constexpr int kTables = 3;
  static constexpr size_t kRowBytes = 33;  // 108 rows to a group

  ServedShard() {
    TinyCheckpoint tiny;
    tiny.head_dim = 32;
    tiny.bucket_floor = 300;
    std::filesystem::create_directory(checkpoint_[0]);
    tiny.WriteOneFile(checkpoint_[0]);
    WriteChanged(checkpoint_[0], checkpoint_[1], {{0, 3}, {0, 4}, {0, 700}, {1, 0}});
    WriteChanged(checkpoint_[1], checkpoint_[2], {{0, 4}, {0, 5}, {1, 900}});
    for (int i = 0; i < kTables; ++i) {
      Checkpoint checkpoint = Checkpoint::Open(checkpoint_[i]).value();
      const Sidecar sidecar = ComputeSidecar(checkpoint, 1, nullptr).value();
      EXPECT_THAT(WriteSidecar(checkpoint.sidecar_path(), sidecar), IsOk());
      digest_[i] = sidecar.digest;
      LoadOptions options;
      options.checkpoint = checkpoint_[i];
      options.threads = 1;
      const Table table = LoadTable(options).value();
      ranges_ = table.rows->ranges();
      EXPECT_THAT(RowsOf(*table.rows, expected_[i]), IsOk());
    }
    for (int from = 0; from < kTables; ++from) {
      for (int to = 0; to < kTables; ++to) {
        if (from == to) continue;
        EXPECT_THAT(WriteDelta({checkpoint_[from], checkpoint_[to], Delta(from, to), 1, nullptr}),
                    IsOk());
      }
    }
  }

  std::string Delta(int from, int to) const { return dir_.File(absl::StrCat("d", from, to)); }
  LoadOptions Options() {
    LoadOptions options;
    options.store = StoreKind::kRocksDb;
    options.memory_budget = 100'000;  // less than it takes to be in memory whole
    options.threads = 1;
    options.log = [this](absl::string_view line) {
      const std::lock_guard<std::mutex> lock(log_mutex_);
      absl::StrAppend(&log_, line, "\n");
    };
    return options;
  }
  std::string log() {
    const std::lock_guard<std::mutex> lock(log_mutex_);
    return log_;
  }
  // A server's start, or its restart. Without a checkpoint: from what the directory has.
  absl::Status Start(const LoadOptions& options) {
    generations_.reset();
    table_.reset();
    auto table = OpenDiskTable(options, {data_dir_, 2, false});
    if (!table.ok()) return table.status();
    table_ = std::make_shared<const Table>(*std::move(table));
    auto opened = Generations::Open(table_, data_dir_, options.log);
    if (!opened.ok()) return opened.status();
    generations_ = *std::move(opened);
    return absl::OkStatus();
  }
  absl::Status Start() { return Start(Options()); }
  absl::Status Import() {
    LoadOptions options = Options();
    options.checkpoint = checkpoint_[0];
    return Start(options);
  }
  void Stop() {
    generations_.reset();
    table_.reset();
  }

  absl::Status Publish(int from, int to) {
    const std::string bytes = ReadTestFile(Delta(from, to));
    size_t header_bytes = 0;
    const DeltaHeader header = DecodeDeltaHeader(bytes, "", header_bytes).value();
    const absl::string_view all(bytes);
    return generations_->Publish(
        {header.target, all.substr(0, header_bytes), 0, all.substr(header_bytes), true});
  }
  // From one table to another, of which the first is retired.
  void Change(int from, int to) {
    ASSERT_THAT(Publish(from, to), IsOk());
    ASSERT_THAT(generations_->Activate(digest_[to]), IsOk());
    ASSERT_THAT(generations_->Retire(digest_[from]), IsOk());
  }
  // Whether the lowest of all that is held has no overlay, at last.
  bool Folded(absl::Duration limit = absl::Seconds(20)) {
    const absl::Time deadline = absl::Now() + limit;
    while (!OverlaysOf(*generations_->current()->held()[0]->rows).empty()) {
      if (absl::Now() >= deadline) return false;
      std::this_thread::yield();
    }
    return true;
  }

  // All rows of all layers, one behind the other, held against their checksums.
  absl::Status RowsOf(const RowStore& store, std::string& all) const {
    all.clear();
    for (const RowRange& range : ranges_) {
      std::vector<uint32_t> ids(range.rows()), sums(range.rows());
      std::iota(ids.begin(), ids.end(), static_cast<uint32_t>(range.begin));
      std::string rows(ids.size() * kRowBytes, '\0');
      const absl::Status status =
          store.Gather(range.layer, std::span<const uint32_t>(ids),
                       reinterpret_cast<uint8_t*>(rows.data()), sums.data());
      if (!status.ok()) return status;
      for (size_t i = 0; i < ids.size(); ++i) {
        if (Crc32c(rows.data() + i * kRowBytes, kRowBytes) == sums[i]) continue;
        return absl::DataLossError(absl::StrCat("row ", ids[i]));
      }
      all += rows;
    }
    return absl::OkStatus();
  }
  // Every row of every generation held is that of a fresh load of its table.
  void ExpectRows() {
    const auto set = generations_->current();
    for (const auto& held : set->held()) {
      std::string rows;
      EXPECT_THAT(RowsOf(*held->rows, rows), IsOk());
      EXPECT_EQ(rows, expected_[TableOf(held->digest)]) << TableOf(held->digest);
      for (const RowRange& range : ranges_) EXPECT_THAT(held->rows->Verify(range), IsOk());
    }
  }
  size_t TableOf(const Sha256& digest) const {
    return static_cast<size_t>(std::find(digest_, digest_ + kTables, digest) - digest_);
  }
  // What is held, by table; the active one has a `*`.
  std::string Held() {
    std::string text;
    const auto set = generations_->current();
    for (size_t i = 0; i < set->held().size(); ++i) {
      absl::StrAppend(&text, TableOf(set->held()[i]->digest), set->IsActive(i) ? "*" : "");
    }
    return text;
  }
  // Files in the data directory that begin like that.
  size_t Files(const std::string& prefix) {
    size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(data_dir_)) {
      count += entry.path().filename().string().starts_with(prefix);
    }
    return count;
  }
  // Whether there are so many, at last: a delta goes behind what is served.
  bool FilesAre(const std::string& prefix, size_t count) {
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    while (Files(prefix) != count) {
      if (absl::Now() >= deadline) return false;
      std::this_thread::yield();
    }
    return true;
  }

  const TempDir dir_;
  const std::string checkpoint_[kTables] = {dir_.File("t0"), dir_.File("t1"), dir_.File("t2")};
  std::string data_dir_ = dir_.File("data");
  Sha256 digest_[kTables];
  std::vector<RowRange> ranges_;
  std::string expected_[kTables];
  std::mutex log_mutex_;
  std::string log_;
  std::shared_ptr<const Table> table_;
  std::unique_ptr<Generations> generations_;
};

}  // namespace engram

#endif  // ENGRAM_TESTS_STORAGE_DISK_SERVED_SHARD_H_
