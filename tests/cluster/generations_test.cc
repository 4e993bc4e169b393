// Tables that change under the clients: publish, activate, retire over a fleet, while rows are
// read.
#include "storage/generations.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "client/change_generations.h"
#include "client/client.h"
#include "client/prefetch.h"
#include "client/slot.h"
#include "deploy/engramctl/publisher.h"
#include "proto/base/status_macros.h"
#include "service/server.h"
#include "storage/delta.h"
#include "storage/disk/disk_table.h"
#include "storage/sidecar.h"
#include "storage/synth.h"
#include "storage/table.h"
#include "storage/table_digest.h"
#include "tests/support/changed_checkpoint.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

using Code = absl::StatusCode;
constexpr absl::Duration kTimeout = absl::Seconds(20);
constexpr uint64_t kBucketFloor = 200;

// Two tables that differ in every tenth row, served as the first; server i has shard i modulo
// `shards`.
class Fleet {
 public:
  static constexpr int kTables = 2;

  explicit Fleet(uint32_t shards, uint32_t replicas = 1, StoreKind store = StoreKind::kMemory)
      : shards_(shards), store_(store) {
    EXPECT_THAT(Synthesize({.out = checkpoint_[0], .bucket_floor = kBucketFloor, .tokenizer = ""}),
                IsOk());
    const Checkpoint opened = Checkpoint::Open(checkpoint_[0]).value();
    std::vector<std::pair<size_t, uint64_t>> changed;
    for (size_t i = 0; i < opened.geometry().layers().size(); ++i) {
      layers_.push_back(opened.geometry().layers()[i].layer_id);
      for (uint64_t row = i; row < opened.geometry().layers()[i].rows; row += 10) {
        changed.emplace_back(i, row);
      }
    }
    WriteChanged(checkpoint_[0], checkpoint_[1], changed);
    for (int i = 0; i < kTables; ++i) {
      WriteTokenMap(checkpoint_[i]);
      const auto table = Load(i, {});
      digest_[i] = table->digest;
      for (const RowRange& range : table->rows->ranges()) {
        std::vector<uint32_t> ids(range.end);
        for (uint32_t row = 0; row < range.end; ++row) ids[row] = row;
        std::vector<uint8_t>& rows = rows_[i].emplace_back(range.end * 264);
        EXPECT_THAT(
            table->rows->Gather(range.layer, std::span<const uint32_t>(ids), rows.data(), nullptr),
            IsOk());
      }
    }
    for (int i = 0; i < kTables; ++i) {
      EXPECT_THAT(WriteDelta({checkpoint_[i], checkpoint_[1 - i], delta_[i], 1, nullptr}), IsOk());
    }
    generations_.resize(shards * replicas);
    servers_.resize(shards * replicas);
    for (uint32_t i = 0; i < servers_.size(); ++i) Start(i, "127.0.0.1:0");
  }
  ~Fleet() {
    for (auto& server : servers_) server.reset();
  }

  void Start(uint32_t i, std::string listen = "") {
    if (listen.empty()) listen = addresses_[i];
    const std::string data_dir = dir_.File("data" + std::to_string(i));
    const Shard shard{i % shards_, shards_};
    const auto table =
        store_ == StoreKind::kRocksDb ? OpenFromDisk(shard, data_dir) : Load(0, shard);
    auto opened = Generations::Open(table, data_dir, nullptr);
    ASSERT_THAT(opened, IsOk());
    generations_[i] = *std::move(opened);
    ServerOptions options;
    options.listen = listen;
    options.threads = 1;
    auto server = Server::Start(table, options, generations_[i].get());
    ASSERT_THAT(server, IsOk());
    servers_[i] = *std::move(server);
    addresses_.resize(servers_.size());
    addresses_[i] = servers_[i]->address();
  }
  void Kill(uint32_t i) {
    servers_[i].reset();
    generations_[i].reset();
  }

