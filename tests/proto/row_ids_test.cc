#include "proto/row_ids.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>

#include "tests/support/status_matchers.h"

namespace engram {
namespace {

struct Sequence {
  std::vector<uint32_t> ids;
  std::vector<uint8_t> dead;
};

// The rule as it is stated, with `%`: the first look-back that is dead or before the start, and all
// deeper ones, use pad.
std::vector<int64_t> Naive(const Geometry& geometry, size_t layer_index, uint32_t pad,
                           const Sequence& sequence) {
  const LayerGeometry& layer = geometry.layers()[layer_index];
  const GeometryParams& params = geometry.params();
  std::vector<int64_t> rows;
  for (size_t p = 0; p < sequence.ids.size(); ++p) {
    int64_t mix = 0;
    bool blocked = false;
    for (uint32_t k = 0; k < params.max_ngram; ++k) {
      blocked = blocked || k > p || sequence.dead[p - k] != 0;
      mix ^= int64_t{blocked ? pad : sequence.ids[p - k]} * layer.multipliers[k];
      if (k == 0) continue;
      for (uint32_t head = 0; head < params.heads; ++head) {
        const HashColumn& column = layer.columns[(k - 1) * params.heads + head];
        rows.push_back(mix % static_cast<int64_t>(column.prime) +
                       static_cast<int64_t>(column.offset));
      }
    }
  }
  return rows;
}

// Hashes the sequence in chunks that end at the positions (below 64) of the bits set in `cuts` and
// at the end.
std::vector<int64_t> Chunked(const RowHasher& hasher, size_t layer, const Sequence& sequence,
                             uint64_t cuts) {
  std::vector<int64_t> rows(sequence.ids.size() * hasher.columns());
  LookBack state;
  size_t begin = 0;
  for (size_t end = 1; end <= sequence.ids.size(); ++end) {
    const bool cut = end <= 64 && (cuts >> (end - 1) & 1) != 0;
    if (end != sequence.ids.size() && !cut) continue;
    const auto ids = std::span(sequence.ids).subspan(begin, end - begin);
    const auto dead = std::span(sequence.dead).subspan(begin, end - begin);
    hasher.HashChunk(
        layer, ids, dead, state,
        std::span(rows).subspan(begin * hasher.columns(), ids.size() * hasher.columns()));
    hasher.Advance(ids, dead, state);
    begin = end;
  }
  return rows;
}

class Generator {
 public:
  explicit Generator(uint64_t seed) : random_(seed) {}

  uint64_t Between(uint64_t low, uint64_t high) { return low + random_() % (high - low + 1); }

  GeometryParams Params() {
    GeometryParams params;
    const uint64_t layers = Between(1, 3);
    for (uint32_t i = 0; i < layers; ++i) {
      params.layer_ids.push_back(static_cast<uint32_t>(i * 100 + Between(0, 99)));
    }
    params.max_ngram = static_cast<uint32_t>(Between(2, kMaxNgram));
    params.heads = static_cast<uint32_t>(Between(1, 9));
    for (uint32_t i = 0; i < params.orders(); ++i) {
      params.bucket_floors.push_back(Between(1, uint64_t{1} << Between(0, 40)));
    }
    params.seed = Between(0, 1000);
    params.compressed_vocab = static_cast<uint32_t>(Between(1, uint64_t{1} << Between(0, 26)));
    return params;
  }

  // `dead_of_8` positions in eight are dead.
  Sequence Tokens(size_t size, uint32_t vocab, uint64_t dead_of_8) {
    Sequence sequence;
    for (size_t i = 0; i < size; ++i) {
      // The highest id gives the longest products.
      const uint64_t id = Between(0, 7) == 0 ? vocab - 1 : Between(0, vocab - 1);
      sequence.ids.push_back(static_cast<uint32_t>(id));
      sequence.dead.push_back(
          static_cast<uint8_t>(Between(0, 7) < dead_of_8 ? Between(1, 255) : 0));
    }
    return sequence;
  }

