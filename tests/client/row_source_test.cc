#include "client/row_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"

namespace engram {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;

// Columns of 10, 20 and 30 rows.
LayerGeometry ThreeColumns() {
  return {.layer_id = 1, .columns = {{10, 0}, {20, 10}, {30, 30}}, .multipliers = {}, .rows = 60};
}

std::vector<int64_t> Converted(const GivenIds& given) {
  std::vector<int64_t> rows = {99, 99};  // What was there must not show.
  EXPECT_THAT(ConvertIds(given, ThreeColumns(), rows), IsOk());
  return rows;
}

TEST(RowSource, GlobalIdsOfBothWidths) {
  const std::vector<int32_t> narrow = {1, 11, 31, -1, 12, 32};
  const std::vector<int64_t> wide(narrow.begin(), narrow.end());
  EXPECT_THAT(Converted({{narrow.data(), 3}, 2, {0, 3}}), ElementsAreArray(wide));
  EXPECT_THAT(Converted({{wide.data(), 3}, 2, {0, 3}}), ElementsAreArray(wide));
}

TEST(RowSource, OwnColumnsOfAllAndOfOwn) {
  const std::vector<int32_t> all = {1, 11, 31, 2, 12, 32};
  EXPECT_THAT(Converted({{all.data(), 3}, 2, {1, 3}}), ElementsAre(11, 31, 12, 32));
  const std::vector<int64_t> own = {11, 31, 12, 32};
  EXPECT_THAT(
      Converted({.ids = {own.data(), 2}, .tokens = 2, .columns = {1, 3}, .own_columns = true}),
      ElementsAre(11, 31, 12, 32));
}

TEST(RowSource, AnyStrides) {
  // [columns, tokens] of two tokens, and every third of an interleaved array.
  const std::vector<int64_t> head_major = {1, 2, 11, 12, 31, 32};
  EXPECT_THAT(Converted({{head_major.data(), 1, 2}, 2, {0, 3}}), ElementsAre(1, 11, 31, 2, 12, 32));
  EXPECT_THAT(Converted({{head_major.data(), 1, 2}, 2, {2, 3}}), ElementsAre(31, 32));
}

TEST(RowSource, PerColumnIds) {
  const std::vector<int32_t> ids = {9, 19, 29, 0, -1, 0};
  GivenIds given{{ids.data(), 3}, 2, {0, 3}};
  given.per_column = true;
  EXPECT_THAT(Converted(given), ElementsAre(9, 29, 59, 0, -1, 30));
  given.columns = {2, 3};
  EXPECT_THAT(Converted(given), ElementsAre(59, 30));
}

TEST(RowSource, IdsOutOfTheirColumnAreNamed) {
  std::vector<int64_t> rows;
  for (const auto& [id, column] : {std::pair(20, 1), {-2, 1}, {30, 2}, {INT32_MAX, 0}}) {
    std::vector<int32_t> ids(6, 0);
    ids[3 + static_cast<size_t>(column)] = id;
    GivenIds given{{ids.data(), 3}, 2, {0, 3}};
    given.per_column = true;
    EXPECT_THAT(
        ConvertIds(given, ThreeColumns(), rows),
        StatusIs(absl::StatusCode::kOutOfRange,
                 "id " + std::to_string(id) + " of token 1, column " + std::to_string(column)));
  }
}

TEST(RowSource, MaskedTokensAskForNothing) {
  const std::vector<int32_t> ids = {1, 99, 31, 2, 12, 32};
  const std::vector<uint8_t> mask = {1, 0};
  GivenIds given{{ids.data(), 3}, 2, {0, 3}};
  given.per_column = false;
  given.mask = mask;
  EXPECT_THAT(Converted(given), ElementsAre(-1, -1, -1, 2, 12, 32));
}

TEST(RowSource, OnlyDenseGlobalIdsAreTakenAsTheyStand) {
  const std::vector<int64_t> wide(12);
  const std::vector<int32_t> narrow(12);
  const std::vector<uint8_t> mask(2);
  const auto borrowed = [&](auto change) {
    GivenIds given{{wide.data(), 3}, 2, {0, 3}};
    change(given);
    return AreGlobalRows(given, 3);
  };
  EXPECT_TRUE(borrowed([](GivenIds&) {}));
  EXPECT_TRUE(borrowed([](GivenIds& g) {
    g.columns = {1, 3};
    g.own_columns = true;
    g.ids.token_stride = 2;
  }));
  EXPECT_FALSE(borrowed([&](GivenIds& g) { g.ids = {narrow.data(), 3}; }));
  EXPECT_FALSE(borrowed([](GivenIds& g) { g.ids.token_stride = 6; }));
  EXPECT_FALSE(borrowed([](GivenIds& g) { g.ids.column_stride = 2; }));
  EXPECT_FALSE(borrowed([](GivenIds& g) { g.columns = {0, 2}; }));
  EXPECT_FALSE(borrowed([](GivenIds& g) { g.per_column = true; }));
  EXPECT_FALSE(borrowed([&](GivenIds& g) { g.mask = mask; }));
}

TEST(RowSource, HashesAnyColumnsAndLeavesDeadPositionsOut) {
  GeometryParams params;
  params.layer_ids = {0, 2};
  params.max_ngram = 3;
  params.heads = 2;
  params.bucket_floors = {101, 101};
  params.compressed_vocab = 50;
  ASSERT_OK_AND_ASSIGN(const Geometry geometry, Geometry::Derive(params));
  ASSERT_OK_AND_ASSIGN(const RowHasher hasher, RowHasher::Create(geometry, 4));
  const std::vector<uint32_t> tokens = {3, 1, 4, 1, 5};
  const std::vector<uint8_t> dead = {0, 0, 1, 0, 0};
  const TokenRun run{tokens, dead, {.depth = 1, .ids = {9}}};
  std::vector<int64_t> all(5 * 4);
  hasher.HashChunk(1, tokens, dead, run.before, all);
  for (const ColumnRange columns : {ColumnRange{0, 4}, ColumnRange{1, 3}, ColumnRange{3, 4}}) {
    std::vector<int64_t> rows(5 * columns.count());
    HashRun(hasher, 1, run, columns, rows);
    for (size_t token = 0; token < 5; ++token) {
      for (uint32_t c = columns.begin; c < columns.end; ++c) {
        EXPECT_EQ(rows[token * columns.count() + c - columns.begin],
                  token == 2 ? kNoRow : all[token * 4 + c]);
      }
    }
  }
}

}  // namespace
}  // namespace engram
