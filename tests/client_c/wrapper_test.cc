// engram_client.hpp: that each call goes where it says, and handles end themselves.
#include "client/c/engram_client.hpp"
#include "tests/client_c/c_fixture.h"

namespace engram {
namespace {

using client::Client;
using client::Prefetch;
using client::Result;
using client::Slot;
using client::Status;

class WrapperTest : public ClientCTest {
 protected:
  void SetUp() override {
    auto connected = Client::ConnectJson(
        absl::StrCat("{\"servers\": \"", absl::StrJoin(cluster_.addresses(), ","), "\"}"));
    ASSERT_TRUE(connected.ok()) << connected.status().ToString();
    wrapped_ = std::move(*connected);
  }
  Client wrapped_;
};

TEST_F(WrapperTest, LooksUp) {
  client::Ticket ticket;
  const std::vector<int64_t> ids = {4, -1};
  std::vector<uint8_t> out(2 * kFakeRowBytes);
  const engram_rows rows{1, 0, ids.data(), ids.size(), out.data(), out.size()};
  ASSERT_TRUE(wrapped_.SubmitRows({&rows, 1}, ticket).ok());
  ASSERT_TRUE(ticket.Wait(1).ok());
  ASSERT_TRUE(ticket.WaitAll().ok());
  EXPECT_TRUE(ticket.Done(1));
  EXPECT_FALSE(ticket.Done(14));
  EXPECT_EQ(Text(out), Rows(1, ids));

  const engram_layer_ids layer{ids.data(), 8, 0, 0, 0};
  engram_step_ids step = ENGRAM_STEP_IDS_INIT;
  step.layers = &layer;
  step.layer_count = 1;
  step.tokens = 1;
  out.assign(kFakeColumns * kFakeRowBytes, 0);
  const engram_buffer output{1, 0, out.data(), out.size()};
  ASSERT_TRUE(wrapped_.SubmitIds(step, {&output, 1}, ticket).ok());
  ASSERT_TRUE(ticket.WaitAll().ok());
  EXPECT_EQ(Text(out), Rows(1, std::vector<int64_t>(kFakeColumns, 4)));

  engram_lookback state{};
  const uint32_t token = 9;
  ASSERT_TRUE(wrapped_.SubmitTokens({&token, 1}, nullptr, state, {&output, 1}, ticket).ok());
  ASSERT_TRUE(ticket.WaitAll(std::chrono::seconds(20)).ok());
  EXPECT_EQ(state.depth, 1u);
}

TEST_F(WrapperTest, StepsAndPrefetches) {
  engram_slot_options options = ENGRAM_SLOT_OPTIONS_INIT;
  options.max_tokens = 4;
  ASSERT_TRUE(wrapped_.SlotHostBytes(options).ok());
  Result<Slot> slot = wrapped_.MakeSlot(options);
  ASSERT_TRUE(slot.ok());
  engram_lookback state{};
  const std::vector<uint32_t> tokens = {1, 2, 3};
  Result<Prefetch> prefetch = wrapped_.StartPrefetch(tokens, nullptr, state);
  ASSERT_TRUE(prefetch.ok());
  ASSERT_TRUE(prefetch->Wait().ok());
  const auto after = prefetch->StateAt(1);
  ASSERT_TRUE(after.ok());
  EXPECT_EQ((*after).depth, 1u);
  EXPECT_EQ(prefetch->StateAt(4).status().code(), ENGRAM_INVALID_ARGUMENT);
  const engram_chunk chunk = prefetch->Range(0, 3);
  ASSERT_TRUE(slot->SubmitTokens({&chunk, 1}).ok());
  ASSERT_TRUE(slot->Wait(1).ok());
  ASSERT_TRUE(slot->WaitAll().ok());
  EXPECT_TRUE(slot->Done(14));
  EXPECT_FALSE(slot->Done(2));
  EXPECT_EQ(*slot->Layer(14)->word, ENGRAM_WORD_READY);
  EXPECT_EQ(slot->Layer(2).status().code(), ENGRAM_NOT_FOUND);
  EXPECT_TRUE(slot->Cancel().ok());
  EXPECT_EQ(slot->SubmitIds(ENGRAM_STEP_IDS_INIT).code(), ENGRAM_INVALID_ARGUMENT);
}

TEST_F(WrapperTest, SaysWhatTheClientKnows) {
  EXPECT_EQ(wrapped_.Table()->row_bytes, kFakeRowBytes);
  EXPECT_EQ(wrapped_.Layer(14)->layer, 14u);
  EXPECT_EQ(wrapped_.Layer(2).status().code(), ENGRAM_NOT_FOUND);
  EXPECT_EQ(wrapped_.TokenMap()->size, kFakeTokens);
  size_t metrics = 0, ranges = 0;
  ASSERT_TRUE(wrapped_.VisitMetrics([&](const engram_metric&) { ++metrics; }).ok());
  EXPECT_GT(metrics, 12u);
  ASSERT_TRUE(wrapped_.VisitMissingRanges([&](uint32_t, uint64_t, uint64_t) { ++ranges; }).ok());
  EXPECT_EQ(ranges, 0u);
  EXPECT_EQ(wrapped_.SetServers({}).code(), ENGRAM_INVALID_ARGUMENT);
}

TEST_F(WrapperTest, WhatHoldsNothingSaysSo) {
  Client moved = std::move(wrapped_);
  EXPECT_TRUE(moved.Table().ok());
  const Status status = wrapped_.Table().status();  // NOLINT: that is what is tested
  EXPECT_EQ(status.ToString(), "INVALID_ARGUMENT: argument `client` is NULL");
  EXPECT_EQ(Status().ToString(), "OK");
  EXPECT_EQ(Slot().WaitAll().code(), ENGRAM_INVALID_ARGUMENT);
  EXPECT_EQ(Prefetch().Wait().code(), ENGRAM_INVALID_ARGUMENT);
  EXPECT_EQ(Client::Connect(ENGRAM_CLIENT_OPTIONS_INIT).status().code(), ENGRAM_INVALID_ARGUMENT);
  EXPECT_EQ(Client::ConnectJson("[]").status().code(), ENGRAM_INVALID_ARGUMENT);
}

}  // namespace
}  // namespace engram
