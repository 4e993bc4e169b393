// What the tests of slots share: a cluster, a client, and steps of random ids.
#ifndef ENGRAM_TESTS_CLUSTER_SLOT_FIXTURE_H_
#define ENGRAM_TESTS_CLUSTER_SLOT_FIXTURE_H_

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "client/slot.h"
#include "tests/cluster/fake_cluster.h"

namespace engram {

inline uint64_t WordOf(const Slot& slot, uint32_t layer) {
  return std::atomic_ref<uint64_t>(*slot.word(layer)).load(std::memory_order_acquire);
}

// Per-column ids [tokens, 2 layers, kFakeColumns], some of them -1, and the rows that they name.
struct RandomStep {
  RandomStep(const Client& client, uint32_t tokens, uint64_t seed) : tokens(tokens) {
    std::mt19937_64 random(seed);
    for (uint32_t token = 0; token < tokens; ++token) {
      for (size_t layer = 0; layer < 2; ++layer) {
        for (const HashColumn& column : client.geometry().layers()[layer].columns) {
          const bool none = random() % 8 == 0;
          const auto row = static_cast<int64_t>(random() % column.prime);
          per_column.push_back(none ? -1 : row);
          global.push_back(none ? -1 : row + static_cast<int64_t>(column.offset));
          of_layer[layer].push_back(global.back());
        }
      }
    }
  }

  const uint32_t tokens;
  std::vector<int64_t> per_column, global;
  std::vector<int64_t> of_layer[2];
};

class SlotTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(client_, cluster_.Connect({.servers = {}, .rows_per_request = 100}));
  }
  std::unique_ptr<Slot> NewSlot(SlotOptions options = {.max_tokens = 200}) {
    auto slot = Slot::Create(*client_, std::move(options));
    EXPECT_THAT(slot, IsOk());
    return slot.ok() ? *std::move(slot) : nullptr;
  }

  FakeCluster cluster_{3};
  std::unique_ptr<Client> client_;
};

}  // namespace engram

#endif  // ENGRAM_TESTS_CLUSTER_SLOT_FIXTURE_H_
