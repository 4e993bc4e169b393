// Folds that are ended, or fail, at each call that they make; and what goes on beside one.
#include <spawn.h>
#include <sys/wait.h>

#include <climits>
#include <cstdlib>

#include "storage/disk/backup.h"
#include "storage/disk/disk_fold.h"
#include "tests/storage/disk/served_shard.h"
#include "tests/support/hooked_calls.h"

namespace engram {
namespace {

using Code = absl::StatusCode;
namespace fs = std::filesystem;

// Calls that are tried one by one: every one, but under a sanitizer, where each takes ten times as
// long.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kStep = 5;
#else
constexpr int kStep = 1;
#endif

constexpr char kFolder[] = "engram-fold";
constexpr char kBackup[] = "engram-backup";
constexpr char kDirectory[] = "ENGRAM_TEST_FOLD_DIRECTORY";
constexpr char kBase[] = "ENGRAM_TEST_FOLD_BASE";
constexpr char kAfter[] = "ENGRAM_TEST_FOLD_AFTER";

class DiskFoldFaultsTest : public ServedShard {
 protected:
  ~DiskFoldFaultsTest() override {
    Stop();
    hooked_calls.thread = nullptr;
    hooked_calls.kill = false;
    hooked_calls.error = 0;
    hooked_calls.before = nullptr;
    hooked_calls.before_read = nullptr;
    hooked_calls.free_bytes = -1;
  }

  // A directory in which `base_` can be retired, 1 being active, and nothing is open; where the
  // fold is the `folds`th after the import.
  std::string Prepared(int folds) {
    EXPECT_THAT(Import(), IsOk());
    base_ = 0;
    for (int i = 1; i < folds; ++i) {
      Change(base_, 2 - base_);
      base_ = 2 - base_;
      EXPECT_TRUE(Folded());
    }
    EXPECT_THAT(Publish(base_, 1), IsOk());
    EXPECT_THAT(generations_->Activate(digest_[1]), IsOk());
    Stop();
    return data_dir_;
  }
  void CopyFrom(const std::string& prepared) {
    Stop();
    data_dir_ = dir_.File("run");
    fs::remove_all(data_dir_);
    fs::copy(prepared, data_dir_, fs::copy_options::recursive);
  }
  void Hook(const char* thread, int after) {
    hooked_calls.after = after;
    hooked_calls.count = 0;
    hooked_calls.thread = thread;
  }
  // By a thread of its own, whose calls alone are hooked.
  absl::Status HookedBackUp(const std::string& backup) {
    absl::Status status;
    Hook(kBackup, INT_MAX);
    std::thread([&] {
      pthread_setname_np(pthread_self(), kBackup);
      status = BackUp(data_dir_, backup).status();
    }).join();
    hooked_calls.thread = nullptr;
    return status;
  }

  // A fold in a process of its own that is killed at that call; whether it was.
  bool KilledAt(int after) {
    setenv(kDirectory, data_dir_.c_str(), 1);
    setenv(kAfter, std::to_string(after).c_str(), 1);
    setenv(kBase, std::to_string(base_).c_str(), 1);
    char program[] = "/proc/self/exe", filter[] = "--gtest_filter=DiskFoldFaultsTest.DISABLED_Fold",
         disabled[] = "--gtest_also_run_disabled_tests", brief[] = "--gtest_brief=1";
    char* const args[] = {program, filter, disabled, brief, nullptr};
    pid_t child = 0;
    EXPECT_EQ(posix_spawn(&child, program, nullptr, nullptr, args, environ), 0);
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    const bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    EXPECT_TRUE(killed || (WIFEXITED(status) && WEXITSTATUS(status) == 0)) << status;
    return killed;
  }
  void ExpectWholeWhereverItIsKilled(int folds, int step) {
    const std::string prepared = Prepared(folds);
    int ahead = 0, calls = 0;
    for (;; calls += step) {
      SCOPED_TRACE(calls);
      CopyFrom(prepared);
      const bool killed = KilledAt(calls);
      ASSERT_THAT(Start(), IsOk());
      // The database may be ahead of what the catalogue said.
      ahead += killed && Files("delta-") == 0 && table_->digest == digest_[1];
      EXPECT_EQ(Held(), "1*");
      EXPECT_EQ(generations_->current()->active().base, digest_[base_]);
      ExpectRows();
      ASSERT_TRUE(Folded());
      ExpectRows();
      ASSERT_THAT(Start(), IsOk());
      EXPECT_EQ(table_->digest, digest_[1]);
      ExpectRows();
      EXPECT_TRUE(FilesAre("delta-", 0));
      EXPECT_EQ(Files("fold"), 0u);
      if (!killed || HasFailure()) break;
    }
    std::cout << calls << " calls, " << ahead << " ends behind the ingest" << std::endl;
    EXPECT_GT(calls, folds > 5 ? 50 : 20);  // with a merge, and without
    EXPECT_GE(ahead, kStep == 1 ? 1 : 0);
  }

