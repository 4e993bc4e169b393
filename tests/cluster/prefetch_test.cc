// Rows fetched ahead, and steps that take them.
#include "client/prefetch.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <random>

#include "tests/cluster/fake_cluster.h"

namespace engram {
namespace {

using Code = absl::StatusCode;

std::vector<uint32_t> RandomTokens(size_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<uint32_t> tokens(count);
  for (uint32_t& token : tokens) token = static_cast<uint32_t>(random() % kFakeTokens);
  return tokens;
}

// The part of `ids` [tokens, kFakeColumns] that belongs to tokens [first, first + count).
std::vector<int64_t> Part(const std::vector<int64_t>& ids, size_t first, size_t count) {
  const auto begin = ids.begin() + static_cast<ptrdiff_t>(first * kFakeColumns);
  return {begin, begin + static_cast<ptrdiff_t>(count * kFakeColumns)};
}

class PrefetchTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(client_, cluster_.Connect({.servers = {}, .rows_per_request = 100}));
  }
  void CloseStores() {
    for (size_t i = 0; i < 3; ++i) cluster_.store(i).Close();
  }
  void OpenStores() {
    for (size_t i = 0; i < 3; ++i) cluster_.store(i).Open();
  }
  bool WaitForPrefetchBytes(uint64_t bytes) {
    const absl::Time limit = absl::Now() + absl::Seconds(20);
    while (client_->prefetch_bytes() != bytes && absl::Now() < limit) {
    }
    return client_->prefetch_bytes() == bytes;
  }

  FakeCluster cluster_{3};
  std::unique_ptr<Client> client_;
};

// One prompt, its chunks cut anywhere, decode tokens of another sequence between them, in slots of
// every layout; the columns of a rank out of all that were fetched.
TEST_F(PrefetchTest, StepsTakeAnyRangeOfIt) {
  const std::vector<uint32_t> prompt = RandomTokens(300, 1), other = RandomTokens(60, 2);
  const std::vector<int64_t> prompt_ids = HashWhole(*client_, 14, prompt);
  const std::vector<int64_t> other_ids = HashWhole(*client_, 14, other);
  LookBack state;
  ASSERT_OK_AND_ASSIGN(Prefetch prefetch, Prefetch::Start(*client_, prompt, {}, state, {}));
  EXPECT_EQ(prefetch.tokens(), 300u);
  EXPECT_EQ(prefetch.bytes(), 2u * 300 * kFakeColumns * kFakeRowBytes);
  std::mt19937_64 random(3);
  for (const RowOrder order : {RowOrder::kTokenMajor, RowOrder::kHeadMajor}) {
    for (const bool split : {false, true}) {
      const SlotOptions options{.max_tokens = 400,
                                .columns = split ? ColumnRange{1, 4} : ColumnRange{},
                                .order = order,
                                .split_scales = split};
      ASSERT_OK_AND_ASSIGN(const auto slot, Slot::Create(*client_, options));
      LookBack other_state;
      size_t other_done = 0;
      for (size_t done = 0; done < prompt.size();) {
        const size_t count = std::min<size_t>(random() % 100, prompt.size() - done);
        const size_t decode = std::min<size_t>(random() % 5, other.size() - other_done);
        const std::vector<StepChunk> chunks = {
            {.tokens = std::span(other).subspan(other_done, decode), .state = &other_state},
            prefetch.Range(done, count)};
        ASSERT_THAT(slot->SubmitTokens(chunks, {}), IsOk());
        ASSERT_THAT(slot->WaitAll(), IsOk());
        std::vector<int64_t> expected = Part(other_ids, other_done, decode);
        const std::vector<int64_t> part = Part(prompt_ids, done, count);
        expected.insert(expected.end(), part.begin(), part.end());
        ExpectRows(*slot, options, 14, expected);
        done += count;
        other_done += decode;
      }
    }
  }
}

