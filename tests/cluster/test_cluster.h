// Memory servers in this process, on ports of loopback, serving a small synthetic checkpoint.
#ifndef ENGRAM_TESTS_CLUSTER_TEST_CLUSTER_H_
#define ENGRAM_TESTS_CLUSTER_TEST_CLUSTER_H_

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "service/server.h"
#include "storage/synth.h"
#include "storage/synth_rows.h"
#include "storage/table.h"
#include "tests/support/checkpoint_builder.h"
#include "tests/support/disturbed_row_store.h"

namespace engram {

class TestCluster {
 public:
  // Server i serves shard i modulo `shards`.
  explicit TestCluster(uint32_t shards, uint64_t seed = 0, uint32_t replicas = 1,
                       SecurityOptions security = {})
      : shards_(shards),
        security_(std::move(security)),
        servers_(shards * replicas),
        addresses_(servers_.size()) {
    for (size_t i = 0; i < servers_.size(); ++i) {
      disturbances_.push_back(std::make_shared<Disturbance>());
    }
    const absl::Status status =
        Synthesize({.out = checkpoint(), .bucket_floor = 200, .seed = seed, .tokenizer = ""});
    EXPECT_TRUE(status.ok()) << status;
    for (uint32_t i = 0; i < servers_.size(); ++i) Start(i, "127.0.0.1:0");
  }

  // Starts server i (again). The address stays that of the first start when `listen` is empty.
  void Start(uint32_t i, std::string listen = "") {
    if (listen.empty()) listen = addresses_[i];
    auto table = LoadTable({.checkpoint = checkpoint(),
                            .sidecar = "",
                            .shard = {i % shards_, shards_},
                            .expect_digest = std::nullopt,
                            .threads = 1,
                            .log = nullptr});
    ASSERT_TRUE(table.ok()) << table.status();
    ServerOptions options;
    options.listen = listen;
    options.security = security_;
    options.threads = 1;
    options.max_rows_per_request = 4096;
    table->rows = std::make_unique<DisturbedRowStore>(std::move(table->rows), disturbances_[i]);
    auto server = Server::Start(std::make_shared<const Table>(*std::move(table)), options);
    ASSERT_TRUE(server.ok()) << server.status();
    servers_[i] = *std::move(server);
    addresses_[i] = servers_[i]->address();
  }

  void Kill(uint32_t i) { servers_[i].reset(); }
  // What is wrong with server i's rows, from now on and when it is started again.
  Disturbance& disturbance(uint32_t i) { return *disturbances_[i]; }
  Server& server(uint32_t i) { return *servers_[i]; }
  const std::vector<std::string>& addresses() const { return addresses_; }
  std::string checkpoint() const { return directory_.File("checkpoint"); }

 private:
  const TempDir directory_;
  const uint32_t shards_;
  const SecurityOptions security_;
  std::vector<std::unique_ptr<Server>> servers_;
  std::vector<std::string> addresses_;
  std::vector<std::shared_ptr<Disturbance>> disturbances_;
};

}  // namespace engram

#endif  // ENGRAM_TESTS_CLUSTER_TEST_CLUSTER_H_
