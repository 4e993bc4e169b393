// Servers that serve from disk, and what a client makes of rows that one of them has lost.
#include <gtest/gtest.h>

#include <filesystem>
#include <numeric>

#include "absl/strings/match.h"
#include "client/client.h"
#include "service/server.h"
#include "storage/disk/disk_table.h"
#include "storage/synth.h"
#include "tests/cluster/lookup_helpers.h"
#include "tests/support/checkpoint_builder.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

using Code = absl::StatusCode;

constexpr uint64_t kCache = 1 << 20;  // bytes; of 2.5 MB

class DiskCluster : public ::testing::Test {
 protected:
  DiskCluster() {
    EXPECT_THAT(
        Synthesize({.out = dir_.File("c"), .bucket_floor = 200, .seed = 0, .tokenizer = ""}),
        IsOk());
  }

  absl::StatusOr<Table> Open(int i) {
    LoadOptions options;
    options.checkpoint = dir_.File("c");
    options.store = StoreKind::kRocksDb;
    options.memory_budget = kCache;
    options.threads = 1;
    return OpenDiskTable(options, {dir_.File(std::to_string(i)), 4, false});
  }
  void Start(int i) {
    auto table = Open(i);
    ASSERT_THAT(table, IsOk());
    ServerOptions options;
    options.listen = "127.0.0.1:0";
    options.threads = 1;
    auto server = Server::Start(std::make_shared<const Table>(*std::move(table)), options);
    ASSERT_THAT(server, IsOk());
    addresses_.push_back((*server)->address());
    servers_.push_back(*std::move(server));
  }
  // A bit of the given blocks of each of server i's files of rows. Imports first.
  void Damage(int i, const std::vector<uint64_t>& blocks) {
    { ASSERT_THAT(Open(i), IsOk()); }
    for (const auto& entry :
         std::filesystem::directory_iterator(dir_.File(std::to_string(i)) + "/rows")) {
      const std::string path = entry.path().string();
      if (!absl::EndsWith(path, ".sst")) continue;
      std::string bytes = ReadTestFile(path);
      if (bytes.size() < 100'000) continue;  // the manifest
      for (const uint64_t block : blocks) {
        char& byte = bytes[block * 4096 + 77];
        byte = static_cast<char>(byte ^ 1);
      }
      WriteTestFile(path, bytes);
    }
  }
  absl::StatusOr<std::unique_ptr<Client>> Connect(double verify_share = 0.5) {
    return Client::Connect({.servers = addresses_,
                            .connect_timeout = absl::Seconds(5),
                            .verify_share = verify_share,
                            .rows_per_request = 300});
  }
  static std::vector<int64_t> AllRows(const Client& client, size_t layer) {
    std::vector<int64_t> ids(client.geometry().layers()[layer].rows);
    std::iota(ids.begin(), ids.end(), 0);
    return ids;
  }

  const TempDir dir_;
  std::vector<std::unique_ptr<Server>> servers_;
  std::vector<std::string> addresses_;
};

TEST_F(DiskCluster, EveryRowComesFromTheDiskAndFromTheCache) {
  Start(0);
  ASSERT_OK_AND_ASSIGN(const auto client, Connect());
  std::vector<uint8_t> out;
  for (int round = 0; round < 3; ++round) {
    for (size_t layer = 0; layer < 2; ++layer) {
      const std::vector<int64_t> ids = AllRows(*client, layer);
      ASSERT_THAT(LookUp(*client, layer == 0 ? 1 : 14, ids, out), IsOk());
      ExpectRows(layer == 0 ? 1 : 14, ids, out);
    }
  }
}

TEST_F(DiskCluster, LostRowsComeFromAReplica) {
  Damage(0, {0, 3, 4, 100});
  Start(0);
  Start(1);
  ASSERT_OK_AND_ASSIGN(const auto client, Connect());
  std::vector<uint8_t> out;
  for (int round = 0; round < 10; ++round) {
    const std::vector<int64_t> ids = round % 2 ? RandomIds(*client, 0, 3000) : AllRows(*client, 0);
    ASSERT_THAT(LookUp(*client, 1, ids, out), IsOk());
    ExpectRows(1, ids, out);
  }
  EXPECT_GT(client->stats().retries, 0u);
  // The rest of each part was taken from the server that lost some rows.
  EXPECT_EQ(client->stats().checksum_failures, 0u);
}

TEST_F(DiskCluster, EachReplicaMayHaveLostOthers) {
  Damage(0, {1, 7});
  Damage(1, {2, 8});
  Start(0);
  Start(1);
  ASSERT_OK_AND_ASSIGN(const auto client, Connect());
  std::vector<uint8_t> out;
  const std::vector<int64_t> ids = AllRows(*client, 1);
  for (int round = 0; round < 4; ++round) {
    ASSERT_THAT(LookUp(*client, 14, ids, out), IsOk());
    ExpectRows(14, ids, out);
  }
}

TEST_F(DiskCluster, WhereNoReplicaHasThemTheLayerFailsAndOthersGoOn) {
  Damage(0, {5});
  Damage(1, {5, 6});
  Start(0);
  Start(1);
  ASSERT_OK_AND_ASSIGN(const auto client, Connect());
  std::vector<uint8_t> out;
  // Block 5 has rows 75 to 89.
  EXPECT_THAT(LookUp(*client, 1, {3, 80, 4}, out),
              StatusIs(Code::kDataLoss, "could not read row 80"));
  const std::vector<int64_t> ids = {3, 4, 74, 90, 91, 1000};
  for (int round = 0; round < 10; ++round) {
    ASSERT_THAT(LookUp(*client, 1, ids, out), IsOk());
    ExpectRows(1, ids, out);
  }
}

TEST_F(DiskCluster, ARowThatFailedIsNoOtherBytes) {
  Damage(0, {5});
  Start(0);
  ASSERT_OK_AND_ASSIGN(const auto client, Connect());
  std::vector<uint8_t> out;
  EXPECT_THAT(LookUp(*client, 1, {80}, out), StatusIs(Code::kDataLoss, "row 80"));
  for (const uint8_t byte : out) ASSERT_EQ(byte, 0);
}

}  // namespace
}  // namespace engram
