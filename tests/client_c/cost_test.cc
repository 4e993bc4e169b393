// The C ABI adds no allocation to a call.
#include "client/client.h"
#include "client/slot.h"
#include "tests/client_c/c_fixture.h"
#include "tests/client_c/count_new.h"

namespace engram {
namespace {

// Of this thread, in a call that says whether it went well and has found its pools filled.
template <typename Call>
size_t AllocationsOf(Call call) {
  const bool first = call();
  const size_t before = AllocationsOfThisThread();
  const bool second = call();
  const size_t allocations = AllocationsOfThisThread() - before;
  EXPECT_TRUE(first && second);
  return allocations;
}

TEST_F(ClientCTest, ACallAllocatesWhatTheCxxCallDoes) {
  ASSERT_OK_AND_ASSIGN(const auto client, cluster_.Connect());
  const std::vector<int64_t> ids(kFakeColumns, 3);
  std::vector<uint8_t> out(ids.size() * kFakeRowBytes);
  const engram_rows rows[] = {{1, 0, ids.data(), ids.size(), out.data(), out.size()}};
  const size_t c_lookup = AllocationsOf([&] {
    return engram_client_submit_rows(client_.get(), rows, 1, nullptr, ticket_.get()) == nullptr &&
           engram_ticket_wait(ticket_.get(), 1, ENGRAM_FOREVER) == nullptr;
  });
  const size_t lookup = AllocationsOf([&] {
    auto ticket = client->SubmitRows({{1, ids, out}}, {});
    return ticket.ok() && ticket->Wait(1).ok();
  });
  EXPECT_GT(lookup, 0u);
  EXPECT_GT(c_lookup, 0u);  // It is counted.
  EXPECT_LE(c_lookup, lookup);
}

TEST_F(ClientCTest, AStepAllocatesWhatTheCxxStepDoes) {
  ASSERT_OK_AND_ASSIGN(const auto client, cluster_.Connect());
  engram_slot_options options = ENGRAM_SLOT_OPTIONS_INIT;
  options.max_tokens = 64;
  const SlotPtr c_slot = NewSlot(options);
  ASSERT_OK_AND_ASSIGN(const auto slot, Slot::Create(*client, {.max_tokens = 64}));
  // One token each of as many sequences as a batch may have.
  const uint32_t token = 5;
  std::vector<engram_lookback> c_states(64);
  std::vector<engram_chunk> c_chunks;
  std::vector<LookBack> states(64);
  std::vector<StepChunk> chunks;
  for (size_t i = 0; i < 64; ++i) {
    c_chunks.push_back({&token, 1, nullptr, &c_states[i], nullptr, 0, 0});
    chunks.push_back({.tokens = {&token, 1}, .state = &states[i]});
  }
  const size_t c_step = AllocationsOf([&] {
    return engram_slot_submit_tokens(c_slot.get(), c_chunks.data(), 64, nullptr) == nullptr &&
           engram_slot_wait_all(c_slot.get(), ENGRAM_FOREVER) == nullptr;
  });
  const size_t step =
      AllocationsOf([&] { return slot->SubmitTokens(chunks, {}).ok() && slot->WaitAll().ok(); });
  EXPECT_GT(step, 0u);
  EXPECT_LE(c_step, step);
}

}  // namespace
}  // namespace engram
