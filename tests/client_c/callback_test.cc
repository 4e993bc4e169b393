// What comes back to the caller: when, and on which thread.
#include <pthread.h>

#include <condition_variable>
#include <future>
#include <mutex>

#include "tests/client_c/c_fixture.h"

namespace engram {
namespace {

std::string ThreadName() {
  char name[32] = {};
  pthread_getname_np(pthread_self(), name, sizeof(name));
  return name;
}

struct Done {
  std::promise<Said> said;
  std::string thread;
};

void OnDone(void* user, const engram_status* status) {
  auto* const done = static_cast<Done*>(user);
  done->thread = ThreadName();
  Said said(nullptr);
  said.code = engram_status_code(status);
  said.message = engram_status_message(status);
  done->said.set_value(said);
}

TEST_F(ClientCTest, OnDoneComesOnTheIoThread) {
  std::vector<int64_t> ids = {1, 2};
  std::vector<uint8_t> out(2 * kFakeRowBytes);
  const engram_rows rows = {1, 0, ids.data(), 2, out.data(), out.size()};
  engram_lookup_options options = ENGRAM_LOOKUP_OPTIONS_INIT;
  options.on_done = OnDone;
  Done good;
  options.on_done_user = &good;
  ASSERT_FINE(engram_client_submit_rows(client_.get(), &rows, 1, &options, ticket_.get()));
  EXPECT_EQ(good.said.get_future().get().code, ENGRAM_OK);
  EXPECT_EQ(good.thread, "engram-io-0");
  int32_t done = 0;
  ASSERT_FINE(engram_ticket_done(ticket_.get(), 1, &done));
  EXPECT_EQ(done, 1);

  ids[0] = int64_t{1} << 40;
  Done bad;
  options.on_done_user = &bad;
  ASSERT_FINE(engram_client_submit_rows(client_.get(), &rows, 1, &options, ticket_.get()));
  EXPECT_THAT(bad.said.get_future().get(), Is(ENGRAM_OUT_OF_RANGE, "position 0"));
  engram_ticket_destroy(ticket_.release());  // After which `bad` may go.
}

struct Chain {
  engram_client* client;
  engram_ticket* next;
  engram_rows rows;
  std::promise<engram_code> submitted;
};

TEST_F(ClientCTest, OnDoneMaySubmitTheNextLookup) {
  const std::vector<int64_t> ids = {3};
  std::vector<uint8_t> out(kFakeRowBytes), next_out(kFakeRowBytes);
  engram_ticket* made = nullptr;
  ASSERT_FINE(engram_ticket_create(&made));
  const TicketPtr next(made);
  Chain chain{client_.get(), made, {14, 0, ids.data(), 1, next_out.data(), next_out.size()}, {}};
  engram_lookup_options options = ENGRAM_LOOKUP_OPTIONS_INIT;
  options.on_done_user = &chain;
  options.on_done = [](void* user, const engram_status*) {
    auto* const chain = static_cast<Chain*>(user);
    chain->submitted.set_value(
        Said(engram_client_submit_rows(chain->client, &chain->rows, 1, nullptr, chain->next)).code);
  };
  const engram_rows rows = {1, 0, ids.data(), 1, out.data(), out.size()};
  ASSERT_FINE(engram_client_submit_rows(client_.get(), &rows, 1, &options, ticket_.get()));
  ASSERT_EQ(chain.submitted.get_future().get(), ENGRAM_OK);
  ASSERT_FINE(engram_ticket_wait(next.get(), 14, ENGRAM_FOREVER));
  EXPECT_EQ(Text(next_out), Rows(14, ids));
}

struct Log {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::string> lines;
};

TEST_F(ClientCTest, TheLogSaysWhichServerIsLost) {
  Log log;
  engram_client_options options = ENGRAM_CLIENT_OPTIONS_INIT;
  options.log_user = &log;
  options.log = [](void* user, const char* line) {
    auto* const to = static_cast<Log*>(user);
    const std::lock_guard<std::mutex> lock(to->mutex);
    to->lines.push_back(absl::StrCat(ThreadName(), ": ", line));
    to->changed.notify_all();
  };
  Connect(options);
  const std::string lost =
      absl::StrCat("engram-io-0: server ", cluster_.addresses()[1], " was lost");
  cluster_.Kill(1);
  {
    std::unique_lock<std::mutex> lock(log.mutex);
    EXPECT_TRUE(log.changed.wait_for(lock, std::chrono::seconds(20), [&] {
      return std::any_of(log.lines.begin(), log.lines.end(), [&](const std::string& line) {
        return line.find(lost) != std::string::npos;
      });
    })) << absl::StrJoin(log.lines, "\n");
  }
  client_.reset();
}

}  // namespace
}  // namespace engram