  // The delta from table `from` to the other one.
  absl::Status Publish(int from) {
    const std::vector<ServerStatus> asked = AskServers(addresses_, absl::Seconds(20));
    return Publisher(delta_[from], asked).Run();
  }
  absl::Status Activate(int table) {
    for (const absl::Status& status : ActivateOn(addresses_, digest_[table], absl::Seconds(20))) {
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }
  absl::Status Retire(int table) {
    for (const absl::Status& status : RetireOn(addresses_, digest_[table], absl::Seconds(20))) {
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }
  // Of server i by table; the active one has a `*`.
  std::string Held(uint32_t i) {
    std::string text;
    const auto set = generations_[i]->current();
    for (size_t at = 0; at < set->held().size(); ++at) {
      text += set->held()[at]->digest == digest_[0] ? "0" : "1";
      if (set->IsActive(at)) text += "*";
    }
    return text;
  }

  // Looks every row of every layer up in one lookup; the table that all of them are of.
  absl::StatusOr<int> ReadAll(Client& client) const {
    std::vector<RowsLookup> lookup;
    std::vector<std::vector<int64_t>> ids(layers_.size());
    std::vector<std::vector<uint8_t>> out(layers_.size());
    for (size_t layer = 0; layer < layers_.size(); ++layer) {
      const size_t bytes = rows_[0][layer].size();
      for (size_t row = 0; row < bytes / 264; ++row)
        ids[layer].push_back(static_cast<int64_t>(row));
      out[layer].assign(bytes, 0xA5);
      lookup.push_back({layers_[layer], ids[layer], out[layer]});
    }
    auto ticket = client.SubmitRows(lookup, {.timeout = absl::Seconds(10)});
    RETURN_IF_ERROR(ticket.status());
    RETURN_IF_ERROR(ticket->WaitAll());
    for (int table = 0; table < kTables; ++table) {
      if (out == rows_[table]) return table;
    }
    return absl::DataLossError("rows are of neither table, or of both");
  }

  // A server of one whole table, as loaded: no generation of what the fleet has.
  std::unique_ptr<Server> ServeApart(int table) {
    ServerOptions options;
    options.listen = "127.0.0.1:0";
    options.threads = 1;
    return Server::Start(Load(table, {}), options).value();
  }

  const std::vector<std::string>& addresses() const { return addresses_; }
  const Sha256& digest(int table) const { return digest_[table]; }
  const std::string& delta(int from) const { return delta_[from]; }
  Generations& generations(uint32_t i) { return *generations_[i]; }

 private:
  // A sidecar with a token map, for a checkpoint that has no tokenizer.
  static void WriteTokenMap(const std::string& directory) {
    const Checkpoint checkpoint = Checkpoint::Open(directory).value();
    Sidecar sidecar = ComputeSidecar(checkpoint, 1, nullptr).value();
    const uint32_t vocabulary = checkpoint.geometry().params().compressed_vocab;
    std::vector<uint32_t> ids(vocabulary + 100);
    for (uint32_t token = 0; token < ids.size(); ++token) ids[token] = token % vocabulary;
    sidecar.token_map = TokenMap::Create(ids).value();
    sidecar.digest = TableDigest(checkpoint.geometry(), checkpoint.layout(),
                                 sidecar.token_map->sha256(), sidecar.TotalSum());
    EXPECT_THAT(WriteSidecar(checkpoint.sidecar_path(), sidecar), IsOk());
  }
  std::shared_ptr<const Table> Load(int table, Shard shard) {
    LoadOptions options;
    options.checkpoint = checkpoint_[table];
    options.shard = shard;
    options.threads = 1;
    return std::make_shared<const Table>(LoadTable(options).value());
  }

  std::shared_ptr<const Table> OpenFromDisk(Shard shard, const std::string& data_dir) {
    LoadOptions options;
    options.checkpoint = checkpoint_[0];
    options.shard = shard;
    options.store = StoreKind::kRocksDb;
    options.memory_budget = kBucketFloor * 24 * 264 / 2;  // a quarter of two layers of a shard
    options.threads = 1;
    return std::make_shared<const Table>(OpenDiskTable(options, {data_dir, 4, false}).value());
  }

  const TempDir dir_;
  const uint32_t shards_;
  const StoreKind store_;
  const std::string checkpoint_[kTables] = {dir_.File("t0"), dir_.File("t1")};
  const std::string delta_[kTables] = {dir_.File("d01"), dir_.File("d10")};
  Sha256 digest_[kTables];
  std::vector<uint32_t> layers_;
  std::vector<std::vector<uint8_t>> rows_[kTables];  // by layer
  std::vector<std::unique_ptr<Generations>> generations_;
  std::vector<std::unique_ptr<Server>> servers_;
  std::vector<std::string> addresses_;
};

ClientOptions Follows(const Fleet& fleet) {
  return {.servers = fleet.addresses(),
          .follow_generations = true,
          .follow_interval = absl::Milliseconds(20)};
}

TEST(GenerationsTest, AFleetConvergesWhateverStopsAPublish) {
  Fleet fleet(2);
  fleet.Kill(1);
  const absl::Status stopped = fleet.Publish(0);
  EXPECT_THAT(stopped, StatusIs(stopped.code(), fleet.addresses()[1]));
  EXPECT_FALSE(stopped.ok());
  EXPECT_EQ(fleet.Held(0), "0*");
  fleet.Start(1);
  // One of them was interrupted after the other had prepared.
  ASSERT_THAT(
      Publisher(fleet.delta(0), AskServers({fleet.addresses()[0]}, absl::Seconds(20))).Run(),
      StatusIs(Code::kFailedPrecondition, "none of the servers holds row"));
  for (int again = 0; again < 2; ++again) {
    ASSERT_THAT(fleet.Publish(0), IsOk());
    EXPECT_EQ(fleet.Held(0), "0*1");
    EXPECT_EQ(fleet.Held(1), "0*1");
  }
  ASSERT_THAT(fleet.Activate(1), IsOk());
  ASSERT_THAT(fleet.Activate(1), IsOk());
  // What was served is served after a restart.
  fleet.Kill(0);
  fleet.Start(0);
  EXPECT_EQ(fleet.Held(0), "01*");
  ASSERT_OK_AND_ASSIGN(const auto client, Client::Connect({.servers = fleet.addresses()}));
  EXPECT_EQ(client->digest(), fleet.digest(1));
  EXPECT_THAT(fleet.ReadAll(*client), IsOkAndHolds(1));
}

TEST(GenerationsTest, AClientThatStartsDuringASwitchTakesTheOlderOne) {
  Fleet fleet(2);
  ASSERT_THAT(fleet.Publish(0), IsOk());
  ASSERT_THAT(fleet.generations(1).Activate(fleet.digest(1)), IsOk());
  for (const bool turned : {false, true}) {
    std::vector<std::string> servers = fleet.addresses();
    if (turned) std::reverse(servers.begin(), servers.end());
    ASSERT_OK_AND_ASSIGN(const auto client, Client::Connect({.servers = servers, .io_threads = 2}));
    EXPECT_EQ(client->digest(), fleet.digest(0));
    EXPECT_THAT(fleet.ReadAll(*client), IsOkAndHolds(0));
    EXPECT_THAT(fleet.ReadAll(*client), IsOkAndHolds(0));
  }
  ASSERT_THAT(fleet.generations(0).Activate(fleet.digest(1)), IsOk());
  ASSERT_THAT(fleet.generations(0).Retire(fleet.digest(0)), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto client, Client::Connect({.servers = fleet.addresses()}));
  EXPECT_THAT(fleet.ReadAll(*client), IsOkAndHolds(1));
}

TEST(GenerationsTest, ServersThatServeFromDiskChangeToo) {
  Fleet fleet(2, 1, StoreKind::kRocksDb);
  ASSERT_OK_AND_ASSIGN(const auto old, Client::Connect({.servers = fleet.addresses()}));
  EXPECT_THAT(fleet.ReadAll(*old), IsOkAndHolds(0));
  ASSERT_THAT(fleet.Publish(0), IsOk());
  ASSERT_THAT(fleet.Activate(1), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto client, Client::Connect({.servers = fleet.addresses()}));
  EXPECT_EQ(client->digest(), fleet.digest(1));
  EXPECT_THAT(fleet.ReadAll(*client), IsOkAndHolds(1));
  EXPECT_THAT(fleet.ReadAll(*old), IsOkAndHolds(0));
  ASSERT_THAT(fleet.Retire(0), IsOk());
  EXPECT_THAT(fleet.ReadAll(*client), IsOkAndHolds(1));
  // The rows on disk are the first table's, or, once they are folded, the second's.
  fleet.Kill(0);
  fleet.Start(0);
  EXPECT_EQ(fleet.Held(0), "1*");
  ASSERT_OK_AND_ASSIGN(const auto again, Client::Connect({.servers = fleet.addresses()}));
  EXPECT_THAT(fleet.ReadAll(*again), IsOkAndHolds(1));
}

TEST(GenerationsTest, DigestsThatNoServersShareAreRefused) {
  Fleet fleet(1, 2);
  ASSERT_THAT(
      Publisher(fleet.delta(0), AskServers({fleet.addresses()[0]}, absl::Seconds(20))).Run(),
      IsOk());
  ASSERT_THAT(fleet.generations(0).Activate(fleet.digest(1)), IsOk());
  ASSERT_THAT(fleet.generations(0).Retire(fleet.digest(0)), IsOk());
  EXPECT_THAT(Client::Connect({.servers = fleet.addresses()}),
              StatusIs(Code::kFailedPrecondition, ToHex(fleet.digest(1))));
}

TEST(GenerationsTest, APinnedClientKeepsItsGenerationUntilItIsRetired) {
  Fleet fleet(2);
  ASSERT_THAT(fleet.Publish(0), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto pinned, Client::Connect({.servers = fleet.addresses(),
                                                           .expect_digest = fleet.digest(0)}));
  ASSERT_OK_AND_ASSIGN(const auto ahead, Client::Connect({.servers = fleet.addresses(),
                                                          .expect_digest = fleet.digest(1)}));
  EXPECT_THAT(fleet.ReadAll(*ahead), IsOkAndHolds(1));
  ASSERT_THAT(fleet.Activate(1), IsOk());
  EXPECT_THAT(fleet.ReadAll(*pinned), IsOkAndHolds(0));
  ASSERT_THAT(fleet.Retire(0), IsOk());
  EXPECT_THAT(fleet.ReadAll(*pinned), StatusIs(Code::kFailedPrecondition, ToHex(fleet.digest(0))));
  EXPECT_THAT(fleet.ReadAll(*ahead), IsOkAndHolds(1));
  EXPECT_THAT(Client::Connect({.servers = fleet.addresses(), .expect_digest = fleet.digest(0)}),
              StatusIs(Code::kFailedPrecondition, ToHex(fleet.digest(0))));
  EXPECT_THAT(Client::Connect({.servers = fleet.addresses(),
                               .expect_digest = fleet.digest(0),
                               .follow_generations = true}),
              StatusIs(Code::kInvalidArgument, "follow_generations"));
}

// Rows that were fetched ahead before the tables changed are not those of a step behind it.
TEST(GenerationsTest, StepsDoNotTakeRowsOfAnotherGeneration) {
  Fleet fleet(2);
  ASSERT_THAT(fleet.Publish(0), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto follower, Client::Connect(Follows(fleet)));
  constexpr uint32_t kLayer = 14;
  std::vector<uint32_t> tokens(60);
  for (uint32_t i = 0; i < tokens.size(); ++i) tokens[i] = i * 37;
  std::vector<uint8_t> expected[Fleet::kTables];
  for (int table = 0; table < Fleet::kTables; ++table) {
    ASSERT_OK_AND_ASSIGN(
        const auto pinned,
        Client::Connect({.servers = fleet.addresses(), .expect_digest = fleet.digest(table)}));
    expected[table].resize(tokens.size() * pinned->geometry().columns() * 264);
    LookBack state;
    ASSERT_OK_AND_ASSIGN(Ticket ticket,
                         pinned->SubmitTokens(tokens, {}, state, {{kLayer, expected[table]}}, {}));
    ASSERT_THAT(ticket.WaitAll(), IsOk());
  }
  ASSERT_NE(expected[0], expected[1]);
  ASSERT_OK_AND_ASSIGN(const auto slot, Slot::Create(*follower, {.max_tokens = 200}));
  const auto step = [&](std::vector<StepChunk> chunks) {
    EXPECT_THAT(slot->SubmitTokens(chunks, {}), IsOk());
    EXPECT_THAT(slot->WaitAll(), IsOk());
    const std::span<const uint8_t> rows =
        slot->rows(kLayer).first(chunks.size() * expected[0].size());
    return std::vector<uint8_t>(rows.begin(), rows.end());
  };
  LookBack state, state_after;
  ASSERT_OK_AND_ASSIGN(Prefetch before, Prefetch::Start(*follower, tokens, {}, state, {}));
  ASSERT_THAT(before.Wait(absl::InfiniteFuture()), IsOk());
  EXPECT_EQ(step({before.Range(0, tokens.size())}), expected[0]);
  ASSERT_THAT(fleet.Activate(1), IsOk());
  const absl::Time deadline = absl::Now() + kTimeout;
  while (follower->digest() != fleet.digest(1) && absl::Now() < deadline) std::this_thread::yield();
  EXPECT_EQ(step({before.Range(0, tokens.size())}), expected[1]);
  ASSERT_OK_AND_ASSIGN(Prefetch after, Prefetch::Start(*follower, tokens, {}, state_after, {}));
  ASSERT_THAT(after.Wait(absl::InfiniteFuture()), IsOk());
  EXPECT_EQ(step({after.Range(0, tokens.size())}), expected[1]);
  std::vector<uint8_t> twice = expected[1];
  twice.insert(twice.end(), expected[1].begin(), expected[1].end());
  EXPECT_EQ(step({before.Range(0, tokens.size()), after.Range(0, tokens.size())}), twice);
}

// A name may come to give servers of another table: of the same shape, of all rows, active.
TEST(GenerationsTest, AFollowerGoesOverToGenerationsOfItsTableAlone) {
  Fleet fleet(1);
  const auto apart = fleet.ServeApart(1);
  ASSERT_OK_AND_ASSIGN(const auto follower, Client::Connect(Follows(fleet)));
  ASSERT_THAT(follower->SetServers({fleet.addresses()[0], apart->address()}), IsOk());
  const absl::Time end = absl::Now() + absl::Seconds(1);
  while (absl::Now() < end) {
    ASSERT_THAT(fleet.ReadAll(*follower), IsOkAndHolds(0));
    ASSERT_EQ(follower->digest(), fleet.digest(0));
  }
  // Once it is published on the follower's it is one.
  ASSERT_THAT(fleet.Publish(0), IsOk());
  ASSERT_THAT(fleet.Activate(1), IsOk());
  const absl::Time deadline = absl::Now() + kTimeout;
  while (follower->digest() != fleet.digest(1) && absl::Now() < deadline) std::this_thread::yield();
  EXPECT_THAT(fleet.ReadAll(*follower), IsOkAndHolds(1));
}

// With an interval that no test waits for: servers tell.
TEST(GenerationsTest, FollowersAreToldOfAChange) {
  Fleet fleet(2);
  ASSERT_THAT(fleet.Publish(0), IsOk());
  ClientOptions options = Follows(fleet);
  options.follow_interval = absl::Hours(1);
  ASSERT_OK_AND_ASSIGN(const auto follower, Client::Connect(options));
  ASSERT_OK_AND_ASSIGN(const auto keeps, Client::Connect({.servers = fleet.addresses()}));
  for (int change = 1; change <= 4; ++change) {
    const int active = change % 2;
    ASSERT_THAT(fleet.Activate(active), IsOk());
    const absl::Time deadline = absl::Now() + kTimeout;
    while (follower->digest() != fleet.digest(active) && absl::Now() < deadline) {
      std::this_thread::yield();
    }
    ASSERT_EQ(follower->digest(), fleet.digest(active)) << change;
    EXPECT_THAT(fleet.ReadAll(*follower), IsOkAndHolds(active));
    EXPECT_THAT(fleet.ReadAll(*keeps), IsOkAndHolds(0));
  }
}

// Followers and pinned clients read all rows without a pause; each lookup must be of one table.
TEST(GenerationsTest, NoWrongRowWhileGenerationsComeAndGo) {
  Fleet fleet(2, 2);
  ClientOptions cached = Follows(fleet);
  cached.cache_bytes = 8 << 20;
  ASSERT_OK_AND_ASSIGN(const auto follower, Client::Connect(Follows(fleet)));
  ASSERT_OK_AND_ASSIGN(const auto cacher, Client::Connect(cached));
  std::atomic<bool> over{false};
  std::atomic<uint64_t> reads{0}, changes{0};
  std::vector<std::string> wrong(2);
  const auto follow = [&](Client& client, std::string& why) {
    int last = 0;
    while (!over) {
      const absl::StatusOr<int> table = fleet.ReadAll(client);
      ++reads;
      if (!table.ok()) {
        why = table.status().ToString();
        return;
      }
      changes += *table != last;
      last = *table;
    }
  };
  std::vector<std::thread> readers;
  readers.emplace_back(follow, std::ref(*follower), std::ref(wrong[0]));
  readers.emplace_back(follow, std::ref(*cacher), std::ref(wrong[1]));
  constexpr int kRounds = 6;
  for (int round = 0; round < kRounds; ++round) {
    const int from = round % 2, to = 1 - from;
    ASSERT_THAT(fleet.Publish(from), IsOk());
    ASSERT_OK_AND_ASSIGN(const auto pinned, Client::Connect({.servers = fleet.addresses(),
                                                             .expect_digest = fleet.digest(from)}));
    ASSERT_THAT(fleet.Activate(to), IsOk());
    const absl::Time deadline = absl::Now() + kTimeout;
    while ((follower->digest() != fleet.digest(to) || cacher->digest() != fleet.digest(to)) &&
           absl::Now() < deadline) {
      EXPECT_THAT(fleet.ReadAll(*pinned), IsOkAndHolds(from));
    }
    ASSERT_EQ(follower->digest(), fleet.digest(to));
    ASSERT_EQ(cacher->digest(), fleet.digest(to));
    ASSERT_THAT(fleet.Retire(from), IsOk());
    EXPECT_THAT(fleet.ReadAll(*pinned), StatusIs(Code::kFailedPrecondition, ""));
  }
  over = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(wrong[0], "");
  EXPECT_EQ(wrong[1], "");
  EXPECT_GT(reads, 0u);
  EXPECT_GE(changes, kRounds);
}

}  // namespace
}  // namespace engram
