#include "proto/row_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"

namespace engram {
namespace {

TEST(RowLayout, PackedFp8IsValuesThenOneScalePer32) {
  const RowLayout layout = PackedFp8Layout(256);
  EXPECT_EQ(layout, (RowLayout{ValueType::kFp8E4M3, 256, ScaleType::kUe8m0, 8}));
  EXPECT_EQ(layout.value_bytes(), 256u);
  EXPECT_EQ(layout.row_bytes(), 264u);
  EXPECT_THAT(layout.Validate(), IsOk());
}

TEST(RowLayout, BytesOfEveryValueType) {
  const struct {
    ValueType type;
    const char* name;
    uint32_t bytes;
  } kCases[] = {{ValueType::kFp8E4M3, "fp8_e4m3", 64},
                {ValueType::kBf16, "bf16", 128},
                {ValueType::kF16, "f16", 128},
                {ValueType::kF32, "f32", 256}};
  for (const auto& test : kCases) {
    const RowLayout layout = {test.type, 64, ScaleType::kNone, 0};
    EXPECT_EQ(layout.row_bytes(), test.bytes) << test.name;
    EXPECT_EQ(ValueTypeName(test.type), test.name);
    EXPECT_THAT(layout.Validate(), IsOk()) << test.name;
  }
  EXPECT_EQ(ScaleTypeName(ScaleType::kNone), "none");
  EXPECT_EQ(ScaleTypeName(ScaleType::kUe8m0), "ue8m0");
}

// The numbers go into digests and messages: they never change.
TEST(RowLayout, NumbersOfTheTypes) {
  EXPECT_EQ(static_cast<int>(ValueType::kFp8E4M3), 1);
  EXPECT_EQ(static_cast<int>(ValueType::kBf16), 2);
  EXPECT_EQ(static_cast<int>(ValueType::kF16), 3);
  EXPECT_EQ(static_cast<int>(ValueType::kF32), 4);
  EXPECT_EQ(static_cast<int>(ScaleType::kNone), 0);
  EXPECT_EQ(static_cast<int>(ScaleType::kUe8m0), 1);
}

TEST(RowLayout, WhatMakesNoRowIsRefused) {
  const struct {
    RowLayout layout;
    const char* message;
  } kCases[] = {
      {{ValueType::kBf16, 0, ScaleType::kNone, 0}, "0 values"},
      {{ValueType::kBf16, 65537, ScaleType::kNone, 0}, "65537 values"},
      {{ValueType::kFp8E4M3, 64, ScaleType::kUe8m0, 0}, "0 scales of type ue8m0"},
      {{ValueType::kFp8E4M3, 64, ScaleType::kNone, 2}, "2 scales of type none"},
      {{ValueType::kFp8E4M3, 64, ScaleType::kUe8m0, 3}, "3 scales"},
      {{ValueType::kFp8E4M3, 64, ScaleType::kUe8m0, 128}, "128 scales"},
      {{static_cast<ValueType>(0), 64, ScaleType::kNone, 0}, "unknown"},
      {{static_cast<ValueType>(5), 64, ScaleType::kNone, 0}, "unknown"},
      {{ValueType::kF32, 64, static_cast<ScaleType>(2), 2}, "unknown"},
  };
  for (const auto& test : kCases) {
    EXPECT_THAT(test.layout.Validate(), StatusIs(absl::StatusCode::kInvalidArgument, test.message));
  }
  EXPECT_THAT((RowLayout{ValueType::kF32, 65536, ScaleType::kNone, 0}).Validate(), IsOk());
}

}  // namespace
}  // namespace engram
