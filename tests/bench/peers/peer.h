// A system that can be asked for batches of rows: ours, and those it is held against.
#ifndef ENGRAM_TESTS_BENCH_PEERS_PEER_H_
#define ENGRAM_TESTS_BENCH_PEERS_PEER_H_

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tests/bench/batch_run.h"

namespace engram::bench {

// Rows of every peer: those of a synthetic V4.1-Flash table (storage/synth_rows.h).
inline constexpr uint32_t kPeerLayer = 1;
inline constexpr uint64_t kPeerSeed = 0;
inline constexpr char kPeerShard[] = "measured";

// What all peers are made for. Servers run on `server_core`, whoever asks on `client_core`.
struct PeerSetup {
  std::string directory;   // scratch, for sockets and files of the peers
  std::string checkpoint;  // whose layer kPeerLayer has at least `rows` rows
  std::string shard_map;   // file; its shard kPeerShard holds that layer alone
  uint64_t rows = 0;       // row ids are 0 .. rows - 1
  int server_core = 0;
  int client_core = 1;
  absl::Duration spin;  // how long both sides poll before they sleep, where they can
};

class Peer {
 public:
  virtual ~Peer() = default;  // stops what it has started

  // Asks for every batch that `run` hands out, keeping its depth in flight where the peer can,
  // until none is left and none is in flight. On the calling thread, which is on the client's core.
  // All rows of a batch are in place, in its order, when it is Done.
  virtual absl::Status Ask(BatchRun& run) = 0;

  // Drops what might disturb another peer's run: threads that wait for connections, say. The next
  // Ask makes it again.
  virtual void Rest() {}

  // The processes that serve; empty: the peer lives in this process.
  virtual std::vector<pid_t> server_pids() const { return {}; }
};

// Starts a peer and fills it with the rows.
using MakePeer = std::function<absl::StatusOr<std::unique_ptr<Peer>>(const PeerSetup&)>;

// In order: keeps as many batches in flight as `run` hands out, and takes answers in the order in
// which they were asked for. `submit(batch)` asks, `take(batch)` waits for that batch's rows.
template <typename Submit, typename Take>
absl::Status AskInOrder(BatchRun& run, Submit submit, Take take) {
  std::vector<BatchRun::Batch*> asked;
  size_t oldest = 0;  // asked is a ring once it is full
  while (BatchRun::Batch* batch = run.Next()) {
    if (absl::Status status = submit(*batch); !status.ok()) return status;
    asked.push_back(batch);
  }
  while (run.in_flight() > 0) {
    BatchRun::Batch*& turn = asked[oldest];
    oldest = (oldest + 1) % asked.size();
    if (turn == nullptr) continue;
    if (absl::Status status = take(*turn); !status.ok()) return status;
    run.Done(*turn);
    turn = run.Next();
    if (turn == nullptr) continue;
    if (absl::Status status = submit(*turn); !status.ok()) return status;
  }
  return absl::OkStatus();
}

// The peers there are, each in a file of its own.
absl::StatusOr<std::unique_ptr<Peer>> MakeEngramPeer(const PeerSetup& setup);
absl::StatusOr<std::unique_ptr<Peer>> MakeRawPeer(const PeerSetup& setup);
absl::StatusOr<std::unique_ptr<Peer>> MakeRedisPeer(const PeerSetup& setup);
absl::StatusOr<std::unique_ptr<Peer>> MakeMemcachedPeer(const PeerSetup& setup);
absl::StatusOr<std::unique_ptr<Peer>> MakeNaivePeer(const PeerSetup& setup);
absl::StatusOr<std::unique_ptr<Peer>> MakeRocksDbPeer(const PeerSetup& setup);
absl::StatusOr<std::unique_ptr<Peer>> MakeLmdbPeer(const PeerSetup& setup);

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_PEERS_PEER_H_