  void ExpectServedWhereverItFails(int folds, int error) {
    const std::string prepared = Prepared(folds);
    for (int calls = 0;; calls += kStep) {
      SCOPED_TRACE(calls);
      CopyFrom(prepared);
      hooked_calls.error = error;
      Hook(kFolder, calls);
      log_ = "";
      ASSERT_THAT(Start(), IsOk());
      ASSERT_THAT(generations_->Retire(digest_[base_]), IsOk());
      const absl::Time deadline = absl::Now() + absl::Seconds(60);
      while (!Folded(absl::ZeroDuration()) && Said("stays in memory: ") == 0) {
        ASSERT_LT(absl::Now(), deadline);
        std::this_thread::yield();
      }
      const bool failed = hooked_calls.count > calls;
      EXPECT_EQ(Held(), "1*");
      ExpectRows();
      hooked_calls.after = INT_MAX;
      // The next change of what is held has it tried again.
      ASSERT_THAT(Publish(1, 2), IsOk());
      ASSERT_TRUE(Folded()) << log();
      EXPECT_EQ(Held(), "1*2");
      ExpectRows();
      EXPECT_EQ(ReadCatalogue(data_dir_ + "/catalogue")->generations[0].digest, digest_[1]);
      ASSERT_THAT(Start(), IsOk());
      EXPECT_EQ(table_->digest, digest_[1]);
      EXPECT_EQ(Held(), "1*2");
      ExpectRows();
      Stop();
      EXPECT_LE(Files("delta-"), 1u);
      if (!failed || HasFailure()) break;
    }
  }

  // How often the log says that.
  int Said(const std::string& what) {
    const std::string lines = log();
    int count = 0;
    for (size_t at = lines.find(what); at != std::string::npos; at = lines.find(what, at + 1)) {
      ++count;
    }
    return count;
  }
  bool AwaitSaid(const std::string& what, int times) {
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    while (Said(what) < times) {
      if (absl::Now() >= deadline) return false;
      std::this_thread::yield();
    }
    return true;
  }

