// memcached, asked in its binary protocol: a quiet get for every row, then a no-op whose answer
// ends the batch. Quiet gets answer hits alone, in order; a row that is not there is seen by its
// gap.
#include <endian.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "proto/base/status_macros.h"
#include "storage/synth_rows.h"
#include "tests/bench/peers/loopback.h"
#include "tests/bench/peers/peer.h"
#include "tests/bench/peers/peer_rows.h"

namespace engram::bench {
namespace {

constexpr uint64_t kUnansweredRows = 1024;  // until their arrival is waited for
constexpr uint8_t kRequest = 0x80;
constexpr uint8_t kResponse = 0x81;
constexpr uint8_t kGetQuietly = 0x09;
constexpr uint8_t kNoop = 0x0a;
constexpr uint8_t kSetQuietly = 0x11;

// Both ways; integers are big-endian, but `opaque` comes back as it went.
struct Header {
  uint8_t magic = kRequest;
  uint8_t opcode = 0;
  uint16_t key_bytes = 0;
  uint8_t extras_bytes = 0;
  uint8_t data_type = 0;
  uint16_t status = 0;      // of a response
  uint32_t body_bytes = 0;  // extras, key, value
  uint32_t opaque = 0;
  uint64_t cas = 0;
};
static_assert(sizeof(Header) == 24);

// The key of a row is its id, little-endian.
struct GetRow {
  Header header;
  uint64_t key = 0;
};
static_assert(sizeof(GetRow) == 32);

struct SetRow {
  Header header;
  uint32_t flags = 0;
  uint32_t expiry = 0;
  uint64_t key = 0;
  uint8_t value[kSynthRowBytes];
};
static_assert(sizeof(SetRow) == 40 + kSynthRowBytes);

Header RequestHeader(uint8_t opcode, size_t key_bytes, size_t extras_bytes, size_t body_bytes) {
  Header header;
  header.opcode = opcode;
  header.key_bytes = htobe16(static_cast<uint16_t>(key_bytes));
  header.extras_bytes = static_cast<uint8_t>(extras_bytes);
  header.body_bytes = htobe32(static_cast<uint32_t>(body_bytes));
  return header;
}

template <typename T>
uint8_t* Put(uint8_t* at, const T& value) {
  std::memcpy(at, &value, sizeof(value));
  return at + sizeof(value);
}

class MemcachedPeer final : public Peer {
 public:
  explicit MemcachedPeer(LoopbackServer server) : server_(std::move(server)) {}

  absl::Status Fill(uint64_t rows) {
    SetRow set;
    set.header = RequestHeader(kSetQuietly, sizeof(set.key), sizeof(set.flags) + sizeof(set.expiry),
                               sizeof(SetRow) - sizeof(Header));
    for (uint64_t begin = 0; begin < rows; begin += kUnansweredRows) {
      const uint64_t end = std::min(rows, begin + kUnansweredRows);
      request_.resize((end - begin) * sizeof(SetRow) + sizeof(Header));
      uint8_t* at = request_.data();
      for (uint64_t row = begin; row < end; ++row) {
        set.key = row;
        SynthRow(kPeerSeed, kPeerLayer, row, set.value);
        at = Put(at, set);
      }
      Put(at, RequestHeader(kNoop, 0, 0, 0));
      RETURN_IF_ERROR(server_.connection->Send(request_));
      RETURN_IF_ERROR(TakeRows({}, nullptr));  // quiet sets answer when they fail
    }
    return absl::OkStatus();
  }

  absl::Status Ask(BatchRun& run) override {
    return AskInOrder(
        run, [this](BatchRun::Batch& batch) { return SendGets(batch.ids); },
        [this](BatchRun::Batch& batch) { return TakeRows(batch.ids, batch.out.data()); });
  }

  std::vector<pid_t> server_pids() const override { return {server_.process->pid()}; }