TEST_F(PrefetchTest, AStepThatTakesItAloneAsksNobody) {
  const std::vector<uint32_t> prompt = RandomTokens(100, 4);
  LookBack state;
  ASSERT_OK_AND_ASSIGN(Prefetch prefetch, Prefetch::Start(*client_, prompt, {}, state, {}));
  ASSERT_THAT(prefetch.Wait(), IsOk());
  const uint64_t requests = cluster_.requests();
  ASSERT_OK_AND_ASSIGN(const auto slot, Slot::Create(*client_, {.max_tokens = 100}));
  const std::vector<StepChunk> chunks = {prefetch.Range(10, 50), prefetch.Range(0, 10)};
  ASSERT_THAT(slot->SubmitTokens(chunks, {}), IsOk());
  ASSERT_THAT(slot->WaitAll(), IsOk());
  EXPECT_EQ(cluster_.requests(), requests);
  const std::vector<int64_t> ids = HashWhole(*client_, 1, prompt);
  std::vector<int64_t> expected = Part(ids, 10, 50);
  const std::vector<int64_t> rest = Part(ids, 0, 10);
  expected.insert(expected.end(), rest.begin(), rest.end());
  ExpectRows(*slot, {}, 1, expected);
}

TEST_F(PrefetchTest, AStepWaitsForRowsThatAreOnTheirWay) {
  ASSERT_OK_AND_ASSIGN(client_, cluster_.Connect({.servers = {}, .io_threads = 2}));
  const std::vector<uint32_t> one = RandomTokens(80, 5), two = RandomTokens(80, 6);
  LookBack state_one, state_two;
  CloseStores();
  ASSERT_OK_AND_ASSIGN(Prefetch first, Prefetch::Start(*client_, one, {}, state_one, {}));
  ASSERT_OK_AND_ASSIGN(Prefetch second, Prefetch::Start(*client_, two, {}, state_two, {}));
  ASSERT_OK_AND_ASSIGN(const auto slot, Slot::Create(*client_, {.max_tokens = 160}));
  const std::vector<StepChunk> chunks = {first.Range(0, 80), second.Range(0, 80)};
  ASSERT_THAT(slot->SubmitTokens(chunks, {}), IsOk());
  EXPECT_FALSE(slot->Done(1));
  OpenStores();
  ASSERT_THAT(slot->WaitAll(), IsOk());
  std::vector<int64_t> expected = HashWhole(*client_, 1, one);
  const std::vector<int64_t> rest = HashWhole(*client_, 1, two);
  expected.insert(expected.end(), rest.begin(), rest.end());
  ExpectRows(*slot, {}, 1, expected);
}

TEST_F(PrefetchTest, AStepFetchesWhatAFailedOneHasNot) {
  const std::vector<uint32_t> prompt = RandomTokens(120, 7);
  std::vector<uint8_t> dead(120, 0);
  dead[30] = dead[31] = dead[90] = 1;
  LookBack state;
  for (size_t i = 0; i < 3; ++i) cluster_.store(i).FailWith(absl::InternalError("no rows today"));
  ASSERT_OK_AND_ASSIGN(Prefetch prefetch, Prefetch::Start(*client_, prompt, dead, state, {}));
  EXPECT_FALSE(prefetch.Wait().ok());
  for (size_t i = 0; i < 3; ++i) cluster_.store(i).FailWith(absl::OkStatus());
  ASSERT_OK_AND_ASSIGN(const auto slot, Slot::Create(*client_, {.max_tokens = 60}));
  ASSERT_OK_AND_ASSIGN(const auto whole, Slot::Create(*client_, {.max_tokens = 120}));
  LookBack fresh;
  const std::vector<StepChunk> all = {{.tokens = prompt, .dead = dead, .state = &fresh}};
  ASSERT_THAT(whole->SubmitTokens(all, {}), IsOk());
  ASSERT_THAT(whole->WaitAll(), IsOk());
  EXPECT_EQ(fresh, state);
  for (const size_t first : {0u, 29u, 60u}) {
    const std::vector<StepChunk> chunks = {prefetch.Range(first, 60)};
    ASSERT_THAT(slot->SubmitTokens(chunks, {}), IsOk());
    ASSERT_THAT(slot->WaitAll(), IsOk());
    const size_t bytes = kFakeColumns * kFakeRowBytes;
    EXPECT_TRUE(std::equal(slot->rows(14).begin(), slot->rows(14).end(),
                           whole->rows(14).begin() + static_cast<ptrdiff_t>(first * bytes)));
  }
}

