#include "proto/token_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"

namespace engram {
namespace {

using testing::ElementsAre;
using Ids = std::vector<uint32_t>;

TEST(TokenMap, CompressesAndCounts) {
  ASSERT_OK_AND_ASSIGN(const TokenMap map, TokenMap::Create({0, 1, 0, 2, 1}));
  EXPECT_EQ(map.tokens(), 5u);
  EXPECT_EQ(map.compressed_count(), 3u);
  EXPECT_THAT(map.compressed(), ElementsAre(0, 1, 0, 2, 1));
  EXPECT_EQ(*map.Compress(3), 2u);
  EXPECT_THAT(map.Compress(5),
              StatusIs(kInvalid, "token id 5 is beyond the token map of 5 tokens"));
  EXPECT_THAT(map.Compress(0xFFFFFFFF), StatusIs(kInvalid, "4294967295"));
}

TEST(TokenMap, SerializesAsLittleEndianWords) {
  Ids ids(0x102 + 1);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<uint32_t>(i);
  ASSERT_OK_AND_ASSIGN(const TokenMap map, TokenMap::Create(ids));
  const std::string bytes = map.Serialize();
  ASSERT_EQ(bytes.size(), ids.size() * 4);
  EXPECT_EQ(bytes.substr(bytes.size() - 4), std::string("\x02\x01\x00\x00", 4));
  EXPECT_EQ(map.sha256(), Sha256Of(bytes));
  ASSERT_OK_AND_ASSIGN(const TokenMap again, TokenMap::Parse(bytes));
  EXPECT_EQ(again.Serialize(), bytes);
  EXPECT_EQ(again.sha256(), map.sha256());
}

// sha256sum of the twelve bytes.
TEST(TokenMap, HashIsThatOfTheFile) {
  ASSERT_OK_AND_ASSIGN(const TokenMap map, TokenMap::Create({0, 1, 0}));
  EXPECT_EQ(ToHex(map.sha256()),
            "31190090408f837aa1dc44bf75404af354a0e5d5c965f1d407a97dd627554da5");
}

TEST(TokenMap, IdsMustOpenInOrder) {
  EXPECT_THAT(TokenMap::Create({1}), StatusIs(kInvalid, "token 0 has compressed id 1"));
  EXPECT_THAT(TokenMap::Create({0, 2, 1}), StatusIs(kInvalid, "token 1 has compressed id 2"));
  EXPECT_THAT(TokenMap::Create({0, 0xFFFFFFFF}), StatusIs(kInvalid, "expected at most 1"));
}

TEST(TokenMap, NoTokensOrTooMany) {
  EXPECT_THAT(TokenMap::Create({}), StatusIs(kInvalid, "0 tokens"));
  EXPECT_THAT(TokenMap::Parse(""), StatusIs(kInvalid, "0 tokens"));
}

TEST(TokenMap, ACutFileIsRefused) {
  const std::string whole = TokenMap::Create({0, 1})->Serialize();
  for (const size_t size : {1u, 2u, 3u, 5u, 7u}) {
    EXPECT_THAT(TokenMap::Parse(absl::string_view(whole).substr(0, size)),
                StatusIs(kInvalid, "not a multiple of 4"));
  }
}

}  // namespace
}  // namespace engram
