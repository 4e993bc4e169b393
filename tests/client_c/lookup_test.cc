// Tickets: rows by ids of every kind and by tokens, and what is wrong with a lookup.
#include "proto/base/retry_after.h"
#include "tests/client_c/c_fixture.h"

namespace engram {
namespace {

TEST_F(ClientCTest, RowsComeInRequestOrder) {
  const std::vector<int64_t> first = {5, -1, 0, 2999}, second = {7};
  std::vector<uint8_t> out_first(4 * kFakeRowBytes, 0xA5), out_second(kFakeRowBytes, 0xA5);
  const engram_rows layers[] = {{14, 0, second.data(), 1, out_second.data(), out_second.size()},
                                {1, 0, first.data(), 4, out_first.data(), out_first.size()}};
  for (int round = 0; round < 3; ++round) {
    ASSERT_FINE(engram_client_submit_rows(client_.get(), layers, 2, nullptr, ticket_.get()));
    ASSERT_FINE(engram_ticket_wait(ticket_.get(), 1, ENGRAM_FOREVER));
    ASSERT_FINE(engram_ticket_wait_all(ticket_.get(), ENGRAM_FOREVER));
    int32_t done = 0;
    ASSERT_FINE(engram_ticket_done(ticket_.get(), 14, &done));
    EXPECT_EQ(done, 1);
    ASSERT_FINE(engram_ticket_done(ticket_.get(), 2, &done));
    EXPECT_EQ(done, 0);
    EXPECT_EQ(Text(out_first), Rows(1, first));
    EXPECT_EQ(Text(out_second), Rows(14, second));
  }
  EXPECT_THAT(Said(engram_ticket_wait(ticket_.get(), 2, 0)), Is(ENGRAM_NOT_FOUND, "layer 2"));
}

TEST_F(ClientCTest, WhatThereIsNoRoomForSaysWhenToTryAgain) {
  const std::vector<int64_t> ids = {5};
  std::vector<uint8_t> out(kFakeRowBytes);
  const engram_rows rows = {1, 0, ids.data(), 1, out.data(), out.size()};
  const auto look_up = [&](const absl::Status& status) {
    cluster_.store(0).FailWith(status);
    EXPECT_THAT(engram_client_submit_rows(client_.get(), &rows, 1, nullptr, ticket_.get()),
                IsFine());
    return Said(engram_ticket_wait_all(ticket_.get(), ENGRAM_FOREVER));
  };
  EXPECT_EQ(look_up(absl::DataLossError("lost")).retry_after_us, 0);
  const Said refused =
      look_up(WithRetryAfter(absl::ResourceExhaustedError("no room"), absl::Milliseconds(3)));
  EXPECT_THAT(refused, Is(ENGRAM_RESOURCE_EXHAUSTED, "no room"));
  EXPECT_EQ(refused.retry_after_us, 3000);
}

TEST_F(ClientCTest, IdsOfEveryWidthStrideAndBase) {
  constexpr uint32_t kTokens = 5;
  // Per-column ids [layers, columns, tokens] of int32, as an engine that keeps columns apart.
  std::vector<int32_t> ids(2 * kFakeColumns * kTokens);
  std::vector<int64_t> global[2];
  const engram_layer_info info[] = {Layer(1), Layer(14)};
  const std::vector<uint8_t> mask = {0, 0, 1, 0, 0};
  for (uint32_t layer = 0; layer < 2; ++layer) {
    for (uint32_t token = 0; token < kTokens; ++token) {
      for (uint32_t c = 0; c < kFakeColumns; ++c) {
        int32_t& id = ids[(layer * kFakeColumns + c) * kTokens + token];
        id = token == 1 ? -1 : static_cast<int32_t>(100 * token + c);
        const bool none = id == -1 || mask[token] != 0;
        global[layer].push_back(none ? -1 : id + static_cast<int64_t>(info[layer].column_first[c]));
      }
    }
  }
  const engram_layer_ids layers[] = {{ids.data(), 4, 0, 1, kTokens},
                                     {ids.data() + kFakeColumns * kTokens, 4, 0, 1, kTokens}};
  engram_step_ids step = ENGRAM_STEP_IDS_INIT;
  step.layers = layers;
  step.layer_count = 2;
  step.mask = mask.data();
  step.mask_count = kTokens;
  step.tokens = kTokens;
  step.per_column = 1;
  std::vector<uint8_t> out[2];
  for (auto& bytes : out) bytes.assign(kTokens * kFakeColumns * kFakeRowBytes, 0xA5);
  engram_buffer outputs[] = {{1, 0, out[0].data(), out[0].size()},
                             {14, 0, out[1].data(), out[1].size()}};
  ASSERT_FINE(engram_client_submit_ids(client_.get(), &step, outputs, 2, nullptr, ticket_.get()));
  ASSERT_FINE(engram_ticket_wait_all(ticket_.get(), ENGRAM_FOREVER));
  EXPECT_EQ(Text(out[0]), Rows(1, global[0]));
  EXPECT_EQ(Text(out[1]), Rows(14, global[1]));

  // Ids and outputs go together by place, in whatever order layers stand.
  const engram_layer_ids turned[] = {{global[1].data(), 8, 0, kFakeColumns, 1},
                                     {global[0].data(), 8, 0, kFakeColumns, 1}};
  step.layers = turned;
  step.per_column = 0;
  step.mask_count = 0;
  std::swap(outputs[0], outputs[1]);
  std::fill(out[0].begin(), out[0].end(), uint8_t{0xA5});
  ASSERT_FINE(engram_client_submit_ids(client_.get(), &step, outputs, 2, nullptr, ticket_.get()));
  ASSERT_FINE(engram_ticket_wait_all(ticket_.get(), ENGRAM_FOREVER));
  EXPECT_EQ(Text(out[0]), Rows(1, global[0]));
  EXPECT_EQ(Text(out[1]), Rows(14, global[1]));

  const auto refused = [&](auto change) {
    engram_step_ids wrong = step;
    engram_layer_ids wrong_layers[] = {turned[0], turned[1]};
    wrong.layers = wrong_layers;
    change(wrong, wrong_layers[0]);
    return Said(
        engram_client_submit_ids(client_.get(), &wrong, outputs, 2, nullptr, ticket_.get()));
  };
  EXPECT_THAT(refused([](auto& s, auto&) { s.layer_count = 1; }), IsInvalid("ids of 1 layers"));
  EXPECT_THAT(refused([](auto&, auto& l) { l.id_bytes = 2; }), IsInvalid("id_bytes is 2"));
  EXPECT_THAT(refused([](auto&, auto& l) { l.ids = nullptr; }), IsInvalid("its ids are null"));
  EXPECT_THAT(refused([](auto&, auto& l) { l.ids = static_cast<const char*>(l.ids) + 4; }),
              IsInvalid("is not aligned to its 8 bytes"));
  EXPECT_THAT(refused([](auto& s, auto&) { s.mask_count = 4; }), IsInvalid("a mask of 4 for 5"));
  EXPECT_THAT(refused([](auto& s, auto&) { s.tokens = 4; }), IsInvalid("the buffer has"));
}

TEST_F(ClientCTest, TokensInChunksAreTheSequence) {
  const std::vector<uint32_t> tokens = {3, 61, 7, 7, 20, 5, 63};
  const std::vector<int64_t> ids = Hash(14, tokens);
  engram_lookback state = {};
  for (size_t begin = 0; begin < tokens.size();) {
    const size_t count = std::min<size_t>(begin + 1, tokens.size() - begin);
    std::vector<uint8_t> out(count * kFakeColumns * kFakeRowBytes, 0xA5);
    const engram_buffer output = {14, 0, out.data(), out.size()};
    ASSERT_FINE(engram_client_submit_tokens(client_.get(), &tokens[begin], count, nullptr, &state,
                                            &output, 1, nullptr, ticket_.get()));
    ASSERT_FINE(engram_ticket_wait(ticket_.get(), 14, ENGRAM_FOREVER));
    const auto* const from = &ids[begin * kFakeColumns];
    EXPECT_EQ(Text(out), Rows(14, {from, from + count * kFakeColumns}));
    begin += count;
  }
  std::vector<uint8_t> out(kFakeColumns * kFakeRowBytes, 0xA5);
  const engram_buffer output = {14, 0, out.data(), out.size()};
  const uint8_t dead = 1;
  const uint32_t beyond = kFakeTokens;
  const engram_lookback before = state;
  EXPECT_THAT(Said(engram_client_submit_tokens(client_.get(), &beyond, 1, nullptr, &state, &output,
                                               1, nullptr, ticket_.get())),
              IsInvalid("token id 64 at position 0"));
  EXPECT_EQ(memcmp(&state, &before, sizeof(state)), 0);
  ASSERT_FINE(engram_client_submit_tokens(client_.get(), &beyond, 1, &dead, &state, &output, 1,
                                          nullptr, ticket_.get()));
  ASSERT_FINE(engram_ticket_wait(ticket_.get(), 14, ENGRAM_FOREVER));
  EXPECT_EQ(Text(out), std::string(out.size(), '\0'));
  EXPECT_EQ(state.depth, 0u);

  for (const engram_lookback& wrong : {engram_lookback{99, {}}, engram_lookback{1, {60}}}) {
    state = wrong;
    EXPECT_THAT(Said(engram_client_submit_tokens(client_.get(), tokens.data(), 1, nullptr, &state,
                                                 &output, 1, nullptr, ticket_.get())),
                IsInvalid("argument `state` is no look-back state"));
  }
}

TEST_F(ClientCTest, WhatIsWrongWithALookup) {
  std::vector<int64_t> ids = {1, 2};
  std::vector<uint8_t> out(2 * kFakeRowBytes);
  const engram_rows good = {1, 0, ids.data(), 2, out.data(), out.size()};
  const auto submit = [&](std::vector<engram_rows> layers,
                          engram_lookup_options options = ENGRAM_LOOKUP_OPTIONS_INIT) {
    return Said(engram_client_submit_rows(client_.get(), layers.data(), layers.size(), &options,
                                          ticket_.get()));
  };
  const auto change = [&](auto with) {
    engram_rows rows = good;
    with(rows);
    return rows;
  };
  EXPECT_THAT(submit({}), IsInvalid("at least one layer"));
  EXPECT_THAT(submit(std::vector<engram_rows>(300, good)), IsInvalid("`layers` has 300 elements"));
  EXPECT_THAT(submit({good, good}), IsInvalid("layer 1 stands twice"));
  EXPECT_THAT(submit({change([](auto& r) { r.layer = 2; })}), Is(ENGRAM_NOT_FOUND, "layer 2"));
  EXPECT_THAT(submit({change([](auto& r) { --r.out_bytes; })}), IsInvalid("the buffer has 527"));
  EXPECT_THAT(submit({change([](auto& r) { r.ids = nullptr; })}), IsInvalid("`ids` of element 0"));
  EXPECT_THAT(submit({change([](auto& r) { r.out = nullptr; })}), IsInvalid("`out` of element 0"));
  // Refused, the ticket is empty.
  EXPECT_THAT(Said(engram_ticket_wait(ticket_.get(), 1, 0)),
              Is(ENGRAM_FAILED_PRECONDITION, "the ticket is empty"));

  engram_lookup_options options = ENGRAM_LOOKUP_OPTIONS_INIT;
  options.timeout_us = -1;
  EXPECT_THAT(submit({good}, options), IsInvalid("`timeout` is not positive"));
  options = ENGRAM_LOOKUP_OPTIONS_INIT;
  options.priority = 9;
  EXPECT_THAT(submit({good}, options), IsInvalid("`priority` is 9"));
  options = ENGRAM_LOOKUP_OPTIONS_INIT;
  options.missing = 9;
  EXPECT_THAT(submit({good}, options), IsInvalid("`missing` is 9"));
  options.missing = ENGRAM_MISSING_ZEROS;
  EXPECT_THAT(submit({good}, options), IsInvalid("needs `degraded`"));
  options = ENGRAM_LOOKUP_OPTIONS_INIT;
  options.degraded_count = 1;
  EXPECT_THAT(submit({good}, options), IsInvalid("`options->degraded` is NULL"));

  ids[1] = static_cast<int64_t>(Layer(1).rows);
  ASSERT_TRUE(submit({good}).ok());
  EXPECT_THAT(Said(engram_ticket_wait(ticket_.get(), 1, ENGRAM_FOREVER)),
              Is(ENGRAM_OUT_OF_RANGE, "position 1"));
}

TEST_F(ClientCTest, TimeoutsAndEnds) {
  const std::vector<int64_t> ids = {1};
  std::vector<uint8_t> out(kFakeRowBytes);
  const engram_rows rows = {1, 0, ids.data(), 1, out.data(), out.size()};
  for (size_t i = 0; i < 3; ++i) cluster_.store(i).Close();
  ASSERT_FINE(engram_client_submit_rows(client_.get(), &rows, 1, nullptr, ticket_.get()));
  // The wait's own deadline leaves the lookup running.
  EXPECT_THAT(Said(engram_ticket_wait(ticket_.get(), 1, 0)),
              Is(ENGRAM_DEADLINE_EXCEEDED, "not there yet"));
  EXPECT_THAT(Said(engram_ticket_wait_all(ticket_.get(), 1000)),
              Is(ENGRAM_DEADLINE_EXCEEDED, "not there yet"));
  cluster_.store(0).Open();
  EXPECT_THAT(Said(engram_ticket_wait(ticket_.get(), 1, ENGRAM_FOREVER)), IsFine());
  EXPECT_EQ(Text(out), Rows(1, ids));
  cluster_.store(0).Close();

  engram_lookup_options options = ENGRAM_LOOKUP_OPTIONS_INIT;
  options.timeout_us = 1000;
  ASSERT_FINE(engram_client_submit_rows(client_.get(), &rows, 1, &options, ticket_.get()));
  EXPECT_THAT(Said(engram_ticket_wait(ticket_.get(), 1, ENGRAM_FOREVER)),
              Is(ENGRAM_DEADLINE_EXCEEDED, "layer 1"));

  // A ticket that is used again, or outlives its client.
  ASSERT_FINE(engram_client_submit_rows(client_.get(), &rows, 1, nullptr, ticket_.get()));
  ASSERT_FINE(engram_client_submit_rows(client_.get(), &rows, 1, nullptr, ticket_.get()));
  client_.reset();
  EXPECT_THAT(Said(engram_ticket_wait(ticket_.get(), 1, ENGRAM_FOREVER)), Is(ENGRAM_CANCELLED, ""));
}

TEST_F(ClientCTest, TheClientsOwnTimeoutAndChoiceForMissingRows) {
  engram_client_options options = ENGRAM_CLIENT_OPTIONS_INIT;
  options.lookup_timeout_us = 1000;
  options.missing_rows = ENGRAM_MISSING_ZEROS;
  Connect(options);
  for (size_t i = 0; i < 3; ++i) cluster_.store(i).Close();
  const std::vector<int64_t> ids(kFakeColumns, 1);
  std::vector<uint8_t> out(ids.size() * kFakeRowBytes, 0xA5);
  const engram_rows rows = {1, 0, ids.data(), ids.size(), out.data(), out.size()};
  engram_lookup_options lookup = ENGRAM_LOOKUP_OPTIONS_INIT;
  uint8_t degraded = 7;
  lookup.degraded = &degraded;
  lookup.degraded_count = 1;
  ASSERT_FINE(engram_client_submit_rows(client_.get(), &rows, 1, &lookup, ticket_.get()));
  ASSERT_FINE(engram_ticket_wait(ticket_.get(), 1, ENGRAM_FOREVER));
  EXPECT_EQ(degraded, 1);
  EXPECT_EQ(Text(out), std::string(out.size(), '\0'));
  lookup.missing = ENGRAM_MISSING_FAIL;
  ASSERT_FINE(engram_client_submit_rows(client_.get(), &rows, 1, &lookup, ticket_.get()));
  EXPECT_THAT(Said(engram_ticket_wait(ticket_.get(), 1, ENGRAM_FOREVER)),
              Is(ENGRAM_DEADLINE_EXCEEDED, "layer 1"));
}

TEST_F(ClientCTest, ServersThatAreGoneAreUnavailable) {
  const std::vector<int64_t> ids = {1};
  std::vector<uint8_t> out(kFakeRowBytes);
  const engram_rows rows = {1, 0, ids.data(), 1, out.data(), out.size()};
  cluster_.Kill(0);
  ASSERT_FINE(engram_client_submit_rows(client_.get(), &rows, 1, nullptr, ticket_.get()));
  EXPECT_THAT(Said(engram_ticket_wait(ticket_.get(), 1, ENGRAM_FOREVER)),
              Is(ENGRAM_UNAVAILABLE, "layer 1"));
}

}  // namespace
}  // namespace engram