TEST_F(PrefetchTest, DroppingItUnderAStepMakesTheStepFetch) {
  const std::vector<uint32_t> prompt = RandomTokens(50, 8);
  LookBack state;
  CloseStores();
  ASSERT_OK_AND_ASSIGN(const auto slot, Slot::Create(*client_, {.max_tokens = 50}));
  {
    ASSERT_OK_AND_ASSIGN(Prefetch prefetch, Prefetch::Start(*client_, prompt, {}, state, {}));
    const std::vector<StepChunk> chunks = {prefetch.Range(0, 50)};
    ASSERT_THAT(slot->SubmitTokens(chunks, {}), IsOk());
  }
  OpenStores();
  ASSERT_THAT(slot->WaitAll(), IsOk());
  ExpectRows(*slot, {}, 14, HashWhole(*client_, 14, prompt));
  EXPECT_TRUE(WaitForPrefetchBytes(0));
}

TEST_F(PrefetchTest, AStepsTimeoutHoldsWhileItWaits) {
  const std::vector<uint32_t> prompt = RandomTokens(50, 9);
  LookBack state;
  CloseStores();
  ASSERT_OK_AND_ASSIGN(Prefetch prefetch, Prefetch::Start(*client_, prompt, {}, state, {}));
  ASSERT_OK_AND_ASSIGN(const auto slot, Slot::Create(*client_, {.max_tokens = 50}));
  const std::vector<StepChunk> chunks = {prefetch.Range(0, 50)};
  ASSERT_THAT(slot->SubmitTokens(chunks, {.timeout = absl::Milliseconds(10)}), IsOk());
  EXPECT_THAT(slot->WaitAll(), StatusIs(Code::kDeadlineExceeded, ""));
  OpenStores();
  ASSERT_THAT(prefetch.Wait(), IsOk());
  ASSERT_THAT(slot->SubmitTokens(chunks, {}), IsOk());
  ASSERT_THAT(slot->WaitAll(), IsOk());
  ExpectRows(*slot, {}, 1, HashWhole(*client_, 1, prompt));
}

// Continuations of one sequence, of which one is taken: its accepted part goes on.
TEST_F(PrefetchTest, DraftsAreBranchesOfASequence) {
  const std::vector<uint32_t> prompt = RandomTokens(10, 10);
  LookBack state;
  ASSERT_OK_AND_ASSIGN(const Prefetch start, Prefetch::Start(*client_, prompt, {}, state, {}));
  ASSERT_OK_AND_ASSIGN(const auto slot, Slot::Create(*client_, {.max_tokens = 6}));
  std::vector<Prefetch> drafts;
  for (uint64_t i = 0; i < 4; ++i) {
    LookBack branch = state;
    ASSERT_OK_AND_ASSIGN(drafts.emplace_back(),
                         Prefetch::Start(*client_, RandomTokens(6, 20 + i), {}, branch,
                                         {.priority = LookupPriority::kDecode}));
  }
  const std::vector<StepChunk> chunks = {drafts[2].Range(0, 6)};
  ASSERT_THAT(slot->SubmitTokens(chunks, {}), IsOk());
  ASSERT_THAT(slot->WaitAll(), IsOk());
  std::vector<uint32_t> sequence = prompt;
  const std::vector<uint32_t> taken = RandomTokens(6, 22);
  sequence.insert(sequence.end(), taken.begin(), taken.end());
  ExpectRows(*slot, {}, 14, Part(HashWhole(*client_, 14, sequence), 10, 6));

  LookBack accepted = drafts[2].StateAt(4);  // Two of the six were refused.
  drafts.clear();
  sequence.resize(14);
  const std::vector<uint32_t> next = {33};
  sequence.push_back(33);
  const std::vector<StepChunk> step = {{.tokens = next, .state = &accepted}};
  ASSERT_THAT(slot->SubmitTokens(step, {}), IsOk());
  ASSERT_THAT(slot->WaitAll(), IsOk());
  ExpectRows(*slot, {}, 14, Part(HashWhole(*client_, 14, sequence), 14, 1));
}

