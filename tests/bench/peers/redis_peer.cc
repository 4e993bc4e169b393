// Redis, asked with MGET over TCP and answered through hiredis' parser.
//
// redisGetReply would read 16 KiB at a time and allocate an object for every row. This is the
// faster client that hiredis offers: its parser, fed with whatever has come, calls back for every
// element, which is copied to its place at once. Keys have one length, so commands are put together
// from copies of one argument instead of printing a length for each.
#include <hiredis/read.h>

#include <algorithm>
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

constexpr uint64_t kCommandRows = 1024;  // per command

// The reply that is being parsed.
struct Reply {
  std::span<const int64_t> ids;  // an MGET's; empty: the reply is no array
  uint8_t* out = nullptr;
  long long integer = 0;
  absl::Status status;  // the first thing that was wrong
};

void Complain(Reply& reply, absl::Status status) {
  if (reply.status.ok()) reply.status = std::move(status);
}

// hiredis takes any pointer but null for "created".
void* Created(Reply& reply) { return &reply; }

void* OnString(const redisReadTask* task, char* bytes, size_t size) {
  Reply& reply = *static_cast<Reply*>(task->privdata);
  if (task->type == REDIS_REPLY_ERROR) {
    Complain(reply, absl::InternalError(absl::StrCat("redis: ", absl::string_view(bytes, size))));
  } else if (task->parent != nullptr) {
    const auto position = static_cast<size_t>(task->idx);
    if (position >= reply.ids.size()) return Created(reply);  // OnArray has complained
    if (size != kSynthRowBytes) {
      Complain(reply, WrongSize("redis", reply.ids[position], size));
    } else {
      std::memcpy(reply.out + position * kSynthRowBytes, bytes, kSynthRowBytes);
    }
  }
  return Created(reply);
}

void* OnArray(const redisReadTask* task, int elements) {
  Reply& reply = *static_cast<Reply*>(task->privdata);
  if (elements < 0 || static_cast<size_t>(elements) != reply.ids.size()) {
    Complain(reply, absl::InternalError(absl::StrCat("redis: ", elements, " elements for ",
                                                     reply.ids.size(), " rows")));
  }
  return Created(reply);
}

void* OnInteger(const redisReadTask* task, long long value) {
  Reply& reply = *static_cast<Reply*>(task->privdata);
  reply.integer = value;
  return Created(reply);
}

void* OnNil(const redisReadTask* task) {
  Reply& reply = *static_cast<Reply*>(task->privdata);
  const auto position = static_cast<size_t>(task->idx);
  if (task->parent != nullptr && position < reply.ids.size()) {
    Complain(reply, MissingRow("redis", reply.ids[position]));
  }
  return Created(reply);
}

redisReplyObjectFunctions callbacks = {OnString, OnArray, OnInteger, OnNil, [](void*) {}};

struct FreeReader {
  void operator()(redisReader* reader) const { redisReaderFree(reader); }
};

// A command in Redis' protocol: an array of strings.
class Command {
 public:
  void Begin(absl::string_view name, size_t arguments) {
    const std::string begin =
        absl::StrCat("*", arguments + 1, "\r\n$", name.size(), "\r\n", name, "\r\n");
    bytes_.assign(begin.begin(), begin.end());
  }
  // The 8 bytes of a row's id, little-endian.
  void AddKey(uint64_t row) {
    uint8_t argument[14] = {'$', '8', '\r', '\n'};
    std::memcpy(argument + 4, &row, sizeof(row));
    std::memcpy(argument + 12, "\r\n", 2);
    bytes_.insert(bytes_.end(), argument, argument + sizeof(argument));
  }
  void AddRow(uint64_t row) {
    const std::string begin = absl::StrCat("$", kSynthRowBytes, "\r\n");
    bytes_.insert(bytes_.end(), begin.begin(), begin.end());
    bytes_.resize(bytes_.size() + kSynthRowBytes);
    SynthRow(kPeerSeed, kPeerLayer, row, bytes_.data() + bytes_.size() - kSynthRowBytes);
    bytes_.insert(bytes_.end(), {'\r', '\n'});
  }
  std::span<const uint8_t> bytes() const { return bytes_; }

 private:
  std::vector<uint8_t> bytes_;
};