 private:
  std::mt19937_64 random_;
};

TEST(RowHasher, AgreesWithTheNaiveRuleOnRandomGeometries) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Generator generator(seed);
    ASSERT_OK_AND_ASSIGN(const Geometry geometry, Geometry::Derive(generator.Params()));
    const uint32_t vocab = geometry.params().compressed_vocab;
    const uint32_t pad = static_cast<uint32_t>(generator.Between(0, vocab - 1));
    ASSERT_OK_AND_ASSIGN(const RowHasher hasher, RowHasher::Create(geometry, pad));
    const Sequence sequence = generator.Tokens(60, vocab, generator.Between(0, 3));
    for (size_t layer = 0; layer < hasher.layers(); ++layer) {
      const std::vector<int64_t> expected = Naive(geometry, layer, pad, sequence);
      ASSERT_EQ(Chunked(hasher, layer, sequence, 0), expected);
      for (int i = 0; i < 5; ++i) {
        const uint64_t cuts = generator.Between(0, ~uint64_t{0} - 1);
        ASSERT_EQ(Chunked(hasher, layer, sequence, cuts), expected) << "cuts " << cuts;
      }
    }
  }
}

// All 2^11 ways to cut twelve positions, for the longest and the shortest n-gram.
TEST(RowHasher, EveryWayToCutASequenceGivesTheWhole) {
  for (const uint32_t max_ngram : {2u, 4u, kMaxNgram}) {
    GeometryParams params;
    params.layer_ids = {1};
    params.max_ngram = max_ngram;
    params.heads = 2;
    params.bucket_floors.assign(params.orders(), 1000);
    params.compressed_vocab = 50;
    ASSERT_OK_AND_ASSIGN(const Geometry geometry, Geometry::Derive(params));
    ASSERT_OK_AND_ASSIGN(const RowHasher hasher, RowHasher::Create(geometry, 2));
    Generator generator(max_ngram);
    Sequence sequence = generator.Tokens(12, 50, 0);
    for (const std::vector<uint8_t>& dead :
         {std::vector<uint8_t>(12, 0), std::vector<uint8_t>{0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0},
          std::vector<uint8_t>{1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 1}, std::vector<uint8_t>(12, 1)}) {
      sequence.dead = dead;
      const std::vector<int64_t> expected = Naive(geometry, 0, 2, sequence);
      for (uint64_t cuts = 0; cuts < uint64_t{1} << 11; ++cuts) {
        ASSERT_EQ(Chunked(hasher, 0, sequence, cuts), expected)
            << "n-gram " << max_ngram << ", cuts " << cuts;
      }
    }
  }
}

// The one prime that is a power of two: its reciprocal does not fit 64 bits.
TEST(RowHasher, BucketsOfTwoAndThree) {
  GeometryParams params;
  params.layer_ids = {0};
  params.max_ngram = 2;
  params.heads = 2;
  params.bucket_floors = {1};
  for (const uint32_t vocab : {1u, 2u, 3u, 1000u, kMaxVocab}) {
    params.compressed_vocab = vocab;
    ASSERT_OK_AND_ASSIGN(const Geometry geometry, Geometry::Derive(params));
    ASSERT_EQ(geometry.layers()[0].columns[0].prime, 2u);
    ASSERT_OK_AND_ASSIGN(const RowHasher hasher, RowHasher::Create(geometry, 0));
    const Sequence sequence = Generator(vocab).Tokens(500, vocab, 1);
    EXPECT_EQ(Chunked(hasher, 0, sequence, 0), Naive(geometry, 0, 0, sequence)) << vocab;
  }
}

// The rule as transformers states it: a token sees back to after the last end-of-sequence token
// before it, and reads that token for whatever lies beyond.
TEST(RowHasher, PleLookBacksEndAtAnEndOfSequenceToken) {
  constexpr uint32_t kEos = 3;
  GeometryParams params;
  params.rule = HashRule::kPle;
  params.layer_ids = {2, 5};
  params.max_ngram = 4;
  params.heads = 2;
  params.bucket_floors = {50, 50, 50};
  params.compressed_vocab = 6;
  params.pad_token = kEos;
  params.row_multiple = 128;
  ASSERT_OK_AND_ASSIGN(const Geometry geometry, Geometry::Derive(params));
  ASSERT_OK_AND_ASSIGN(const RowHasher hasher, RowHasher::Create(geometry, kEos));
  Sequence sequence = Generator(11).Tokens(40, 6, 1);
  sequence.dead.assign(sequence.ids.size(), 0);
  ASSERT_GT(std::count(sequence.ids.begin(), sequence.ids.end(), kEos), 3);
  for (size_t index = 0; index < 2; ++index) {
    const LayerGeometry& layer = geometry.layers()[index];
    std::vector<int64_t> expected;
    for (size_t p = 0, segment = 0; p < sequence.ids.size(); ++p) {
      int64_t mix = 0;
      for (size_t k = 0; k < params.max_ngram; ++k) {
        mix ^= int64_t{p >= segment + k ? sequence.ids[p - k] : kEos} * layer.multipliers[k];
        for (size_t head = 0; k > 0 && head < params.heads; ++head) {
          const HashColumn& column = layer.columns[(k - 1) * params.heads + head];
          expected.push_back(mix % static_cast<int64_t>(column.prime) +
                             static_cast<int64_t>(column.offset));
        }
      }
      if (sequence.ids[p] == kEos) segment = p + 1;
    }
    for (const uint64_t cuts : {uint64_t{0}, ~uint64_t{0}, uint64_t{0x5A5A3C3C99}}) {
      EXPECT_EQ(Chunked(hasher, index, sequence, cuts), expected) << cuts;
    }
  }
}