TEST_F(PrefetchTest, ADraftThatIsDroppedBeforeItsTurnSendsNothing) {
  // A callback keeps the I/O thread busy while drafts come and go.
  std::mutex mutex;
  std::condition_variable changed;
  bool entered = false, leave = false;
  std::vector<uint8_t> out(kFakeRowBytes);
  const std::vector<int64_t> ids = {1};
  LookupOptions options;
  options.on_done = [&](const absl::Status&) {
    std::unique_lock lock(mutex);
    entered = true;
    changed.notify_all();
    changed.wait(lock, [&] { return leave; });
  };
  ASSERT_OK_AND_ASSIGN(Ticket ticket, client_->SubmitRows({{1, ids, out}}, options));
  {
    std::unique_lock lock(mutex);
    ASSERT_TRUE(changed.wait_for(lock, std::chrono::seconds(20), [&] { return entered; }));
  }
  const uint64_t requests = cluster_.requests();
  for (uint64_t i = 0; i < 8; ++i) {
    LookBack branch;
    ASSERT_THAT(Prefetch::Start(*client_, RandomTokens(6, i), {}, branch, {}), IsOk());
  }
  {
    const std::lock_guard lock(mutex);
    leave = true;
    changed.notify_all();
  }
  EXPECT_TRUE(WaitForPrefetchBytes(0));
  ASSERT_OK_AND_ASSIGN(Ticket after, client_->SubmitRows({{1, ids, out}}, {}));
  ASSERT_THAT(after.WaitAll(), IsOk());
  EXPECT_EQ(cluster_.requests(), requests + 1);
}

TEST_F(PrefetchTest, ADraftThatIsDroppedOnItsWaySendsNoMore) {
  // One request at a time: the others wait for credit when the draft goes.
  ASSERT_OK_AND_ASSIGN(
      client_, cluster_.Connect({.servers = {}, .credit_bytes = 1, .rows_per_request = 10}));
  CloseStores();
  const uint64_t before = cluster_.requests();
  LookBack branch;
  ASSERT_OK_AND_ASSIGN(Prefetch draft,
                       Prefetch::Start(*client_, RandomTokens(200, 1), {}, branch, {}));
  for (size_t i = 0; i < 3; ++i) ASSERT_TRUE(cluster_.store(i).WaitUntilBlocked());
  draft = Prefetch();
  // Refused on the I/O thread, which has then come past the cancel.
  std::vector<uint8_t> out(kFakeRowBytes);
  const std::vector<int64_t> no_row = {-2};
  ASSERT_OK_AND_ASSIGN(Ticket refused, client_->SubmitRows({{1, no_row, out}}, {}));
  EXPECT_THAT(refused.WaitAll(), StatusIs(Code::kOutOfRange, ""));
  OpenStores();
  EXPECT_TRUE(WaitForPrefetchBytes(0));
  EXPECT_EQ(cluster_.requests(), before + 3);
}