class RedisPeer final : public Peer {
 public:
  explicit RedisPeer(LoopbackServer server)
      : server_(std::move(server)), reader_(redisReaderCreateWithFunctions(&callbacks)) {
    reader_->privdata = &reply_;
    reader_->maxbuf = 0;  // or it gives its buffer back whenever it has parsed all of it
  }

  absl::Status Fill(uint64_t rows) {
    for (uint64_t begin = 0; begin < rows; begin += kCommandRows) {
      const uint64_t end = std::min(rows, begin + kCommandRows);
      command_.Begin("MSET", 2 * (end - begin));
      for (uint64_t row = begin; row < end; ++row) {
        command_.AddKey(row);
        command_.AddRow(row);
      }
      RETURN_IF_ERROR(server_.connection->Send(command_.bytes()));
      RETURN_IF_ERROR(TakeReply({}));
    }
    return absl::OkStatus();
  }

  // Looks up every row without fetching it. Redis moves its keys to a grown hash table little by
  // little, at every lookup; afterwards that is over.
  absl::Status Settle(uint64_t rows) {
    for (uint64_t begin = 0; begin < rows; begin += kCommandRows) {
      const uint64_t end = std::min(rows, begin + kCommandRows);
      command_.Begin("EXISTS", end - begin);
      for (uint64_t row = begin; row < end; ++row) command_.AddKey(row);
      RETURN_IF_ERROR(server_.connection->Send(command_.bytes()));
      RETURN_IF_ERROR(TakeReply({}));
      if (static_cast<uint64_t>(reply_.integer) != end - begin) {
        return absl::InternalError(absl::StrCat("redis: of rows ", begin, " to ", end - 1,
                                                " it has only ", reply_.integer));
      }
    }
    return absl::OkStatus();
  }

  absl::Status Ask(BatchRun& run) override {
    const auto submit = [this](BatchRun::Batch& batch) {
      command_.Begin("MGET", batch.ids.size());
      for (const int64_t row : batch.ids) command_.AddKey(static_cast<uint64_t>(row));
      return server_.connection->Send(command_.bytes());
    };
    const auto take = [this](BatchRun::Batch& batch) {
      return TakeReply({batch.ids, batch.out.data(), 0, absl::OkStatus()});
    };
    return AskInOrder(run, submit, take);
  }

  std::vector<pid_t> server_pids() const override { return {server_.process->pid()}; }

 private:
  absl::Status TakeReply(Reply reply) {
    reply_ = std::move(reply);
    LoopbackConnection& connection = *server_.connection;
    while (true) {
      void* whole = nullptr;
      if (redisReaderGetReply(reader_.get(), &whole) != REDIS_OK) {
        return absl::InternalError(absl::StrCat("redis: ", reader_->errstr));
      }
      if (whole != nullptr) return reply_.status;
      RETURN_IF_ERROR(connection.Await(1));
      const std::span<const uint8_t> came = connection.received();
      redisReaderFeed(reader_.get(), reinterpret_cast<const char*>(came.data()), came.size());
      connection.Consume(came.size());
    }
  }

  LoopbackServer server_;
  const std::unique_ptr<redisReader, FreeReader> reader_;
  Command command_;
  Reply reply_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Peer>> MakeRedisPeer(const PeerSetup& setup) {
  const auto argv = [&](const std::string& port) -> std::vector<std::string> {
    // Huge pages, as our own server has them: Redis turns them off for its snapshots' sake, of
    // which there are none here. `env` becomes Redis: same process.
    std::vector<std::string> words = absl::StrSplit(
        absl::StrCat("env MALLOC_CONF=thp:always redis-server --disable-thp no --bind 127.0.0.1 ",
                     "--port ", port, " --appendonly no --io-threads 1"),
        ' ');
    words.insert(words.end(), {"--save", "", "--dir", setup.directory, "--logfile",
                               setup.directory + "/redis.log"});
    return words;
  };
  ASSIGN_OR_RETURN(LoopbackServer server, StartLoopbackServer(argv, setup));
  auto peer = std::make_unique<RedisPeer>(std::move(server));
  RETURN_IF_ERROR(peer->Fill(setup.rows));
  RETURN_IF_ERROR(peer->Settle(setup.rows));
  return peer;
}

}  // namespace engram::bench
