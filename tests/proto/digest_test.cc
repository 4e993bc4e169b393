#include "proto/digest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/support/status_matchers.h"

namespace engram {
namespace {

// The constants below were computed apart from this code, by a Python script over the `xxhash` and
// `hashlib` modules that follows the encoding in digest.h:
//   key = struct.pack("<IQ", layer, row)
//   S   = sum(xxhash.xxh3_128_intdigest(key + row_bytes) for rows that are not all zero) % 2**128
//   digest = sha256(b"engram-digest-1\n" + struct.pack("<I", 2) + struct.pack("<IQ", 0, 112)
//                   + struct.pack("<IQ", 2, 252) + struct.pack("<III", 3, 3, 2)
//                   + struct.pack("<QQ", 11, 17) + struct.pack("<QII", 7, 50, 4)
//                   + struct.pack("<IIII", 1, 32, 1, 1) + token_map_part
//                   + struct.pack("<QQ", S % 2**64, S >> 64))
// with token_map_part b"\0", or b"\1" + sha256(b"map"). They never change: a change here is another
// digest for every table in the field.
constexpr uint64_t kGoldenLow = 0x80ee920cf1f5919c;
constexpr uint64_t kGoldenHigh = 0x800cb31c62fd1cc8;
constexpr char kGoldenWithoutMap[] =
    "7a001142441923999055b317203447963b41b951426f396b105f6bec972f6b73";
constexpr char kGoldenWithMap[] =
    "e1202b02eeb431e53ab133f532ecb504fa9402cb2b457290c638396e58e97615";

GeometryParams TinyParams() {
  GeometryParams params;
  params.layer_ids = {0, 2};
  params.max_ngram = 3;
  params.heads = 3;
  params.bucket_floors = {11, 17};
  params.seed = 7;
  params.compressed_vocab = 50;
  params.pad_token = 4;
  return params;
}

constexpr uint64_t kZeroRow = 5;

std::vector<uint8_t> TinyRow(uint32_t layer, uint64_t row) {
  std::vector<uint8_t> bytes(33);
  if (row == kZeroRow) return bytes;
  for (size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<uint8_t>(layer * 31 + row * 7 + i);
  return bytes;
}

void AddTinyRow(uint32_t layer, uint64_t row, RowSum& sum) {
  const std::vector<uint8_t> bytes = TinyRow(layer, row);
  sum.AddRow(layer, row, bytes.data(), bytes.size());
}

RowSum TinySum(const Geometry& geometry) {
  RowSum sum;
  for (const LayerGeometry& layer : geometry.layers()) {
    for (uint64_t row = 0; row < layer.rows; ++row) AddTinyRow(layer.layer_id, row, sum);
  }
  return sum;
}

TEST(RowSum, Golden) {
  const Geometry geometry = *Geometry::Derive(TinyParams());
  EXPECT_EQ(TinySum(geometry), RowSum(kGoldenLow, kGoldenHigh));
}

// Rows shorter and longer than what is joined in one buffer, and lengths where XXH3 itself changes
// its way (16, 128, 240, 1024 bytes with the key).
TEST(RowSum, GoldenRowsOfEveryLength) {
  const struct {
    size_t bytes;
    uint64_t low, high;
  } kCases[] = {
      {1, 0x1be62fdab39f7130, 0x02e0430d7968e8da},
      {12, 0x722a7d0f9e8d37b9, 0xcb8696464c58b261},
      {228, 0x02dc4f6432a2b35f, 0xb9289541a61d43b7},
      {229, 0xe5c2a32412100534, 0xedd91c4caee22869},
      {264, 0x691285750c9d37a8, 0x2ff61f595db1c3a0},
      {1024, 0x74a47ea77f714a81, 0xc6ccf7537ae896c7},
      {1025, 0x0921dc8c13aad061, 0xb58fba01fc9c932a},
      {3000, 0x789fd1222ff99819, 0x841421056282dddb},
  };
  std::vector<uint8_t> bytes(3000);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 13 + 1);
  for (const auto& test : kCases) {
    RowSum sum;
    sum.AddRow(14, (uint64_t{1} << 40) + 3, bytes.data(), test.bytes);
    EXPECT_EQ(sum, RowSum(test.low, test.high)) << test.bytes;
  }
}

TEST(RowSum, AnAllZeroRowAddsNothingAndNoOtherRowDoes) {
  for (const size_t size : {1u, 2u, 8u, 33u, 264u, 1025u}) {
    std::vector<uint8_t> bytes(size);
    RowSum sum;
    sum.AddRow(1, 2, bytes.data(), size);
    EXPECT_EQ(sum, RowSum()) << size;
    for (size_t i = 0; i < size; ++i) {
      bytes[i] = 1;
      RowSum nonzero;
      nonzero.AddRow(1, 2, bytes.data(), size);
      ASSERT_NE(nonzero, RowSum()) << size << " bytes, byte " << i;
      bytes[i] = 0;
    }
  }
}

TEST(RowSum, LayerRowAndBytesAllCount) {
  const uint8_t bytes[] = {1, 2, 3};
  RowSum base, layer, row, shorter;
  base.AddRow(1, 2, bytes, 3);
  layer.AddRow(2, 2, bytes, 3);
  row.AddRow(1, 3, bytes, 3);
  shorter.AddRow(1, 2, bytes, 2);
  EXPECT_NE(base, layer);
  EXPECT_NE(base, row);
  EXPECT_NE(base, shorter);
}

TEST(RowSum, PartsAddUpInAnyOrder) {
  const Geometry geometry = *Geometry::Derive(TinyParams());
  RowSum parts[3];
  for (size_t i = geometry.layers().size(); i-- > 0;) {
    const LayerGeometry& layer = geometry.layers()[i];
    for (uint64_t row = layer.rows; row-- > 0;) AddTinyRow(layer.layer_id, row, parts[row % 3]);
  }
  RowSum sum = parts[2];
  sum += parts[0];
  sum += parts[1];
  EXPECT_EQ(sum, TinySum(geometry));
}

TEST(RowSum, AChangedRowIsSubtractedAndAdded) {
  const Geometry geometry = *Geometry::Derive(TinyParams());
  RowSum sum = TinySum(geometry), old_row, new_row;
  AddTinyRow(2, 100, old_row);
  const std::vector<uint8_t> bytes(33, 0xAB);
  new_row.AddRow(2, 100, bytes.data(), bytes.size());
  sum -= old_row;
  sum += new_row;
  EXPECT_NE(sum, TinySum(geometry));
  sum -= new_row;
  sum += old_row;
  EXPECT_EQ(sum, TinySum(geometry));
}

TEST(RowSum, CarriesAndBorrowsAcrossTheHalves) {
  RowSum sum(~uint64_t{0}, 1);
  sum += RowSum(1, 0);
  EXPECT_EQ(sum, RowSum(0, 2));
  sum -= RowSum(1, 2);
  EXPECT_EQ(sum, RowSum(~uint64_t{0}, ~uint64_t{0}));  // modulo 2^128
  sum += RowSum(2, 0);
  EXPECT_EQ(sum, RowSum(1, 0));
}

TEST(TableDigest, Golden) {
  const Geometry geometry = *Geometry::Derive(TinyParams());
  const RowSum sum(kGoldenLow, kGoldenHigh);
  EXPECT_EQ(ToHex(TableDigest(geometry, PackedFp8Layout(32), std::nullopt, sum)),
            kGoldenWithoutMap);
  EXPECT_EQ(ToHex(TableDigest(geometry, PackedFp8Layout(32), Sha256Of("map"), sum)),
            kGoldenWithMap);
}

TEST(TableDigest, EveryInputCounts) {
  const Geometry base = *Geometry::Derive(TinyParams());
  const RowLayout layout = PackedFp8Layout(32);
  const Sha256 map = Sha256Of("map");
  std::vector<Sha256> digests = {
      TableDigest(base, layout, map, RowSum(1, 2)),
      TableDigest(base, layout, map, RowSum(2, 1)),
      TableDigest(base, layout, Sha256Of("other"), RowSum(1, 2)),
      TableDigest(base, layout, std::nullopt, RowSum(1, 2)),
      TableDigest(base, PackedFp8Layout(64), map, RowSum(1, 2)),
      TableDigest(base, {ValueType::kFp8E4M3, 32, ScaleType::kUe8m0, 2}, map, RowSum(1, 2)),
      TableDigest(base, {ValueType::kBf16, 32, ScaleType::kNone, 0}, map, RowSum(1, 2)),
      TableDigest(base, {ValueType::kF16, 32, ScaleType::kNone, 0}, map, RowSum(1, 2)),
  };
  void (*const kChanges[])(GeometryParams&) = {
      [](GeometryParams& p) {
        p.layer_ids = {0, 3};
      },
      [](GeometryParams& p) {
        p.layer_ids = {2, 0};
      },
      [](GeometryParams& p) { p.layer_ids = {0}; },
      [](GeometryParams& p) { p.max_ngram = 4, p.bucket_floors.push_back(17); },
      [](GeometryParams& p) { p.heads = 2; },
      [](GeometryParams& p) { p.bucket_floors[1] = 16; },  // the same primes, and yet not the same
      [](GeometryParams& p) { p.seed = 8; },
      [](GeometryParams& p) { p.compressed_vocab = 51; },
      [](GeometryParams& p) { p.pad_token = 5; },
  };
  for (const auto change : kChanges) {
    GeometryParams params = TinyParams();
    change(params);
    ASSERT_OK_AND_ASSIGN(const Geometry geometry, Geometry::Derive(params));
    digests.push_back(TableDigest(geometry, layout, map, RowSum(1, 2)));
  }
  for (size_t i = 0; i < digests.size(); ++i) {
    for (size_t j = 0; j < i; ++j) EXPECT_NE(digests[i], digests[j]) << i << " and " << j;
  }
}

}  // namespace
}  // namespace engram
