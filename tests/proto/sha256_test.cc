#include "proto/sha256.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cctype>

#include "tests/support/status_matchers.h"

namespace engram {
namespace {

// FIPS 180-2, appendix B, and the empty message.
constexpr char kEmpty[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
constexpr char kAbc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr char kMillion[] = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";

TEST(Sha256, KnownVectors) {
  EXPECT_EQ(ToHex(Sha256Of("")), kEmpty);
  EXPECT_EQ(ToHex(Sha256Of("abc")), kAbc);
  EXPECT_EQ(ToHex(Sha256Of(std::string(1000000, 'a'))), kMillion);
}

TEST(Sha256, HexThereAndBack) {
  ASSERT_OK_AND_ASSIGN(const Sha256 lower, Sha256FromHex(kAbc));
  EXPECT_EQ(lower, Sha256Of("abc"));
  std::string upper = kAbc;
  for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  ASSERT_OK_AND_ASSIGN(const Sha256 from_upper, Sha256FromHex(upper));
  EXPECT_EQ(from_upper, lower);
}

TEST(Sha256, WhatIsNotSixtyFourHexDigitsIsRefused) {
  const std::string good = kAbc;
  for (const std::string& bad :
       {std::string(), good.substr(1), good + "0", "0x" + good.substr(2), "g" + good.substr(1),
        " " + good.substr(1), std::string(64, '\0'), std::string(1000, 'a')}) {
    EXPECT_THAT(Sha256FromHex(bad),
                StatusIs(absl::StatusCode::kInvalidArgument, "is not 64 hex digits"))
        << bad;
  }
}

TEST(Sha256, OfBytesThatAreNotThirtyTwo) {
  const Sha256 hash = Sha256Of("abc");
  const std::string bytes(hash.begin(), hash.end());
  EXPECT_THAT(Sha256FromBytes(bytes), IsOkAndHolds(hash));
  for (const std::string& bad : {std::string(), bytes.substr(1), bytes + '\0'}) {
    EXPECT_THAT(Sha256FromBytes(bad), StatusIs(absl::StatusCode::kInvalidArgument,
                                               absl::StrCat("32 bytes, not ", bad.size())));
  }
}

}  // namespace
}  // namespace engram
