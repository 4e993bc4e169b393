// What the tests of the C ABI share: a cluster, a client, and statuses that free themselves.
#ifndef ENGRAM_TESTS_CLIENT_C_C_FIXTURE_H_
#define ENGRAM_TESTS_CLIENT_C_C_FIXTURE_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/c/engram_client.h"
#include "tests/cluster/fake_cluster.h"

namespace engram {

// What a call has returned, taken over and freed.
struct Said {
  Said(engram_status* status)  // NOLINT: as calls return it
      : code(engram_status_code(status)),
        message(engram_status_message(status)),
        retry_after_us(engram_status_retry_after_us(status)) {
    engram_status_free(status);
  }
  bool ok() const { return code == ENGRAM_OK; }

  engram_code code;
  std::string message;
  int64_t retry_after_us;
};
inline std::ostream& operator<<(std::ostream& out, const Said& said) {
  return out << engram_code_name(said.code) << ": " << said.message;
}

inline testing::Matcher<Said> Is(engram_code code, const std::string& text) {
  return testing::AllOf(testing::Field(&Said::code, code),
                        testing::Field(&Said::message, testing::HasSubstr(text)));
}
inline testing::Matcher<Said> IsInvalid(const std::string& text) {
  return Is(ENGRAM_INVALID_ARGUMENT, text);
}
MATCHER(IsFine, "") { return Said(arg).ok(); }

template <auto Destroy>
struct Destroyer {
  template <typename T>
  void operator()(T* handle) const {
    Destroy(handle);
  }
};
using ClientPtr = std::unique_ptr<engram_client, Destroyer<engram_client_destroy>>;
using TicketPtr = std::unique_ptr<engram_ticket, Destroyer<engram_ticket_destroy>>;
using SlotPtr = std::unique_ptr<engram_slot, Destroyer<engram_slot_destroy>>;
using PrefetchPtr = std::unique_ptr<engram_prefetch, Destroyer<engram_prefetch_destroy>>;

#define ASSERT_FINE(call)             \
  do {                                \
    const ::engram::Said said_(call); \
    ASSERT_TRUE(said_.ok()) << said_; \
  } while (false)

class ClientCTest : public testing::Test {
 protected:
  void SetUp() override {
    engram_client_options options = ENGRAM_CLIENT_OPTIONS_INIT;
    Connect(options);
    engram_ticket* ticket = nullptr;
    ASSERT_FINE(engram_ticket_create(&ticket));
    ticket_.reset(ticket);
  }

  void Connect(engram_client_options options) {
    const std::vector<std::string> addresses = cluster_.addresses();
    std::vector<const char*> servers;
    for (const std::string& address : addresses) servers.push_back(address.c_str());
    options.servers = servers.data();
    options.server_count = servers.size();
    engram_client* client = nullptr;
    ASSERT_FINE(engram_client_connect(&options, &client));
    client_.reset(client);
  }

  SlotPtr NewSlot(const engram_slot_options& options) {
    engram_slot* slot = nullptr;
    const Said said(engram_slot_create(client_.get(), &options, &slot));
    EXPECT_TRUE(said.ok()) << said;
    return SlotPtr(slot);
  }

  engram_layer_info Layer(uint32_t layer) const {
    engram_layer_info info = ENGRAM_LAYER_INFO_INIT;
    EXPECT_TRUE(Said(engram_client_layer(client_.get(), layer, &info)).ok());
    return info;
  }

  static std::string Row(uint32_t layer, int64_t id) {
    return FakeRowStore::RowBytes(layer, static_cast<uint64_t>(id), kFakeRowBytes);
  }
  static std::string Rows(uint32_t layer, const std::vector<int64_t>& ids) {
    std::string rows;
    for (const int64_t id : ids) rows += Row(layer, id);
    return rows;
  }
  static std::string Text(const std::vector<uint8_t>& bytes) {
    return std::string(bytes.begin(), bytes.end());
  }

  // Global ids of both layers' rows for a sequence, hashed here.
  std::vector<int64_t> Hash(uint32_t layer, const std::vector<uint32_t>& tokens) const {
    GeometryParams params;
    engram_table_info table = ENGRAM_TABLE_INFO_INIT;
    EXPECT_TRUE(Said(engram_client_table(client_.get(), &table)).ok());
    params.layer_ids.assign(table.layers, table.layers + table.layer_count);
    params.max_ngram = table.max_ngram;
    params.heads = table.heads;
    params.bucket_floors = {1000, 1000};
    params.compressed_vocab = table.compressed_vocab;
    params.pad_token = table.pad_token;
    params.seed = table.seed;
    const Geometry geometry = *Geometry::Derive(params);
    const RowHasher hasher = *RowHasher::Create(geometry, params.pad_token);
    std::vector<uint32_t> compressed;
    for (const uint32_t token : tokens) compressed.push_back(token % kFakeCompressed);
    std::vector<int64_t> ids(tokens.size() * kFakeColumns);
    hasher.HashChunk(*geometry.LayerIndex(layer), compressed, {}, LookBack(), ids);
    return ids;
  }

  FakeCluster cluster_{3};
  ClientPtr client_;
  TicketPtr ticket_;
};

}  // namespace engram

#endif  // ENGRAM_TESTS_CLIENT_C_C_FIXTURE_H_
