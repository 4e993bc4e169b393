// Slots: every layout over the caller's memory, words, and what is wrong with a step.
#include <atomic>

#include "tests/client_c/c_fixture.h"

namespace engram {
namespace {

uint64_t Load(uint64_t* word) {
  return std::atomic_ref<uint64_t>(*word).load(std::memory_order_acquire);
}

class SlotCTest : public ClientCTest {
 protected:
  static constexpr uint32_t kTokens = 4;

  void SetUp() override {
    ClientCTest::SetUp();
    for (int64_t i = 0; i < kTokens * 2 * kFakeColumns; ++i) ids_.push_back(i * 31 % 3000);
    ids_[3] = -1;
    layers_[0] = {ids_.data(), 8, 0, 2 * kFakeColumns, 1};
    layers_[1] = {ids_.data() + kFakeColumns, 8, 0, 2 * kFakeColumns, 1};
    step_.layers = layers_;
    step_.layer_count = 2;
    step_.tokens = kTokens;
    options_.max_tokens = 10;
  }

  int64_t Id(size_t layer, uint32_t token, uint32_t column) const {
    return ids_[(token * 2 + layer) * kFakeColumns + column];
  }

  // The rows (or their scales) of one layer as `options` place them.
  std::string Expected(const engram_slot_options& options, size_t layer, bool scales) const {
    const uint32_t begin = options.columns.begin;
    const uint32_t count = options.columns.end == 0 ? kFakeColumns : options.columns.end - begin;
    std::string expected;
    for (uint32_t place = 0; place < kTokens * count; ++place) {
      const bool token_major = options.order == ENGRAM_TOKEN_MAJOR;
      const uint32_t token = token_major ? place / count : place % kTokens;
      const uint32_t column = token_major ? place % count : place / kTokens;
      const std::string row = Row(layer == 0 ? 1 : 14, Id(layer, token, begin + column));
      expected += options.split_scales == 0 ? row : scales ? row.substr(256) : row.substr(0, 256);
    }
    return expected;
  }

