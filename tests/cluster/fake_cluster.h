// Memory servers in this process over stores that a test can hold up or let fail, and what slots
// must hold of their rows.
#ifndef ENGRAM_TESTS_CLUSTER_FAKE_CLUSTER_H_
#define ENGRAM_TESTS_CLUSTER_FAKE_CLUSTER_H_

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "client/slot.h"
#include "proto/shard_layout.h"
#include "service/server.h"
#include "tests/support/fake_row_store.h"
#include "tests/support/status_matchers.h"

namespace engram {

inline constexpr uint32_t kFakeTokens = 64;      // token ids 0 .. 63; 60 .. 63 are as 0 .. 3
inline constexpr uint32_t kFakeCompressed = 60;  // their compressed ids
inline constexpr uint32_t kFakeColumns = 6;      // 2 orders x 3 heads
inline constexpr uint32_t kFakeRowBytes = 264;

// Layers 1 and 14 in equal shards, one a server.
class FakeCluster {
 public:
  explicit FakeCluster(uint32_t shards) {
    for (uint32_t i = 0; i < shards; ++i) Start({i, shards});
  }
  ~FakeCluster() {
    for (FakeRowStore* store : stores_) store->Open();
  }

  absl::StatusOr<std::unique_ptr<Client>> Connect(ClientOptions options = {}) const {
    options.servers = addresses();
    return Client::Connect(std::move(options));
  }

  std::vector<std::string> addresses() const {
    std::vector<std::string> addresses;
    for (const auto& server : servers_) addresses.push_back(server->address());
    return addresses;
  }
  FakeRowStore& store(size_t i) { return *stores_[i]; }
  void Kill(size_t i) { servers_[i]->Stop(absl::ZeroDuration(), absl::ZeroDuration()); }
  uint64_t requests() const {
    uint64_t requests = 0;
    for (const FakeRowStore* store : stores_) requests += store->checks();
    return requests;
  }

 private:
  void Start(const Shard& shard) {
    GeometryParams params;
    params.layer_ids = {1, 14};
    params.max_ngram = 3;
    params.heads = 3;
    params.bucket_floors = {1000, 1000};
    params.compressed_vocab = kFakeCompressed;
    params.pad_token = 2;
    auto geometry = Geometry::Derive(params);
    ASSERT_TRUE(geometry.ok()) << geometry.status();
    auto store = std::make_unique<FakeRowStore>(*geometry, PackedFp8Layout(256),
                                                ShardRanges(*geometry, shard));
    stores_.push_back(store.get());
    std::vector<uint32_t> map(kFakeTokens);
    for (uint32_t i = 0; i < kFakeTokens; ++i) map[i] = i % kFakeCompressed;
    ServerOptions options;
    options.listen = "127.0.0.1:0";
    options.threads = 1;
    auto server = Server::Start(
        std::make_shared<const Table>(Table{"fake", *std::move(geometry), *TokenMap::Create(map),
                                            shard, Sha256{}, std::move(store)}),
        options);
    ASSERT_TRUE(server.ok()) << server.status();
    servers_.push_back(*std::move(server));
  }

  std::vector<FakeRowStore*> stores_;  // the servers'
  std::vector<std::unique_ptr<Server>> servers_;
};

// Global row ids [tokens, kFakeColumns] of a whole sequence, hashed at once.
inline std::vector<int64_t> HashWhole(const Client& client, uint32_t layer,
                                      const std::vector<uint32_t>& tokens) {
  const RowHasher hasher = *RowHasher::Create(client.geometry(), *client.token_map()->Compress(2));
  std::vector<uint32_t> compressed;
  for (const uint32_t token : tokens) compressed.push_back(token % kFakeCompressed);
  std::vector<int64_t> ids(tokens.size() * kFakeColumns);
  hasher.HashChunk(*client.geometry().LayerIndex(layer), compressed, {}, LookBack(), ids);
  return ids;
}

// Expects the rows of `ids` [tokens, kFakeColumns] in the slot, as its options place them; -1:
// zeros.
inline void ExpectRows(const Slot& slot, const SlotOptions& options, uint32_t layer,
                       const std::vector<int64_t>& ids) {
  const ColumnRange columns =
      options.columns == ColumnRange{} ? ColumnRange{0, kFakeColumns} : options.columns;
  const size_t tokens = ids.size() / kFakeColumns;
  const size_t value_bytes = options.split_scales ? 256 : kFakeRowBytes;
  const auto text = [](std::span<const uint8_t> bytes) {
    return std::string(bytes.begin(), bytes.end());
  };
  for (size_t token = 0; token < tokens; ++token) {
    for (uint32_t c = columns.begin; c < columns.end; ++c) {
      const std::string row = FakeRowStore::RowBytes(
          layer, static_cast<uint64_t>(ids[token * kFakeColumns + c]), kFakeRowBytes);
      const size_t own = c - columns.begin;
      const size_t place = options.order == RowOrder::kTokenMajor ? token * columns.count() + own
                                                                  : own * tokens + token;
      ASSERT_EQ(text(slot.rows(layer).subspan(place * value_bytes, value_bytes)),
                row.substr(0, value_bytes))
          << "layer " << layer << " token " << token << " column " << c;
      if (!options.split_scales) continue;
      ASSERT_EQ(text(slot.scales(layer).subspan(place * 8, 8)), row.substr(256))
          << "layer " << layer << " token " << token << " column " << c;
    }
  }
}

}  // namespace engram

#endif  // ENGRAM_TESTS_CLUSTER_FAKE_CLUSTER_H_
