// Prefetches: chunks of them in steps, drafts, and what is wrong with them.
#include "tests/client_c/c_fixture.h"

namespace engram {
namespace {

class PrefetchCTest : public ClientCTest {
 protected:
  PrefetchPtr Start(const std::vector<uint32_t>& tokens, engram_lookback& state,
                    const engram_prefetch_options* options = nullptr) {
    engram_prefetch* made = nullptr;
    const Said said(engram_prefetch_start(client_.get(), tokens.data(), tokens.size(), nullptr,
                                          &state, options, &made));
    EXPECT_TRUE(said.ok()) << said;
    return PrefetchPtr(made);
  }

  const std::vector<uint32_t> tokens_ = {5, 6, 7, 61, 9, 10};
};

TEST_F(PrefetchCTest, StepsTakeChunksOfIt) {
  engram_slot_options options = ENGRAM_SLOT_OPTIONS_INIT;
  options.max_tokens = 10;
  const SlotPtr slot = NewSlot(options);
  engram_slot_layer_info info = ENGRAM_SLOT_LAYER_INFO_INIT;
  ASSERT_FINE(engram_slot_layer(slot.get(), 1, &info));
  engram_lookback state = {};
  PrefetchPtr prefetch = Start(tokens_, state);
  size_t tokens = 0;
  uint64_t bytes = 0;
  ASSERT_FINE(engram_prefetch_size(prefetch.get(), &tokens, &bytes));
  EXPECT_EQ(tokens, tokens_.size());
  EXPECT_EQ(bytes, 2 * tokens_.size() * kFakeColumns * kFakeRowBytes);
  ASSERT_FINE(engram_prefetch_size(prefetch.get(), nullptr, nullptr));
  ASSERT_FINE(engram_prefetch_wait(prefetch.get(), ENGRAM_FOREVER));
  const uint64_t requests = cluster_.requests();
  const engram_chunk chunks[] = {{nullptr, 0, nullptr, nullptr, prefetch.get(), 4, 2},
                                 {nullptr, 0, nullptr, nullptr, prefetch.get(), 0, 4}};
  ASSERT_FINE(engram_slot_submit_tokens(slot.get(), chunks, 2, nullptr));
  prefetch.reset();
  ASSERT_FINE(engram_slot_wait_all(slot.get(), ENGRAM_FOREVER));
  EXPECT_EQ(cluster_.requests(), requests);
  std::vector<int64_t> ids = Hash(1, tokens_);
  std::rotate(ids.begin(), ids.begin() + 4 * kFakeColumns, ids.end());
  EXPECT_EQ(std::string(info.rows, info.rows + ids.size() * kFakeRowBytes), Rows(1, ids));
}

TEST_F(PrefetchCTest, ADraftsStateIsWhereItWasAccepted) {
  engram_lookback state = {}, whole = {}, accepted = {}, part = {};
  const PrefetchPtr prefetch = Start(tokens_, state);
  ASSERT_FINE(engram_prefetch_state_at(prefetch.get(), tokens_.size(), &whole));
  EXPECT_EQ(memcmp(&whole, &state, sizeof(state)), 0);
  ASSERT_FINE(engram_prefetch_state_at(prefetch.get(), 2, &accepted));
  Start({tokens_[0], tokens_[1]}, part);
  EXPECT_EQ(memcmp(&accepted, &part, sizeof(part)), 0);
  EXPECT_THAT(Said(engram_prefetch_state_at(prefetch.get(), 7, &state)),
              IsInvalid("7 tokens of a prefetch of 6"));
}

TEST_F(PrefetchCTest, WhatIsWrongIsNamed) {
  engram_lookback state = {};
  engram_prefetch* made = nullptr;
  const auto refused = [&](auto change, const std::vector<uint32_t>& tokens) {
    engram_prefetch_options options = ENGRAM_PREFETCH_OPTIONS_INIT;
    change(options);
    return Said(engram_prefetch_start(client_.get(), tokens.data(), tokens.size(), nullptr, &state,
                                      &options, &made));
  };
  const uint32_t layer = 2;
  EXPECT_THAT(refused([](auto&) {}, {kFakeTokens}), IsInvalid("token id 64"));
  EXPECT_THAT(refused([](auto& o) { o.columns = {5, 4}; }, tokens_), IsInvalid("columns [5, 4)"));
  EXPECT_THAT(refused([](auto& o) { o.priority = -1; }, tokens_), IsInvalid("`priority` is -1"));
  EXPECT_THAT(refused([](auto& o) { o.timeout_us = -1; }, tokens_), IsInvalid("`timeout`"));
  EXPECT_THAT(refused([](auto& o) { o.struct_size = 1; }, tokens_), IsInvalid("struct_size is 1"));
  EXPECT_THAT(refused([&](auto& o) { o.layers = &layer, o.layer_count = 1; }, tokens_),
              Is(ENGRAM_NOT_FOUND, "layer 2"));
  EXPECT_EQ(state.depth, 0u);

  engram_client_options options = ENGRAM_CLIENT_OPTIONS_INIT;
  options.max_prefetch_bytes = 1000;
  Connect(options);
  EXPECT_THAT(refused([](auto&) {}, tokens_), Is(ENGRAM_RESOURCE_EXHAUSTED, "max_prefetch_bytes"));
}

TEST_F(PrefetchCTest, OneThatCannotComeTimesOut) {
  for (size_t i = 0; i < 3; ++i) cluster_.store(i).Close();
  engram_lookback state = {};
  engram_prefetch_options options = ENGRAM_PREFETCH_OPTIONS_INIT;
  options.priority = ENGRAM_PRIORITY_DECODE;
  options.timeout_us = 5000;
  const PrefetchPtr prefetch = Start(tokens_, state, &options);
  EXPECT_THAT(Said(engram_prefetch_wait(prefetch.get(), ENGRAM_FOREVER)),
              Is(ENGRAM_DEADLINE_EXCEEDED, "layer 1"));
  const PrefetchPtr dropped = Start(tokens_, state);
  EXPECT_THAT(Said(engram_prefetch_wait(dropped.get(), 0)), Is(ENGRAM_DEADLINE_EXCEEDED, ""));
}

}  // namespace
}  // namespace engram
