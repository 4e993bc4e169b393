// Every peer that the benchmark measures gives every row, in its place, or says why not.
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <memory>
#include <ostream>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "storage/synth_rows.h"
#include "tests/bench/batch_run.h"
#include "tests/bench/peers/peer.h"
#include "tests/support/checkpoint_builder.h"
#include "tests/support/status_matchers.h"

namespace engram::bench {
namespace {

constexpr uint64_t kRows = 20'000;

struct PeerCase {
  std::string name;
  MakePeer make;
};

std::ostream& operator<<(std::ostream& out, const PeerCase& peer) { return out << peer.name; }

// The first core that this process may use, and the last.
PeerSetup SmallSetup(const TempDir& directory) {
  cpu_set_t cores;
  sched_getaffinity(0, sizeof(cores), &cores);
  PeerSetup setup;
  setup.server_core = -1;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (!CPU_ISSET(static_cast<size_t>(core), &cores)) continue;
    if (setup.server_core < 0) setup.server_core = core;
    setup.client_core = core;
  }
  setup.directory = directory.path();
  setup.rows = kRows;
  return setup;
}

// Random ids, the first and the last row among them, and one twice in a row.
std::vector<int64_t> Ids() {
  std::mt19937_64 random(1);
  std::vector<int64_t> ids(1 << 15);
  for (int64_t& id : ids) id = static_cast<int64_t>(random() % kRows);
  ids[0] = 0;
  ids[1] = kRows - 1;
  ids[2] = kRows - 1;
  return ids;
}

bool RowsAreRight(std::span<const int64_t> ids, const uint8_t* rows) {
  std::vector<uint8_t> right(kSynthRowBytes);
  for (const int64_t id : ids) {
    SynthRow(kPeerSeed, kPeerLayer, static_cast<uint64_t>(id), right.data());
    if (!std::equal(right.begin(), right.end(), rows)) return false;
    rows += kSynthRowBytes;
  }
  return true;
}

class EveryPeer : public testing::TestWithParam<PeerCase> {
 protected:
  void SetUp() override { ASSERT_OK_AND_ASSIGN(peer_, GetParam().make(SmallSetup(directory_))); }

  // Every batch is looked at, those too that come after the time.
  BatchRunOptions Options(uint32_t batch, uint32_t depth, absl::Duration time) {
    const auto check = [this](std::span<const int64_t> ids, const uint8_t* rows) {
      ++seen_;
      return RowsAreRight(ids, rows);
    };
    return {ids_, batch, depth, kSynthRowBytes, time, check};
  }

  void ExpectRightRows(uint32_t batch, uint32_t depth) {
    SCOPED_TRACE(testing::Message() << batch << " rows, depth " << depth);
    seen_ = 0;
    BatchRun run(Options(batch, depth, absl::Milliseconds(40)));
    ASSERT_THAT(peer_->Ask(run), IsOk());
    EXPECT_EQ(run.in_flight(), 0u);
    EXPECT_EQ(run.wrong_batches(), 0u);
    EXPECT_GT(seen_, 0);
  }

  const TempDir directory_;  // outlives the peer
  std::vector<int64_t> ids_ = Ids();
  std::unique_ptr<Peer> peer_;
  int seen_ = 0;  // batches
};

TEST_P(EveryPeer, GivesEveryRowInItsPlace) {
  for (const uint32_t batch : {1u, 16u, 512u, 4096u}) {
    for (const uint32_t depth : {1u, 4u}) ExpectRightRows(batch, depth);
  }
}

// More than gRPC's default limit of a message, and in flight more than sockets buffer.
TEST_P(EveryPeer, GivesBatchesOfMegabytes) { ExpectRightRows(16'384, 8); }

TEST_P(EveryPeer, SaysWhichRowIsMissing) {
  ids_ = {3, static_cast<int64_t>(kRows) + 7, 5, 6};
  BatchRun run(Options(4, 1, absl::Minutes(10)));
  const absl::Status status = peer_->Ask(run);
  if (GetParam().name == "Naive") {
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kOutOfRange, "no row 20007"));
  } else {
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kNotFound, "row 20007 is missing"));
  }
  EXPECT_EQ(seen_, 0);
}

INSTANTIATE_TEST_SUITE_P(Peers, EveryPeer,
                         testing::Values(PeerCase{"Redis", MakeRedisPeer},
                                         PeerCase{"Memcached", MakeMemcachedPeer},
                                         PeerCase{"Naive", MakeNaivePeer},
                                         PeerCase{"RocksDb", MakeRocksDbPeer},
                                         PeerCase{"Lmdb", MakeLmdbPeer}),
                         [](const auto& info) { return info.param.name; });

class PeerWithServer : public EveryPeer {};

TEST_P(PeerWithServer, EndsWithIt) {
  ASSERT_EQ(peer_->server_pids().size(), 1u);
  // Killed while more batches are in flight. The time is longer than a test may take.
  BatchRunOptions options = Options(512, 4, absl::Minutes(10));
  options.check = [this](std::span<const int64_t>, const uint8_t*) {
    ++seen_;
    return kill(peer_->server_pids()[0], SIGKILL) == 0;
  };
  BatchRun run(std::move(options));
  EXPECT_THAT(peer_->Ask(run), StatusIs(absl::StatusCode::kUnavailable, ""));
  EXPECT_GT(seen_, 0);

  seen_ = 0;
  BatchRun again(Options(512, 4, absl::Minutes(10)));
  EXPECT_THAT(peer_->Ask(again), StatusIs(absl::StatusCode::kUnavailable, ""));
  EXPECT_EQ(seen_, 0);
}

INSTANTIATE_TEST_SUITE_P(Peers, PeerWithServer,
                         testing::Values(PeerCase{"Redis", MakeRedisPeer},
                                         PeerCase{"Memcached", MakeMemcachedPeer},
                                         PeerCase{"Naive", MakeNaivePeer}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace engram::bench
