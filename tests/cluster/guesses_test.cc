// Rows of guessed tokens, and steps that take them or do not.
#include "client/guesses.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <random>

#include "proto/base/file.h"
#include "tests/cluster/guesses_fixture.h"

namespace engram {
namespace {

using Code = absl::StatusCode;

TEST_F(GuessesTest, EveryRowIsRightOnHitsAndOnMisses) {
  for (const ColumnRange columns : {ColumnRange{}, ColumnRange{1, 4}}) {
    const ClientStats before = client_->stats();
    options_.columns = columns;
    Start(3, {.max_tokens = 3, .columns = columns});
    std::mt19937 random(1);
    for (uint32_t step = 0; step < 150; ++step) {
      // One text repeats itself, one does now and then, one never does.
      const uint32_t any = static_cast<uint32_t>(random()) % kFakeTokens;
      ASSERT_NO_FATAL_FAILURE(Step({step % 7, step % 20 < 14 ? step % 7 : any, any}, /*dead=*/false,
                                   /*short_=*/step % 3 == 0));
    }
    const ClientStats after = client_->stats();
    const uint64_t hits = after.guess_hits - before.guess_hits;
    EXPECT_GT(hits, 140u);
    EXPECT_GT(after.guess_tokens - before.guess_tokens, hits + 50);
    EXPECT_GT(after.guess_steps - before.guess_steps, 100u);
  }
}

TEST_F(GuessesTest, CountsOfACorpusGuessWhatTheTextHasNotMet) {
  const std::string path = testing::TempDir() + "/guesses_test.succ";
  std::vector<uint32_t> corpus;
  for (uint32_t i = 0; i < 200; ++i) corpus.push_back(i * 7 % 50);
  ASSERT_OK_AND_ASSIGN(const Successors counted,
                       CountSuccessors({corpus}, client_->token_map()->sha256(), 1 << 20));
  ASSERT_THAT(WriteSuccessors(path, counted), IsOk());
  options_.successors = path;
  Start(1);
  for (uint32_t i = 0; i < 40; ++i) ASSERT_NO_FATAL_FAILURE(Step({i * 7 % 50}));
  EXPECT_EQ(client_->stats().guess_hits, 39u);
}

TEST_F(GuessesTest, ThePromptIsTextToo) {
  Start(1);
  const std::vector<uint32_t> prompt = {5, 6, 7, 8, 63, 6};
  sequences_[0]->Observe(prompt);
  texts_[0] = {prompt, std::vector<uint8_t>(prompt.size(), 0)};
  ASSERT_OK_AND_ASSIGN(const Prefetch fetched,
                       Prefetch::Start(*client_, prompt, {}, sequences_[0]->state(), {}));
  ASSERT_NO_FATAL_FAILURE(Step({7}));
  // 63 is compressed as 3 is; after 6 7 came 8.
  ASSERT_NO_FATAL_FAILURE(Step({8}));
  ASSERT_NO_FATAL_FAILURE(Step({3}));
  EXPECT_EQ(client_->stats().guess_hits, 2u);
}

TEST_F(GuessesTest, AHitAsksNobodyAndWaitsForNothing) {
  Start(1);
  ASSERT_NO_FATAL_FAILURE(Repeat(10));
  for (size_t i = 0; i < kServers; ++i) cluster_.Kill(i);
  const uint64_t requests = cluster_.requests();
  ASSERT_NO_FATAL_FAILURE(Submit({Repeated()}));
  EXPECT_TRUE(slot_->Done(1) && slot_->Done(14));
  EXPECT_EQ(WordOf(*slot_, 14), kWordReady);
  ASSERT_NO_FATAL_FAILURE(ExpectStep());
  EXPECT_EQ(cluster_.requests(), requests);
}

TEST_F(GuessesTest, AStepThatIsDoneAtOnceCallsBackOnce) {
  Start(1);
  ASSERT_NO_FATAL_FAILURE(Repeat(10));
  std::atomic<int> calls{0};
  const StepChunk chunk = sequences_[0]->Next(Repeated());
  LookupOptions options;
  options.on_done = [&](const absl::Status& status) { calls += status.ok() ? 1 : 100; };
  ASSERT_THAT(slot_->SubmitTokens({&chunk, 1}, options), IsOk());
  EXPECT_TRUE(slot_->Done(14));
  slot_.reset();  // returns when it was called back
  EXPECT_EQ(calls, 1);
}

// A step's rows are there, and the guess for the next token cannot come.
class LateGuessTest : public GuessesTest {
 protected:
  void SetUp() override {
    GuessesTest::SetUp();
    Start(1);
    ASSERT_NO_FATAL_FAILURE(Repeat(8));
    ASSERT_NO_FATAL_FAILURE(Submit({Repeated()}));
    ASSERT_NO_FATAL_FAILURE(ExpectStep());
    CloseStores();
    const uint64_t sent = Sent();
    ASSERT_THAT(guesses_->Ahead(now_), IsOk());
    ASSERT_GT(Sent(), sent);
  }
};

TEST_F(LateGuessTest, IsWaitedForAndNotFetchedTwice) {
  const uint64_t sent = Sent();
  ASSERT_NO_FATAL_FAILURE(Submit({Repeated()}));
  EXPECT_EQ(Sent(), sent);
  EXPECT_FALSE(slot_->Done(1) || slot_->Done(14));
  OpenStores();
  ASSERT_NO_FATAL_FAILURE(ExpectStep());
  EXPECT_EQ(Sent(), sent);
  const ClientStats before = client_->stats();
  ASSERT_THAT(guesses_->Ahead(now_), IsOk());
  EXPECT_EQ(client_->stats().guess_late, before.guess_late + 1);
  EXPECT_EQ(client_->stats().guess_hits, before.guess_hits + 1);
  EXPECT_EQ(client_->stats().guess_steps_spared, before.guess_steps_spared);
}

// The sequence moves on while the step that took the late guess is under way.
TEST_F(LateGuessTest, IsKeptWhileItsStepNeedsIt) {
  ASSERT_NO_FATAL_FAILURE(Submit({Repeated()}));
  ASSERT_THAT(guesses_->Ahead(now_), IsOk());
  const uint64_t sent = Sent();
  OpenStores();
  ASSERT_NO_FATAL_FAILURE(ExpectStep());
  EXPECT_EQ(Sent(), sent);
}

TEST_F(LateGuessTest, OfASequenceThatIsDroppedIsFetchedByTheStep) {
  const uint64_t sent = Sent();
  ASSERT_NO_FATAL_FAILURE(Submit({Repeated()}));
  sequences_.clear();
  const absl::Time limit = absl::Now() + absl::Seconds(20);
  while (Sent() == sent && absl::Now() < limit) {
  }
  EXPECT_GT(Sent(), sent);
  OpenStores();
  ASSERT_NO_FATAL_FAILURE(ExpectStep());
  EXPECT_THAT(guesses_->Ahead(now_), IsOk());
  while (client_->prefetch_bytes() != 0 && absl::Now() < limit) {
  }
  EXPECT_EQ(client_->prefetch_bytes(), 0u);
}

TEST_F(LateGuessTest, ThatIsWrongIsCalledOff) {
  const ClientStats before = client_->stats();
  EXPECT_GT(client_->prefetch_bytes(), 0u);
  ASSERT_NO_FATAL_FAILURE(Submit({45}));
  ASSERT_THAT(guesses_->Ahead(now_), IsOk());  // 45 was not met before: nothing can be guessed
  OpenStores();
  ASSERT_NO_FATAL_FAILURE(ExpectStep());
  const absl::Time limit = absl::Now() + absl::Seconds(20);
  while (client_->prefetch_bytes() != 0 && absl::Now() < limit) {
  }
  EXPECT_EQ(client_->prefetch_bytes(), 0u);
  EXPECT_EQ(client_->stats().guess_hits, before.guess_hits);
  EXPECT_EQ(client_->stats().guess_tokens, before.guess_tokens + 1);
}

TEST_F(GuessesTest, AGuessThatDoesNotComeInTimeIsFetchedByTheStep) {
  options_.timeout = absl::Microseconds(1);
  Start(1);
  for (size_t i = 0; i < 20; ++i) {
    ASSERT_NO_FATAL_FAILURE(Step({Repeated()}, /*dead=*/false, /*short_=*/true));
  }
  EXPECT_GT(client_->stats().guess_late, 0u);
}

TEST_F(GuessesTest, AGuessThatFailsIsFetchedByTheStep) {
  Start(1);
  ASSERT_NO_FATAL_FAILURE(Repeat(8));
  ASSERT_NO_FATAL_FAILURE(Submit({Repeated()}));
  ASSERT_NO_FATAL_FAILURE(ExpectStep());
  FailStores(absl::InternalError("no rows today"));
  const uint64_t sent = Sent(), looked_at = cluster_.requests();
  ASSERT_THAT(guesses_->Ahead(now_), IsOk());
  const uint64_t guess = Sent() - sent;
  // What a server has looked at it has answered when it has answered what came later on that lane.
  const absl::Time limit = absl::Now() + absl::Seconds(20);
  while (cluster_.requests() < looked_at + guess && absl::Now() < limit) {
  }
  for (size_t layer = 0; layer < 2; ++layer) {
    const LayerGeometry& geometry = client_->geometry().layers()[layer];
    const auto rows = static_cast<int64_t>(geometry.rows);
    const std::vector<int64_t> all = {0, rows / 2, rows - 1};  // one of each server
    std::vector<uint8_t> out(all.size() * kFakeRowBytes);
    ASSERT_OK_AND_ASSIGN(Ticket ticket,
                         client_->SubmitRows({{geometry.layer_id, all, out}},
                                             {.priority = LookupPriority::kPrefill}));
    EXPECT_THAT(ticket.WaitAll(), StatusIs(Code::kInternal, "no rows today"));
  }
  FailStores(absl::OkStatus());
  const uint64_t before = Sent(), late = client_->stats().guess_late;
  ASSERT_NO_FATAL_FAILURE(Submit({Repeated()}));
  ASSERT_NO_FATAL_FAILURE(ExpectStep());
  EXPECT_GT(Sent(), before);
  ASSERT_THAT(guesses_->Ahead(now_), IsOk());
  EXPECT_EQ(client_->stats().guess_late, late + 1);
}

TEST_F(GuessesTest, DeadPositionsAreZerosAndNothingReachesAcrossThem) {
  Start(2);
  for (uint32_t step = 0; step < 60; ++step) {
    ASSERT_NO_FATAL_FAILURE(Step({step % 5, step % 3}, step % 13 == 12));
  }
  EXPECT_GT(client_->stats().guess_hits, 40u);
}

TEST_F(GuessesTest, ARefusedStepIsSubmittedAgain) {
  Start(1);
  ASSERT_NO_FATAL_FAILURE(Repeat(9));
  const LookBack state = sequences_[0]->state();
  const StepChunk beyond = sequences_[0]->Next(kFakeTokens);
  EXPECT_THAT(slot_->SubmitTokens({&beyond, 1}, {}),
              StatusIs(Code::kInvalidArgument, "token id 64 at position 0 is beyond"));
  EXPECT_EQ(sequences_[0]->state(), state);
  const std::vector<StepChunk> both = {sequences_[0]->Next(Repeated()),
                                       {.tokens = beyond.tokens, .state = nullptr}};
  EXPECT_THAT(slot_->SubmitTokens(both, {}), StatusIs(Code::kInvalidArgument, "no look-back"));
  EXPECT_EQ(sequences_[0]->state(), state);
  const uint64_t hits = client_->stats().guess_hits;
  ASSERT_NO_FATAL_FAILURE(Step({Repeated()}));
  EXPECT_EQ(client_->stats().guess_hits, hits + 1);
  EXPECT_NE(sequences_[0]->state(), state);
}

TEST_F(GuessesTest, GuessesBehindAnotherStateAreNotTaken) {
  Start(1);
  ASSERT_NO_FATAL_FAILURE(Repeat(9));
  // Drafts that were accepted, say: the engine has fetched two tokens itself.
  const std::vector<uint32_t> drafts = {40, 41};
  ASSERT_OK_AND_ASSIGN(const Prefetch fetched,
                       Prefetch::Start(*client_, drafts, {}, sequences_[0]->state(), {}));
  for (const uint32_t draft : drafts) {
    texts_[0].tokens.push_back(draft);
    texts_[0].dead.push_back(0);
  }
  const uint64_t hits = client_->stats().guess_hits;
  ASSERT_NO_FATAL_FAILURE(Step({0}));  // It was the guess.
  EXPECT_EQ(client_->stats().guess_hits, hits);
}

TEST_F(GuessesTest, WithoutTheClientStepsAreRefusedAndNothingBreaks) {
  Start(1);
  ASSERT_NO_FATAL_FAILURE(Repeat(9));
  client_.reset();
  StepChunk chunk = sequences_[0]->Next(Repeated());
  EXPECT_THAT(slot_->SubmitTokens({&chunk, 1}, {}), StatusIs(Code::kCancelled, "closed"));
  EXPECT_EQ(WordOf(*slot_, 1), kWordError);
  EXPECT_THAT(guesses_->Ahead(now_), StatusIs(Code::kCancelled, "closed"));
  guesses_.reset();
  chunk = sequences_[0]->Next(1);
  EXPECT_THAT(slot_->SubmitTokens({&chunk, 1}, {}), StatusIs(Code::kCancelled, "closed"));
}

TEST_F(GuessesTest, AChildMadeByForkIsToldToConnectAgain) {
  Start(1);
  ASSERT_NO_FATAL_FAILURE(Repeat(9));
  const pid_t child = fork();
  if (child == 0) {
    const StepChunk chunk = sequences_[0]->Next(Repeated());
    bool right = absl::IsFailedPrecondition(slot_->SubmitTokens({&chunk, 1}, {}));
    right = right && absl::IsFailedPrecondition(guesses_->Ahead(now_));
    right = right && absl::IsFailedPrecondition(Guesses::Create(*client_, options_).status());
    sequences_.clear();
    guesses_.reset();
    client_.reset();
    _exit(right ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  ASSERT_NO_FATAL_FAILURE(Step({Repeated()}));
}

}  // namespace
}  // namespace engram
