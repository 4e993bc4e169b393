// Children made by fork: told so, never hung, and free to connect anew.
#include <sys/wait.h>
#include <unistd.h>

#include "tests/client_c/c_fixture.h"

namespace engram {
namespace {

TEST_F(ClientCTest, AChildMadeByForkIsToldToConnectAgain) {
  engram_slot_options slot_options = ENGRAM_SLOT_OPTIONS_INIT;
  slot_options.max_tokens = 4;
  SlotPtr slot = NewSlot(slot_options);
  engram_slot_layer_info info = ENGRAM_SLOT_LAYER_INFO_INIT;
  ASSERT_FINE(engram_slot_layer(slot.get(), 1, &info));
  for (size_t i = 0; i < 3; ++i) cluster_.store(i).Close();
  const std::vector<int64_t> ids = {1, 2, 3};
  std::vector<uint8_t> out(3 * kFakeRowBytes);
  const engram_rows rows = {1, 0, ids.data(), 3, out.data(), out.size()};
  ASSERT_FINE(engram_client_submit_rows(client_.get(), &rows, 1, nullptr, ticket_.get()));
  const std::vector<uint32_t> tokens = {1, 2, 3};
  engram_lookback state = {};
  const engram_chunk chunk = {tokens.data(), 3, nullptr, &state, nullptr, 0, 0};
  ASSERT_FINE(engram_slot_submit_tokens(slot.get(), &chunk, 1, nullptr));
  engram_lookback ahead = {};
  engram_prefetch* made = nullptr;
  ASSERT_FINE(
      engram_prefetch_start(client_.get(), tokens.data(), 3, nullptr, &ahead, nullptr, &made));
  PrefetchPtr prefetch(made);
  const std::string address = cluster_.addresses()[0];

  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    int wrong = 0;
    const auto expect = [&](engram_status* status) {
      if (Said(status).code != ENGRAM_FAILED_PRECONDITION) ++wrong;
    };
    expect(engram_ticket_wait(ticket_.get(), 1, ENGRAM_FOREVER));
    expect(engram_client_submit_rows(client_.get(), &rows, 1, nullptr, ticket_.get()));
    expect(engram_slot_wait_all(slot.get(), ENGRAM_FOREVER));
    expect(engram_slot_submit_tokens(slot.get(), &chunk, 1, nullptr));
    expect(engram_prefetch_wait(prefetch.get(), ENGRAM_FOREVER));
    const char* const servers[] = {address.c_str()};
    expect(engram_client_set_servers(client_.get(), servers, 1));
    if (Said(engram_slot_cancel(slot.get())).code != ENGRAM_OK) ++wrong;
    // The words are not the child's to write, where the memory is shared with the parent.
    if (*info.word != ENGRAM_WORD_PENDING) ++wrong;
    prefetch.reset();
    slot.reset();
    ticket_.reset();
    client_.reset();
    _exit(wrong);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  for (size_t i = 0; i < 3; ++i) cluster_.store(i).Open();
  ASSERT_FINE(engram_ticket_wait(ticket_.get(), 1, ENGRAM_FOREVER));
  EXPECT_EQ(Text(out), Rows(1, ids));
  ASSERT_FINE(engram_slot_wait_all(slot.get(), ENGRAM_FOREVER));
  ASSERT_FINE(engram_prefetch_wait(prefetch.get(), ENGRAM_FOREVER));
}

}  // namespace
}  // namespace engram