  int base_ = 0;
};

// Not a test: what the others kill.
TEST_F(DiskFoldFaultsTest, DISABLED_Fold) {
  ASSERT_NE(getenv(kDirectory), nullptr);
  data_dir_ = getenv(kDirectory);
  hooked_calls.kill = true;
  Hook(kFolder, atoi(getenv(kAfter)));
  ASSERT_THAT(Start(), IsOk());
  ASSERT_THAT(generations_->Retire(digest_[atoi(getenv(kBase))]), IsOk());
  ASSERT_TRUE(Folded());
  Stop();
}

TEST_F(DiskFoldFaultsTest, AFoldThatIsKilledLeavesTheOldTableOrTheNew) {
  ExpectWholeWhereverItIsKilled(1, kStep);
}
TEST_F(DiskFoldFaultsTest, AFoldThatMergesFilesLeavesTheOldTableOrTheNew) {
  ExpectWholeWhereverItIsKilled(6, 3 * kStep);
}
TEST_F(DiskFoldFaultsTest, AFullDiskKeepsTheDelta) { ExpectServedWhereverItFails(1, ENOSPC); }
TEST_F(DiskFoldFaultsTest, AFullDiskKeepsTheDeltaWhenFilesAreMerged) {
  ExpectServedWhereverItFails(6, ENOSPC);
}
TEST_F(DiskFoldFaultsTest, AFailingDiskKeepsTheDelta) { ExpectServedWhereverItFails(1, EIO); }

TEST_F(DiskFoldFaultsTest, NothingIsWrittenWhereThereIsNoRoomForAll) {
  for (const int folds : {1, 6}) {
    Stop();
    data_dir_ = dir_.File(std::to_string(folds));
    Prepared(folds);
    Hook(kFolder, INT_MAX);
    hooked_calls.free_bytes = 10'000;
    log_ = "";
    ASSERT_THAT(Start(), IsOk());
    ASSERT_THAT(generations_->Retire(digest_[base_]), IsOk());
    ASSERT_TRUE(AwaitSaid("10000 bytes (0.00 GiB) are free there", 1));
    EXPECT_GT(
        Said(folds == 1 ? "folding a delta into the shard takes" : "merging the shard's files"), 0);
    EXPECT_EQ(hooked_calls.count, 0);
    ExpectRows();
    hooked_calls.free_bytes = -1;
    ASSERT_THAT(Start(), IsOk());
    ASSERT_TRUE(Folded());
    ExpectRows();
  }
}

// The database is at the first target, and the catalogue does not say so yet: the delta that leads
// there is not merged with the next one.
TEST_F(DiskFoldFaultsTest, ADeltaThatMayBeFoldedIsNotMerged) {
  const std::string prepared = Prepared(1);
  hooked_calls.error = ENOSPC;
  for (int calls = 0;; ++calls) {
    CopyFrom(prepared);
    log_ = "";
    Hook(kFolder, calls);
    ASSERT_THAT(Start(), IsOk());
    ASSERT_THAT(generations_->Retire(digest_[0]), IsOk());
    ASSERT_TRUE(AwaitSaid("stays in memory: ", 1)) << "no call is the catalogue's";
    if (ReadShardManifest(data_dir_ + "/rows")->digest == digest_[1]) break;
  }
  hooked_calls.free_bytes = 0;  // It is not folded again.
  hooked_calls.after = INT_MAX;
  ASSERT_THAT(Publish(1, 2), IsOk());
  ASSERT_THAT(generations_->Activate(digest_[2]), IsOk());
  ASSERT_THAT(generations_->Retire(digest_[1]), IsOk());
  for (int i = 0; i < 2; ++i) {  // What was tried before the retirement is over behind the first.
    const int said = Said("stays in memory: ");
    EXPECT_FALSE(Publish(0, 1).ok());  // It has the folding thread look again.
    ASSERT_TRUE(AwaitSaid("stays in memory: ", said + 1));
  }
  EXPECT_EQ(Files("delta-"), 2u);
  Stop();
  hooked_calls.free_bytes = -1;
  ASSERT_THAT(Start(), IsOk());
  ASSERT_TRUE(Folded());
  EXPECT_EQ(Held(), "2*");
  ExpectRows();
}

// Hot rows are read while the fold is under way, and put into the cache behind it.
TEST_F(DiskFoldFaultsTest, WarmingBringsNoRowBackThatAFoldHasChanged) {
  const std::string prepared = Prepared(1);
  ASSERT_THAT(Start(), IsOk());
  for (int i = 0; i < 3; ++i) ExpectRows();
  Stop();
  std::atomic<bool> folded{false};
  hooked_calls.before_read = [&, first = true]() mutable {
    if (!std::exchange(first, false)) return;
    const absl::Time limit = absl::Now() + absl::Milliseconds(500);
    while (!folded && absl::Now() < limit) std::this_thread::yield();
  };
  Hook("engram-warm", INT_MAX);
  ASSERT_THAT(Start(), IsOk());
  ASSERT_THAT(generations_->Retire(digest_[0]), IsOk());
  ASSERT_TRUE(Folded());
  folded = true;
  dynamic_cast<const DiskStore&>(*table_->rows).AwaitWarm();
  EXPECT_THAT(log(), testing::HasSubstr("rows that were hot before"));
  ExpectRows();
}

TEST_F(DiskFoldFaultsTest, ABackUpIsOfOneSideOfAFold) {
  const std::string prepared = Prepared(1);
  int calls = 1;
  for (int at = 0; at < calls; at += kStep) {
    SCOPED_TRACE(at);
    CopyFrom(prepared);
    ASSERT_THAT(Start(), IsOk());
    hooked_calls.before = [&](int count) {
      if (count != at) return;
      EXPECT_THAT(generations_->Retire(digest_[0]), IsOk());
      EXPECT_TRUE(Folded());
    };
    const std::string backup = dir_.File("backup"), restored = dir_.File("restored");
    fs::remove_all(backup);
    fs::remove_all(restored);
    ASSERT_THAT(HookedBackUp(backup), IsOk());
    if (at == 0) calls = hooked_calls.count;
    Stop();
    ASSERT_THAT(Restore(backup, restored), IsOk());
    data_dir_ = restored;
    ASSERT_THAT(Start(), IsOk());
    EXPECT_TRUE(generations_->current()->active().digest == digest_[1]);
    ExpectRows();
    if (HasFailure()) break;
  }
  EXPECT_GT(calls, 10);
}

TEST_F(DiskFoldFaultsTest, ABackUpDoesNotGoOnForEver) {
  ASSERT_THAT(Import(), IsOk());
  int at = 0;
  hooked_calls.before = [&](int count) {
    if (count % 6 != 0) return;  // A copy takes more calls.
    Change(at, (at + 1) % 3);
    EXPECT_TRUE(Folded());
    at = (at + 1) % 3;
  };
  EXPECT_THAT(HookedBackUp(dir_.File("backup")),
              StatusIs(Code::kAborted, "files of rows of " + data_dir_ + " changed"));
}

}  // namespace
}  // namespace engram
