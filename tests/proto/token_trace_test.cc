#include "proto/token_trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "proto/base/file.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

using testing::ElementsAre;

class TokenTraceTest : public testing::Test {
 protected:
  ~TokenTraceTest() override { std::filesystem::remove(path_); }

  // Writes the words, little-endian, and `tail` after them; then reads the file as a trace.
  absl::StatusOr<TokenTrace> Read(const std::vector<uint32_t>& words, absl::string_view tail = "") {
    std::string bytes;
    for (const uint32_t word : words) {
      for (int shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(word >> shift);
    }
    bytes.append(tail.data(), tail.size());
    const absl::Status written = WriteFileAtomically(path_, bytes);
    if (!written.ok()) return written;
    return ReadTokenTrace(path_);
  }

  // ctest runs every test in a process of its own.
  const std::string path_ =
      (std::filesystem::temp_directory_path() / absl::StrCat("engram_trace.", getpid())).string();
};

TEST_F(TokenTraceTest, ReadsSequences) {
  ASSERT_OK_AND_ASSIGN(const TokenTrace trace, Read({3, 10, 0x01020304, 12, 1, 0xFFFFFFFF}));
  EXPECT_THAT(trace, ElementsAre(ElementsAre(10, 0x01020304, 12), ElementsAre(0xFFFFFFFF)));
}

// The format stays readable: this file is of the format's first version.
TEST(TokenTraceGolden, IsRead) {
  ASSERT_OK_AND_ASSIGN(const TokenTrace trace, ReadTokenTrace("tests/proto/golden/trace-v1.u32"));
  EXPECT_THAT(trace, ElementsAre(ElementsAre(10, 0x01020304, 12), ElementsAre(0xFFFFFFFF)));
}

TEST_F(TokenTraceTest, DamageNamesFileAndSequence) {
  const struct {
    std::vector<uint32_t> words;
    const char* tail;
    const char* message;
  } kCases[] = {
      {{3, 10, 11}, "", "sequence 0 is cut off"},
      {{1, 10, 2, 20}, "", "sequence 1 is cut off"},
      {{1, 10, 0, 1, 20}, "", "sequence 1 is empty"},
      {{1, 10}, "abc", "sequence 1 is cut off"},
      {{2, 10}, "abc", "sequence 0 is cut off"},
      {{0xFFFFFFFF, 10}, "", "sequence 0 is cut off"},
      {{}, "", "is empty"},
  };
  for (const auto& test : kCases) {
    const absl::StatusOr<TokenTrace> trace = Read(test.words, test.tail);
    EXPECT_THAT(trace, StatusIs(absl::StatusCode::kInvalidArgument, test.message));
    EXPECT_THAT(trace, StatusIs(absl::StatusCode::kInvalidArgument, path_));
  }
}

TEST_F(TokenTraceTest, NoFile) {
  EXPECT_THAT(ReadTokenTrace(path_), StatusIs(absl::StatusCode::kNotFound, path_));
}

}  // namespace
}  // namespace engram
