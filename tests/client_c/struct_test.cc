// The border itself: versions, codes, sizes of structs, arguments that are null.
#include <cstring>

#include "tests/client_c/c_fixture.h"

namespace engram {
namespace {

TEST(AbiTest, TheLibraryIsOfThisHeader) {
  EXPECT_EQ(engram_abi_version(), uint32_t{ENGRAM_ABI_VERSION});
  EXPECT_THAT(engram_version(), testing::MatchesRegex("[0-9]+\\.[0-9]+\\.[0-9]+"));
}

TEST(AbiTest, CodesAreThoseOfGrpc) {
  for (int code = 0; code <= 16; ++code) {
    EXPECT_EQ(engram_code_name(code),
              absl::StatusCodeToString(static_cast<absl::StatusCode>(code)));
  }
  EXPECT_STREQ(engram_code_name(-1), "UNKNOWN");
  EXPECT_STREQ(engram_code_name(17), "UNKNOWN");
  EXPECT_EQ(engram_status_code(nullptr), ENGRAM_OK);
  EXPECT_STREQ(engram_status_message(nullptr), "");
  EXPECT_EQ(engram_status_retry_after_us(nullptr), 0);
  engram_status_free(nullptr);
}

// A struct of ABI 1.0 keeps its size and its fields their places: programs are built with them.
TEST(AbiTest, LayoutsAreThoseOfVersionOne) {
  EXPECT_EQ(sizeof(engram_client_options), 184u);
  EXPECT_EQ(offsetof(engram_client_options, verify_share), 64u);
  EXPECT_EQ(offsetof(engram_client_options, log_user), 176u);
  EXPECT_EQ(sizeof(engram_table_info), 112u);
  EXPECT_EQ(offsetof(engram_table_info, seed), 104u);
  EXPECT_EQ(sizeof(engram_layer_info), 56u);
  EXPECT_EQ(sizeof(engram_lookup_options), 56u);
  EXPECT_EQ(sizeof(engram_step_ids), 56u);
  EXPECT_EQ(sizeof(engram_slot_options), 80u);
  EXPECT_EQ(sizeof(engram_slot_layer_info), 48u);
  EXPECT_EQ(sizeof(engram_prefetch_options), 48u);
  EXPECT_EQ(offsetof(engram_metric, value), 48u);  // the library's own struct: it may grow
  EXPECT_EQ(sizeof(engram_rows), 40u);
  EXPECT_EQ(sizeof(engram_buffer), 24u);
  EXPECT_EQ(sizeof(engram_layer_ids), 32u);
  EXPECT_EQ(sizeof(engram_layer_memory), 32u);
  EXPECT_EQ(sizeof(engram_chunk), 56u);
  EXPECT_EQ(sizeof(engram_lookback), 32u);
}

TEST_F(ClientCTest, StructsOfOtherVersions) {
  // Larger, as a newer header has it; zeros there mean what this library does.
  struct {
    engram_slot_options known = ENGRAM_SLOT_OPTIONS_INIT;
    uint64_t newer = 0;
  } options;
  options.known.max_tokens = 4;
  options.known.struct_size = sizeof(options);
  engram_slot* slot = nullptr;
  ASSERT_FINE(engram_slot_create(client_.get(), &options.known, &slot));
  engram_slot_destroy(slot);
  options.newer = 1;
  EXPECT_THAT(Said(engram_slot_create(client_.get(), &options.known, &slot)),
              IsInvalid("argument `options` has a field at byte 80 that this library"));

  for (const size_t size : {size_t{0}, sizeof(engram_slot_options) - 1, size_t{5000}, ~size_t{0}}) {
    options.known.struct_size = size;
    EXPECT_THAT(Said(engram_slot_create(client_.get(), &options.known, &slot)),
                IsInvalid(absl::StrCat("argument `options`: struct_size is ", size)));
  }

  struct {
    engram_table_info known = ENGRAM_TABLE_INFO_INIT;
    uint64_t newer = 7;
  } table;
  table.known.struct_size = sizeof(table);
  ASSERT_FINE(engram_client_table(client_.get(), &table.known));
  EXPECT_EQ(table.known.struct_size, sizeof(table));
  EXPECT_EQ(table.known.row_bytes, kFakeRowBytes);
  EXPECT_EQ(table.newer, 0u);
  table.known.struct_size = 8;
  EXPECT_THAT(Said(engram_client_table(client_.get(), &table.known)),
              IsInvalid("argument `info`: struct_size is 8"));
}

// Every handle and every pointer that must not be null, named.
TEST_F(ClientCTest, WhatIsNullIsNamed) {
  engram_client* const client = client_.get();
  engram_ticket* const ticket = ticket_.get();
  engram_slot_options slot_options = ENGRAM_SLOT_OPTIONS_INIT;
  slot_options.max_tokens = 4;
  const SlotPtr slot = NewSlot(slot_options);
  engram_lookback state = {};
  engram_client* made = nullptr;
  engram_slot* made_slot = nullptr;
  engram_prefetch* made_prefetch = nullptr;
  engram_client_options options = ENGRAM_CLIENT_OPTIONS_INIT;
  engram_table_info table = ENGRAM_TABLE_INFO_INIT;
  engram_layer_info layer = ENGRAM_LAYER_INFO_INIT;
  engram_slot_layer_info slot_layer = ENGRAM_SLOT_LAYER_INFO_INIT;
  engram_step_ids ids = ENGRAM_STEP_IDS_INIT;
  const uint32_t* map = nullptr;
  size_t tokens = 0;
  uint64_t bytes = 0;
  int32_t done = 0;
  const uint32_t token = 0;
  const auto range = [](void*, uint32_t, uint64_t, uint64_t) {};
  const auto metric = [](void*, const engram_metric*) {};
  const struct {
    const char* argument;
    engram_status* status;
  } kCalls[] = {
      {"options", engram_client_options_init(nullptr)},
      {"options", engram_client_connect(nullptr, &made)},
      {"json", engram_client_connect_json(nullptr, nullptr, nullptr, &made)},
      {"client", engram_client_connect_json("{\"servers\":\"a:1\"}", nullptr, nullptr, nullptr)},
      {"client", engram_client_set_servers(nullptr, nullptr, 0)},
      {"servers", engram_client_set_servers(client, nullptr, 1)},
      {"client", engram_client_table(nullptr, &table)},
      {"info", engram_client_table(client, nullptr)},
      {"client", engram_client_layer(nullptr, 1, &layer)},
      {"info", engram_client_layer(client, 1, nullptr)},
      {"client", engram_client_token_map(nullptr, &map, &tokens)},
      {"compressed", engram_client_token_map(client, nullptr, &tokens)},
      {"tokens", engram_client_token_map(client, &map, nullptr)},
      {"client", engram_client_missing_ranges(nullptr, range, nullptr)},
      {"visit", engram_client_missing_ranges(client, nullptr, nullptr)},
      {"client", engram_client_visit_metrics(nullptr, metric, nullptr)},
      {"visit", engram_client_visit_metrics(client, nullptr, nullptr)},
      {"ticket", engram_ticket_create(nullptr)},
      {"client", engram_client_submit_rows(nullptr, nullptr, 0, nullptr, ticket)},
      {"ticket", engram_client_submit_rows(client, nullptr, 0, nullptr, nullptr)},
      {"layers", engram_client_submit_rows(client, nullptr, 1, nullptr, ticket)},
      {"client", engram_client_submit_ids(nullptr, &ids, nullptr, 0, nullptr, ticket)},
      {"ids", engram_client_submit_ids(client, nullptr, nullptr, 0, nullptr, ticket)},
      {"outputs", engram_client_submit_ids(client, &ids, nullptr, 1, nullptr, ticket)},
      {"ticket", engram_client_submit_ids(client, &ids, nullptr, 0, nullptr, nullptr)},
      {"client", engram_client_submit_tokens(nullptr, &token, 1, nullptr, &state, nullptr, 0,
                                             nullptr, ticket)},
      {"tokens", engram_client_submit_tokens(client, nullptr, 1, nullptr, &state, nullptr, 0,
                                             nullptr, ticket)},
      {"state", engram_client_submit_tokens(client, &token, 1, nullptr, nullptr, nullptr, 0,
                                            nullptr, ticket)},
      {"outputs", engram_client_submit_tokens(client, &token, 1, nullptr, &state, nullptr, 1,
                                              nullptr, ticket)},
      {"ticket", engram_client_submit_tokens(client, &token, 1, nullptr, &state, nullptr, 0,
                                             nullptr, nullptr)},
      {"ticket", engram_ticket_wait(nullptr, 1, 0)},
      {"ticket", engram_ticket_wait_all(nullptr, 0)},
      {"ticket", engram_ticket_done(nullptr, 1, &done)},
      {"done", engram_ticket_done(ticket, 1, nullptr)},
      {"client", engram_slot_host_bytes(nullptr, &slot_options, &bytes)},
      {"options", engram_slot_host_bytes(client, nullptr, &bytes)},
      {"bytes", engram_slot_host_bytes(client, &slot_options, nullptr)},
      {"client", engram_slot_create(nullptr, &slot_options, &made_slot)},
      {"options", engram_slot_create(client, nullptr, &made_slot)},
      {"slot", engram_slot_create(client, &slot_options, nullptr)},
      {"slot", engram_slot_layer(nullptr, 1, &slot_layer)},
      {"info", engram_slot_layer(slot.get(), 1, nullptr)},
      {"slot", engram_slot_submit_ids(nullptr, &ids, nullptr)},
      {"ids", engram_slot_submit_ids(slot.get(), nullptr, nullptr)},
      {"slot", engram_slot_submit_tokens(nullptr, nullptr, 0, nullptr)},
      {"chunks", engram_slot_submit_tokens(slot.get(), nullptr, 1, nullptr)},
      {"slot", engram_slot_wait(nullptr, 1, 0)},
      {"slot", engram_slot_wait_all(nullptr, 0)},
      {"slot", engram_slot_done(nullptr, 1, &done)},
      {"done", engram_slot_done(slot.get(), 1, nullptr)},
      {"slot", engram_slot_cancel(nullptr)},
      {"client",
       engram_prefetch_start(nullptr, &token, 1, nullptr, &state, nullptr, &made_prefetch)},
      {"tokens",
       engram_prefetch_start(client, nullptr, 1, nullptr, &state, nullptr, &made_prefetch)},
      {"state",
       engram_prefetch_start(client, &token, 1, nullptr, nullptr, nullptr, &made_prefetch)},
      {"prefetch", engram_prefetch_start(client, &token, 1, nullptr, &state, nullptr, nullptr)},
      {"prefetch", engram_prefetch_state_at(nullptr, 0, &state)},
      {"prefetch", engram_prefetch_size(nullptr, &tokens, &bytes)},
      {"prefetch", engram_prefetch_wait(nullptr, 0)},
  };
  for (const auto& call : kCalls) {
    EXPECT_THAT(Said(call.status),
                IsInvalid(absl::StrCat("argument `", call.argument, "` is NULL")));
  }
  options.server_count = 1;
  EXPECT_THAT(Said(engram_client_connect(&options, &made)),
              IsInvalid("argument `servers` is NULL"));
  options.server_count = ~size_t{0};
  EXPECT_THAT(Said(engram_client_connect(&options, &made)), IsInvalid("`servers` has 1844"));
  engram_client_destroy(nullptr);
  engram_ticket_destroy(nullptr);
  engram_slot_destroy(nullptr);
  engram_prefetch_destroy(nullptr);
}

}  // namespace
}  // namespace engram