  std::vector<int64_t> ids_;
  engram_layer_ids layers_[2];
  engram_step_ids step_ = ENGRAM_STEP_IDS_INIT;
  engram_slot_options options_ = ENGRAM_SLOT_OPTIONS_INIT;
};

TEST_F(SlotCTest, EveryLayoutInTheCallersMemory) {
  for (const int32_t order : {ENGRAM_TOKEN_MAJOR, ENGRAM_HEAD_MAJOR}) {
    for (const int32_t split : {0, 1}) {
      for (const engram_columns columns : {engram_columns{0, 0}, engram_columns{2, 5}}) {
        engram_slot_options options = options_;
        options.order = order;
        options.split_scales = split;
        options.columns = columns;
        std::vector<uint8_t> rows[2], scales[2];
        engram_layer_memory memory[2];
        for (size_t i = 0; i < 2; ++i) {
          rows[i].assign(10 * kFakeColumns * kFakeRowBytes, 0xA5);
          scales[i].assign(10 * kFakeColumns * 8, 0xA5);
          memory[i] = {rows[i].data(), rows[i].size(), scales[i].data(), scales[i].size()};
        }
        uint64_t words[2] = {7, 7};
        options.memory = memory;
        options.memory_count = 2;
        options.words = words;
        options.word_count = 2;
        const SlotPtr slot = NewSlot(options);
        ASSERT_NE(slot, nullptr);
        ASSERT_FINE(engram_slot_submit_ids(slot.get(), &step_, nullptr));
        ASSERT_FINE(engram_slot_wait(slot.get(), 1, ENGRAM_FOREVER));
        ASSERT_FINE(engram_slot_wait_all(slot.get(), ENGRAM_FOREVER));
        for (size_t i = 0; i < 2; ++i) {
          EXPECT_EQ(Load(&words[i]), ENGRAM_WORD_READY);
          const std::string expected = Expected(options, i, false);
          EXPECT_EQ(Text(rows[i]).substr(0, expected.size()), expected);
          EXPECT_EQ(rows[i][expected.size()], 0xA5);
          if (split != 0) {
            const std::string expected_scales = Expected(options, i, true);
            EXPECT_EQ(Text(scales[i]).substr(0, expected_scales.size()), expected_scales);
          }
        }
      }
    }
  }
}

TEST_F(SlotCTest, ItsOwnMemoryIsDescribed) {
  const uint32_t layer = 14;
  options_.layers = &layer;
  options_.layer_count = 1;
  options_.split_scales = 1;
  uint64_t bytes = 0;
  ASSERT_FINE(engram_slot_host_bytes(client_.get(), &options_, &bytes));
  EXPECT_GT(bytes, 10u * kFakeColumns * kFakeRowBytes);
  const SlotPtr slot = NewSlot(options_);
  engram_slot_layer_info info = ENGRAM_SLOT_LAYER_INFO_INIT;
  ASSERT_FINE(engram_slot_layer(slot.get(), 14, &info));
  EXPECT_EQ(info.rows_bytes, 10u * kFakeColumns * 256);
  EXPECT_EQ(info.scales_bytes, 10u * kFakeColumns * 8);
  EXPECT_NE(info.scales, nullptr);
  EXPECT_THAT(Said(engram_slot_layer(slot.get(), 1, &info)), Is(ENGRAM_NOT_FOUND, "layer 1"));
  step_.layers = &layers_[1];
  step_.layer_count = 1;
  ASSERT_FINE(engram_slot_submit_ids(slot.get(), &step_, nullptr));
  ASSERT_FINE(engram_slot_wait(slot.get(), 14, ENGRAM_FOREVER));
  const std::string expected = Expected(options_, 1, false);
  EXPECT_EQ(std::string(info.rows, info.rows + expected.size()), expected);
  int32_t done = 0;
  ASSERT_FINE(engram_slot_done(slot.get(), 14, &done));
  EXPECT_EQ(done, 1);
}

TEST_F(SlotCTest, TokensOfManySequences) {
  const SlotPtr slot = NewSlot(options_);
  const std::vector<uint32_t> first = {1, 2, 3, 4, 5}, second = {9, 8, 7};
  engram_lookback states[2] = {};
  // Two chunks of the first sequence share its state.
  const engram_chunk chunks[] = {{first.data(), 2, nullptr, &states[0], nullptr, 0, 0},
                                 {second.data(), 3, nullptr, &states[1], nullptr, 0, 0},
                                 {first.data() + 2, 3, nullptr, &states[0], nullptr, 0, 0}};
  ASSERT_FINE(engram_slot_submit_tokens(slot.get(), chunks, 3, nullptr));
  ASSERT_FINE(engram_slot_wait_all(slot.get(), ENGRAM_FOREVER));
  const std::vector<int64_t> of_first = Hash(14, first), of_second = Hash(14, second);
  std::vector<int64_t> ids(of_first.begin(), of_first.begin() + 2 * kFakeColumns);
  ids.insert(ids.end(), of_second.begin(), of_second.end());
  ids.insert(ids.end(), of_first.begin() + 2 * kFakeColumns, of_first.end());
  engram_slot_layer_info info = ENGRAM_SLOT_LAYER_INFO_INIT;
  ASSERT_FINE(engram_slot_layer(slot.get(), 14, &info));
  EXPECT_EQ(std::string(info.rows, info.rows + 8 * kFakeColumns * kFakeRowBytes), Rows(14, ids));

  // A refusal leaves the states alone and says error to whoever waits for a word.
  const engram_lookback before = states[0];
  const uint32_t beyond = kFakeTokens;
  const engram_chunk wrong[] = {chunks[0], {&beyond, 1, nullptr, &states[1], nullptr, 0, 0}};
  EXPECT_THAT(Said(engram_slot_submit_tokens(slot.get(), wrong, 2, nullptr)),
              IsInvalid("token id 64"));
  EXPECT_EQ(memcmp(&before, &states[0], sizeof(before)), 0);
  EXPECT_EQ(Load(info.word), ENGRAM_WORD_ERROR);
}

TEST_F(SlotCTest, WrongOptionsAreNamed) {
  engram_slot* slot = nullptr;
  const auto refused = [&](auto change) {
    engram_slot_options options = options_;
    change(options);
    return Said(engram_slot_create(client_.get(), &options, &slot));
  };
  EXPECT_THAT(refused([](auto& o) { o.max_tokens = 0; }), IsInvalid("`max_tokens` is 0"));
  EXPECT_THAT(refused([](auto& o) { o.order = 2; }), IsInvalid("`order` is 2"));
  EXPECT_THAT(refused([](auto& o) { o.columns = {3, 99}; }), IsInvalid("columns [3, 99)"));
  EXPECT_THAT(refused([](auto& o) { o.layer_count = 1; }), IsInvalid("`options->layers` is NULL"));
  EXPECT_THAT(refused([](auto& o) { o.memory_count = 2; }), IsInvalid("`options->memory` is NULL"));
  EXPECT_THAT(refused([](auto& o) { o.word_count = 2; }), IsInvalid("`options->words` is NULL"));
  const engram_layer_memory memory[2] = {};
  EXPECT_THAT(refused([&](auto& o) { o.memory = memory, o.memory_count = 2; }),
              IsInvalid("`memory`: rows are null"));
  EXPECT_THAT(refused([&](auto& o) { o.memory = memory, o.memory_count = 1; }),
              IsInvalid("`memory` is of 1 layers"));
  uint64_t words[3];
  auto* const crooked = reinterpret_cast<uint64_t*>(reinterpret_cast<char*>(words) + 4);
  EXPECT_THAT(refused([&](auto& o) { o.words = crooked, o.word_count = 2; }),
              IsInvalid("`words` must be 2 words, aligned to 8 bytes"));
  const uint32_t layer = 3;
  EXPECT_THAT(refused([&](auto& o) { o.layers = &layer, o.layer_count = 1; }),
              Is(ENGRAM_NOT_FOUND, "layer 3"));
}

// A step that cannot even be read must not leave the last one's word at ready.
TEST_F(SlotCTest, ARefusedSubmitSaysError) {
  const SlotPtr slot = NewSlot(options_);
  engram_slot_layer_info info = ENGRAM_SLOT_LAYER_INFO_INIT;
  ASSERT_FINE(engram_slot_layer(slot.get(), 1, &info));
  EXPECT_THAT(Said(engram_slot_wait(slot.get(), 1, 0)), Is(ENGRAM_FAILED_PRECONDITION, "no step"));
  engram_lookup_options wrong_priority = ENGRAM_LOOKUP_OPTIONS_INIT;
  wrong_priority.priority = 5;
  engram_step_ids wrong_size = step_;
  wrong_size.struct_size = 3;
  engram_step_ids too_many = step_;
  too_many.tokens = 11;
  const engram_chunk no_state = {nullptr, 0, nullptr, nullptr, nullptr, 0, 0};
  const auto check = [&](auto submit, const char* message) {
    ASSERT_FINE(engram_slot_submit_ids(slot.get(), &step_, nullptr));
    ASSERT_FINE(engram_slot_wait_all(slot.get(), ENGRAM_FOREVER));
    ASSERT_EQ(Load(info.word), ENGRAM_WORD_READY);
    EXPECT_THAT(Said(submit()), IsInvalid(message));
    EXPECT_EQ(Load(info.word), ENGRAM_WORD_ERROR);
    EXPECT_THAT(Said(engram_slot_wait(slot.get(), 1, ENGRAM_FOREVER)), IsInvalid(message));
  };
  check([&] { return engram_slot_submit_ids(slot.get(), &step_, &wrong_priority); }, "`priority`");
  check([&] { return engram_slot_submit_ids(slot.get(), &wrong_size, nullptr); }, "struct_size");
  check([&] { return engram_slot_submit_ids(slot.get(), &too_many, nullptr); }, "11 tokens");
  check([&] { return engram_slot_submit_ids(slot.get(), nullptr, nullptr); }, "`ids` is NULL");
  check([&] { return engram_slot_submit_tokens(slot.get(), &no_state, 1, nullptr); },
        "`chunks[i].state` is NULL");
}

TEST_F(SlotCTest, AStepUnderWayGoesOn) {
  const SlotPtr slot = NewSlot(options_);
  engram_slot_layer_info info = ENGRAM_SLOT_LAYER_INFO_INIT;
  ASSERT_FINE(engram_slot_layer(slot.get(), 1, &info));
  for (size_t i = 0; i < 3; ++i) cluster_.store(i).Close();
  ASSERT_FINE(engram_slot_submit_ids(slot.get(), &step_, nullptr));
  EXPECT_EQ(Load(info.word), ENGRAM_WORD_PENDING);
  EXPECT_THAT(Said(engram_slot_submit_ids(slot.get(), &step_, nullptr)),
              Is(ENGRAM_FAILED_PRECONDITION, "under way"));
  EXPECT_THAT(Said(engram_slot_submit_ids(slot.get(), nullptr, nullptr)),
              Is(ENGRAM_FAILED_PRECONDITION, "under way"));
  EXPECT_EQ(Load(info.word), ENGRAM_WORD_PENDING);
  EXPECT_THAT(Said(engram_slot_wait_all(slot.get(), 0)),
              Is(ENGRAM_DEADLINE_EXCEEDED, "not there yet"));
  ASSERT_FINE(engram_slot_cancel(slot.get()));
  EXPECT_THAT(Said(engram_slot_wait_all(slot.get(), ENGRAM_FOREVER)), Is(ENGRAM_CANCELLED, ""));
  EXPECT_EQ(Load(info.word), ENGRAM_WORD_ERROR);
  EXPECT_EQ(info.rows[0], 0);

  // The caller's stream resets the words itself.
  engram_slot_options options = options_;
  options.caller_resets_words = 1;
  const SlotPtr other = NewSlot(options);
  ASSERT_FINE(engram_slot_layer(other.get(), 1, &info));
  *info.word = 77;
  ASSERT_FINE(engram_slot_submit_ids(other.get(), &step_, nullptr));
  EXPECT_EQ(Load(info.word), 77u);
  for (size_t i = 0; i < 3; ++i) cluster_.store(i).Open();
  ASSERT_FINE(engram_slot_wait_all(other.get(), ENGRAM_FOREVER));
  EXPECT_EQ(Load(info.word), ENGRAM_WORD_READY);

  client_.reset();
  EXPECT_THAT(Said(engram_slot_submit_ids(other.get(), &step_, nullptr)),
              Is(ENGRAM_CANCELLED, "closed"));
}

}  // namespace
}  // namespace engram
