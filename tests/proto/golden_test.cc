// Geometry and hash against vectors that numpy computed from the rules (golden/*.json).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "proto/base/json.h"
#include "proto/geometry.h"
#include "proto/row_ids.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

using nlohmann::json;

struct Golden {
  json document;
  Geometry geometry;
};

absl::StatusOr<Golden> Load(const std::string& name) {
  auto document = ReadJsonFile("tests/proto/golden/" + name + ".json", 1 << 20);
  if (!document.ok()) return document.status();
  const json& d = *document;
  GeometryParams params;
  params.layer_ids = d["layer_ids"].get<std::vector<uint32_t>>();
  params.max_ngram = d["max_ngram_size"];
  params.heads = d["heads"];
  params.bucket_floors = d["bucket_floor_per_order"].get<std::vector<uint64_t>>();
  params.seed = d["seed"];
  params.compressed_vocab = d["compressed_vocab_size"];
  auto geometry = Geometry::Derive(params, d["rows_per_layer"].get<std::vector<uint64_t>>());
  if (!geometry.ok()) return geometry.status();
  return Golden{*std::move(document), *std::move(geometry)};
}

struct Sequence {
  std::vector<uint32_t> ids;
  std::vector<uint8_t> dead;
};

Sequence ToSequence(const json& source) {
  Sequence sequence{source["compressed_ids"].get<std::vector<uint32_t>>(), {}};
  for (const bool dead : source["dead"].get<std::vector<bool>>()) sequence.dead.push_back(dead);
  return sequence;
}

// Hashes positions [begin, end) of `sequence` after `state`, which it moves on.
void HashPart(const RowHasher& hasher, size_t layer, const Sequence& sequence, size_t begin,
              size_t end, LookBack& state, std::vector<int64_t>& rows) {
  const std::span<const uint32_t> ids(sequence.ids.data() + begin, end - begin);
  const std::span<const uint8_t> dead(sequence.dead.data() + begin, end - begin);
  hasher.HashChunk(
      layer, ids, dead, state,
      std::span(rows).subspan(begin * hasher.columns(), ids.size() * hasher.columns()));
  hasher.Advance(ids, dead, state);
}

class GoldenTest : public testing::TestWithParam<const char*> {};

TEST_P(GoldenTest, PrimesAndMultipliers) {
  ASSERT_OK_AND_ASSIGN(const Golden golden, Load(GetParam()));
  for (size_t i = 0; i < golden.geometry.layers().size(); ++i) {
    const LayerGeometry& layer = golden.geometry.layers()[i];
    std::vector<uint64_t> primes;
    for (const HashColumn& column : layer.columns) primes.push_back(column.prime);
    EXPECT_EQ(primes, golden.document["primes"][i].get<std::vector<uint64_t>>());
    EXPECT_EQ(layer.multipliers, golden.document["multipliers"][i].get<std::vector<int64_t>>());
  }
}

TEST_P(GoldenTest, RowsWholeAndInEverySplit) {
  ASSERT_OK_AND_ASSIGN(const Golden golden, Load(GetParam()));
  ASSERT_OK_AND_ASSIGN(const RowHasher hasher,
                       RowHasher::Create(golden.geometry, golden.document["compressed_pad_id"]));
  ASSERT_FALSE(golden.document["sequences"].empty());
  for (const json& source : golden.document["sequences"]) {
    const Sequence sequence = ToSequence(source);
    const size_t size = sequence.ids.size();
    for (size_t layer = 0; layer < hasher.layers(); ++layer) {
      std::vector<int64_t> expected;
      const std::string layer_id = std::to_string(golden.geometry.layers()[layer].layer_id);
      for (const json& position : source["rows"][layer_id]) {
        for (const int64_t row : position) expected.push_back(row);
      }
      ASSERT_EQ(expected.size(), size * hasher.columns());
      for (size_t split = 0; split <= size; ++split) {
        std::vector<int64_t> rows(expected.size());
        LookBack state;
        HashPart(hasher, layer, sequence, 0, split, state, rows);
        HashPart(hasher, layer, sequence, split, size, state, rows);
        ASSERT_EQ(rows, expected) << "layer " << layer_id << ", split at " << split;
      }
      std::vector<int64_t> rows(expected.size());
      LookBack state;
      for (size_t i = 0; i < size; ++i) HashPart(hasher, layer, sequence, i, i + 1, state, rows);
      EXPECT_EQ(rows, expected) << "layer " << layer_id << ", one position at a time";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Vectors, GoldenTest, testing::Values("tiny", "paper_demo", "v41_flash"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace engram