 private:
  absl::Status SendGets(std::span<const int64_t> ids) {
    GetRow get;
    get.header = RequestHeader(kGetQuietly, sizeof(get.key), 0, sizeof(get.key));
    request_.resize(ids.size() * sizeof(GetRow) + sizeof(Header));
    uint8_t* at = request_.data();
    for (uint32_t i = 0; i < ids.size(); ++i) {
      get.header.opaque = i;
      get.key = static_cast<uint64_t>(ids[i]);
      at = Put(at, get);
    }
    Put(at, RequestHeader(kNoop, 0, 0, 0));
    return server_.connection->Send(request_);
  }

  // The answers up to the no-op's.
  absl::Status TakeRows(std::span<const int64_t> ids, uint8_t* out) {
    LoopbackConnection& connection = *server_.connection;
    for (size_t position = 0;; ++position) {
      RETURN_IF_ERROR(connection.Await(sizeof(Header)));
      Header header;
      std::memcpy(&header, connection.received().data(), sizeof(header));
      const size_t body_bytes = be32toh(header.body_bytes);
      if (header.magic != kResponse) return absl::InternalError("memcached: no response");
      RETURN_IF_ERROR(connection.Await(sizeof(Header) + body_bytes));
      const uint8_t* const body = connection.received().data() + sizeof(Header);
      if (header.status != 0) {
        return absl::InternalError(absl::StrCat(
            "memcached: ", absl::string_view(reinterpret_cast<const char*>(body), body_bytes)));
      }
      if (header.opcode == kNoop) {
        connection.Consume(sizeof(Header) + body_bytes);
        return position == ids.size() ? absl::OkStatus() : MissingRow("memcached", ids[position]);
      }
      RETURN_IF_ERROR(TakeRow(header, body, position, ids, out));
      connection.Consume(sizeof(Header) + body_bytes);
    }
  }

  static absl::Status TakeRow(const Header& header, const uint8_t* body, size_t position,
                              std::span<const int64_t> ids, uint8_t* out) {
    if (header.opcode != kGetQuietly || position >= ids.size()) {
      return absl::InternalError("memcached: a response to nothing");
    }
    if (header.opaque != position) return MissingRow("memcached", ids[position]);
    const size_t bytes = be32toh(header.body_bytes) - header.extras_bytes;
    if (bytes != kSynthRowBytes) return WrongSize("memcached", ids[position], bytes);
    std::memcpy(out + position * kSynthRowBytes, body + header.extras_bytes, kSynthRowBytes);
    return absl::OkStatus();
  }

  LoopbackServer server_;
  std::vector<uint8_t> request_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Peer>> MakeMemcachedPeer(const PeerSetup& setup) {
  // A row takes 384 bytes, the least of memcached's sizes that holds it with key and header.
  const uint64_t item_mib = (setup.rows * 384 >> 20) * 11 / 10 + 128;
  const int hash_power = std::max(16, static_cast<int>(std::bit_width(setup.rows)));
  const auto argv = [&](const std::string& port) -> std::vector<std::string> {
    // -u root: where root starts it. -M: an error where it would forget rows. -C: no versions of
    // rows. -L: huge pages, as our own server has them. -R: answers that leave with one system call
    // (its 20 cost a fifth of the server's time). hashpower: the final size, which it would come to
    // meanwhile. no_lru_*: threads that sort rows by age, a tenth of the core's time.
    return absl::StrSplit(
        absl::StrCat("memcached -l 127.0.0.1 -p ", port, " -U 0 -u root -t 1 -M -C -L -R 1024 -m ",
                     item_mib, " -o hashpower=", hash_power, ",no_lru_maintainer,no_lru_crawler"),
        ' ');
  };
  ASSIGN_OR_RETURN(LoopbackServer server, StartLoopbackServer(argv, setup));
  auto peer = std::make_unique<MemcachedPeer>(std::move(server));
  RETURN_IF_ERROR(peer->Fill(setup.rows));
  return peer;
}

}  // namespace engram::bench