class SmallHasher : public testing::Test {
 protected:
  static Geometry MakeGeometry() {
    GeometryParams params;
    params.layer_ids = {1, 2};
    params.max_ngram = 3;
    params.heads = 2;
    params.bucket_floors = {100, 200};
    params.compressed_vocab = 20;
    return *Geometry::Derive(params);
  }
  std::vector<int64_t> Hash(const std::vector<uint32_t>& ids, const std::vector<uint8_t>& dead,
                            const LookBack& before) const {
    std::vector<int64_t> rows(ids.size() * hasher_.columns());
    hasher_.HashChunk(0, ids, dead, before, rows);
    return rows;
  }

  const Geometry geometry_ = MakeGeometry();
  const RowHasher hasher_ = *RowHasher::Create(geometry_, 7);
};

TEST_F(SmallHasher, PadMustBeACompressedId) {
  EXPECT_THAT(RowHasher::Create(geometry_, 19), IsOk());
  EXPECT_THAT(RowHasher::Create(geometry_, 20),
              StatusIs(absl::StatusCode::kInvalidArgument, "compressed pad id 20"));
}

TEST_F(SmallHasher, ADeadPositionShowsTheAllPadRows) {
  const std::vector<int64_t> pads = Hash({7}, {}, LookBack{});
  EXPECT_EQ(Hash({3}, {1}, LookBack{2, {4, 5}}), pads);
}

TEST_F(SmallHasher, NothingIsSeenThroughADeadPosition) {
  const std::vector<int64_t> rows = Hash({3, 9, 4}, {0, 1, 0}, LookBack{});
  const std::vector<int64_t> start = Hash({4}, {}, LookBack{});
  EXPECT_EQ(std::vector<int64_t>(rows.end() - hasher_.columns(), rows.end()), start);
}

TEST_F(SmallHasher, IdsBeyondTheDepthAreNotRead) {
  EXPECT_EQ(Hash({4}, {}, LookBack{1, {5, 11}}), Hash({4}, {}, LookBack{1, {5, 12}}));
  EXPECT_NE(Hash({4}, {}, LookBack{2, {5, 11}}), Hash({4}, {}, LookBack{2, {5, 12}}));
}

TEST_F(SmallHasher, EmptyChunks) {
  EXPECT_TRUE(Hash({}, {}, LookBack{}).empty());
  LookBack state{2, {4, 5}};
  hasher_.Advance({}, {}, state);
  EXPECT_EQ(state, (LookBack{2, {4, 5}}));
}

TEST_F(SmallHasher, ACopyIsABranchOfItsOwn) {
  LookBack state;
  hasher_.Advance(std::vector<uint32_t>{1, 2}, {}, state);
  LookBack draft = state;
  hasher_.Advance(std::vector<uint32_t>{3}, {}, draft);
  EXPECT_EQ(state.depth, 2u);
  EXPECT_EQ(state.ids[0], 2u);
  EXPECT_EQ(draft.depth, 3u);
  EXPECT_EQ(draft.ids[0], 3u);
  EXPECT_EQ(draft.ids[1], 2u);
}

TEST_F(SmallHasher, DepthStaysBoundedOverALongSequence) {
  LookBack state;
  hasher_.Advance(std::vector<uint32_t>(100000, 3), {}, state);
  EXPECT_LE(state.depth, kMaxNgram);
  hasher_.Advance(std::vector<uint32_t>{3}, std::vector<uint8_t>{1}, state);
  EXPECT_EQ(state.depth, 0u);
}

}  // namespace
}  // namespace engram