TEST_F(PrefetchTest, ItsMemoryIsBounded) {
  ASSERT_OK_AND_ASSIGN(client_, cluster_.Connect({.servers = {}, .max_prefetch_bytes = 100'000}));
  const std::vector<uint32_t> tokens = RandomTokens(20, 11);  // 63,360 bytes
  LookBack state;
  ASSERT_OK_AND_ASSIGN(Prefetch one, Prefetch::Start(*client_, tokens, {}, state, {}));
  const LookBack behind = state;
  EXPECT_THAT(Prefetch::Start(*client_, tokens, {}, state, {}),
              StatusIs(Code::kResourceExhausted, "63360 of max_prefetch_bytes = 100000"));
  EXPECT_EQ(state, behind);
  ASSERT_OK_AND_ASSIGN(const Prefetch some,
                       Prefetch::Start(*client_, tokens, {}, state,
                                       {.layers = {14}, .columns = {0, kFakeColumns / 2}}));
  EXPECT_EQ(client_->prefetch_bytes(), one.bytes() + some.bytes());
  one = Prefetch();
  EXPECT_TRUE(WaitForPrefetchBytes(some.bytes()));
}

TEST_F(PrefetchTest, AChunkMovesItsSequencesStateAlong) {
  const std::vector<uint32_t> prompt = RandomTokens(30, 13), next = {5, 6};
  LookBack end, state;
  ASSERT_OK_AND_ASSIGN(const Prefetch prefetch, Prefetch::Start(*client_, prompt, {}, end, {}));
  ASSERT_OK_AND_ASSIGN(const auto slot, Slot::Create(*client_, {.max_tokens = 32}));
  StepChunk first = prefetch.Range(0, 20), second = prefetch.Range(20, 10);
  first.state = second.state = &state;
  std::vector<StepChunk> chunks = {first, second, {.tokens = next, .state = &state}};
  ASSERT_THAT(slot->SubmitTokens(chunks, {}), IsOk());
  ASSERT_THAT(slot->WaitAll(), IsOk());
  std::vector<uint32_t> all = prompt;
  all.insert(all.end(), next.begin(), next.end());
  ExpectRows(*slot, {}, 14, HashWhole(*client_, 14, all));
  // Where it stands elsewhere, the chunk's rows are not its own; nothing has moved.
  state = LookBack();
  std::swap(chunks[1], chunks[2]);
  EXPECT_THAT(slot->SubmitTokens(chunks, {}),
              StatusIs(Code::kInvalidArgument, "behind another look-back state"));
  EXPECT_EQ(state, LookBack());
}

TEST_F(PrefetchTest, WrongUseIsNamed) {
  const std::vector<uint32_t> tokens = RandomTokens(20, 12);
  LookBack state;
  ASSERT_OK_AND_ASSIGN(const Prefetch some, Prefetch::Start(*client_, tokens, {}, state,
                                                            {.layers = {14}, .columns = {0, 3}}));
  const auto submit = [&](SlotOptions options, const StepChunk& chunk) {
    options.max_tokens = 20;
    auto slot = Slot::Create(*client_, options);
    return slot.ok() ? (*slot)->SubmitTokens({&chunk, 1}, {}) : slot.status();
  };
  constexpr Code kBad = Code::kInvalidArgument;
  const SlotOptions fits{.layers = {14}, .columns = {1, 3}};
  EXPECT_THAT(submit(fits, some.Range(0, 20)), IsOk());
  EXPECT_THAT(submit(fits, some.Range(1, 20)), StatusIs(kBad, "of a prefetch of 20"));
  EXPECT_THAT(submit({.layers = {14}}, some.Range(0, 1)), StatusIs(kBad, "other columns"));
  EXPECT_THAT(submit({.columns = {0, 2}}, some.Range(0, 1)), StatusIs(kBad, "no layer 1"));
  const Prefetch empty;
  EXPECT_THAT(submit(fits, empty.Range(0, 0)), StatusIs(kBad, "empty"));
  ASSERT_OK_AND_ASSIGN(const auto other, cluster_.Connect());
  ASSERT_OK_AND_ASSIGN(const Prefetch foreign, Prefetch::Start(*other, tokens, {}, state, {}));
  EXPECT_THAT(submit(fits, foreign.Range(0, 1)), StatusIs(kBad, "another client's"));
  const std::vector<uint32_t> beyond = {kFakeTokens};
  EXPECT_THAT(Prefetch::Start(*client_, beyond, {}, state, {}), StatusIs(kBad, "token id 64"));
}

}  // namespace
}  // namespace engram
