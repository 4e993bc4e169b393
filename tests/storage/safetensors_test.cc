#include "storage/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/checkpoint_builder.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// A header of one tensor, its entry spelt out.
std::string Entry(absl::string_view entry) { return absl::StrCat(R"({"t": )", entry, "}"); }

class SafetensorsTest : public ::testing::Test {
 protected:
  absl::StatusOr<SafetensorsFile> Read(absl::string_view file_bytes) {
    WriteTestFile(path_, file_bytes);
    return ReadSafetensorsHeader(path_);
  }

  TempDir dir_;
  const std::string path_ = dir_.File("a.safetensors");
};

TEST_F(SafetensorsTest, PlacesEveryTensor) {
  const std::string bytes = SafetensorsBytes({{"w", "F8_E4M3", {2, 3}, "abcdef"},
                                              {"s", "F32", {1}, "0123"},
                                              {"scalar", "U8", {}, "x"},
                                              {"none", "I64", {0, 5}, ""}});
  ASSERT_OK_AND_ASSIGN(const SafetensorsFile file, Read(bytes));
  EXPECT_EQ(file.path, path_);
  EXPECT_EQ(file.stamp.size, bytes.size());
  ASSERT_EQ(file.tensors.size(), 4u);
  const SafetensorsTensor& w = file.tensors.at("w");
  EXPECT_EQ(w.dtype, "F8_E4M3");
  EXPECT_THAT(w.shape, ElementsAre(2, 3));
  EXPECT_EQ(bytes.substr(w.file_offset, w.bytes), "abcdef");
  const SafetensorsTensor& s = file.tensors.at("s");
  EXPECT_EQ(bytes.substr(s.file_offset, s.bytes), "0123");
  EXPECT_THAT(file.tensors.at("scalar").shape, IsEmpty());
  EXPECT_EQ(file.tensors.at("none").bytes, 0u);
}

TEST_F(SafetensorsTest, AcceptsMetadataPaddingAndUnknownDtypes) {
  EXPECT_THAT(Read(SafetensorsBytes("{}      ", "")), IsOk());
  EXPECT_THAT(Read(SafetensorsBytes(R"({"__metadata__": {"format": "pt"}})", "")), IsOk());
  // The size of an element of a newer dtype is not known, so it cannot be held against the bytes.
  EXPECT_THAT(Read(SafetensorsBytes(
                  Entry(R"({"dtype": "F5", "shape": [3], "data_offsets": [0, 2]})"), "ab")),
              IsOk());
  // Two elements to the byte.
  EXPECT_THAT(Read(SafetensorsBytes(
                  Entry(R"({"dtype": "F4", "shape": [4], "data_offsets": [0, 2]})"), "ab")),
              IsOk());
}

TEST_F(SafetensorsTest, RefusesFilesThatAreNone) {
  EXPECT_THAT(ReadSafetensorsHeader(dir_.File("absent")),
              StatusIs(absl::StatusCode::kNotFound, dir_.File("absent")));
  EXPECT_THAT(ReadSafetensorsHeader(dir_.path()), StatusIs(kInvalid, "not a regular file"));
  // A pipe that nobody writes to must not be waited for.
  ASSERT_EQ(mkfifo(dir_.File("pipe").c_str(), 0600), 0);
  EXPECT_THAT(ReadSafetensorsHeader(dir_.File("pipe")),
              StatusIs(kInvalid, dir_.File("pipe") + ": not a regular file"));
  EXPECT_THAT(Read(""), StatusIs(kInvalid, absl::StrCat(path_, ": the file has 0 bytes, too few")));
  EXPECT_THAT(Read("1234567"), StatusIs(kInvalid, "the file has 7 bytes, too few"));
  EXPECT_THAT(Read("not a safetensors file"), StatusIs(kInvalid, "the format allows 100000000"));
}

TEST_F(SafetensorsTest, RefusesHeaderLengthsBeyondTheFileOrTheFormat) {
  std::string bytes = SafetensorsBytes("{}", "");
  bytes[0] = 3;
  EXPECT_THAT(Read(bytes), StatusIs(kInvalid,
                                    "the header states a length of 3 bytes, beyond the "
                                    "file's end (10 bytes): truncated"));
  const uint64_t length = kMaxSafetensorsHeader + 1;
  std::memcpy(bytes.data(), &length, sizeof(length));
  WriteTestFile(path_, bytes);
  std::filesystem::resize_file(path_, 2 * length);  // Long enough to hold such a header: a hole.
  EXPECT_THAT(ReadSafetensorsHeader(path_),
              StatusIs(kInvalid,
                       "the header states a length of 100000001 bytes; the format allows "
                       "100000000"));
}

struct BadHeader {
  std::string header;
  std::string data;
  std::string message;
};

TEST_F(SafetensorsTest, GapsThatAlignATensorAreTaken) {
  const auto read = [&](uint64_t begin) {
    const std::string header =
        absl::StrCat(R"({"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]},
                         "b": {"dtype": "U8", "shape": [2], "data_offsets": [)",
                     begin, ", ", begin + 2, "]}}");
    return Read(SafetensorsBytes(header, std::string(begin + 2, 'x')));
  };
  for (const uint64_t begin : {2, 4, 8, 64, 4096}) EXPECT_THAT(read(begin), IsOk()) << begin;
  EXPECT_THAT(read(3), StatusIs(kInvalid, "a hole of 1 bytes before tensor `b`"));
  EXPECT_THAT(read(68), StatusIs(kInvalid, "a hole of 66 bytes before tensor `b`"));
  EXPECT_THAT(read(8192), StatusIs(kInvalid, "a hole of 8190 bytes before tensor `b`"));
}

TEST_F(SafetensorsTest, RefusesBadHeaders) {
  const std::string two = R"({"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]},
                              "b": {"dtype": "U8", "shape": [2], "data_offsets": [)";
  const std::string good = R"({"dtype": "U8", "shape": [2], "data_offsets": [0, 2]})";
  const BadHeader kCases[] = {
      {"{", "", "its header is not valid JSON"},
      {"[]", "", "its header holds a JSON array, not an object"},
      {absl::StrCat(R"({"t": )", good, R"(, "t": )", good, "}"), "ab", "key `t` appears twice"},
      {R"({"__metadata__": "pt"})", "", "`__metadata__` is not a JSON object"},
      {Entry("3"), "", "tensor `t` is not a JSON object"},
      {Entry(R"({"shape": [2], "data_offsets": [0, 2]})"), "ab",
       "tensor `t`: field `dtype` is missing"},
      {Entry(R"({"dtype": 8, "shape": [2], "data_offsets": [0, 2]})"), "ab",
       "tensor `t`: field `dtype` is not a string"},
      {Entry(R"({"dtype": "U8", "data_offsets": [0, 2]})"), "ab",
       "tensor `t`: field `shape` is missing"},
      {Entry(R"({"dtype": "U8", "shape": 2, "data_offsets": [0, 2]})"), "ab",
       "tensor `t`: field `shape` is not a list"},
      {Entry(R"({"dtype": "U8", "shape": [-2], "data_offsets": [0, 2]})"), "ab",
       "tensor `t`: field `shape` is -2"},
      {Entry(R"({"dtype": "U8", "shape": [2.0], "data_offsets": [0, 2]})"), "ab",
       "tensor `t`: field `shape` is 2.0"},
      {Entry(R"({"dtype": "U8", "shape": [2]})"), "ab",
       "tensor `t`: field `data_offsets` is missing"},
      {Entry(R"({"dtype": "U8", "shape": [2], "data_offsets": "0-2"})"), "ab",
       "tensor `t`: field `data_offsets` is not a list"},
      {Entry(R"({"dtype": "U8", "shape": [2], "data_offsets": [0]})"), "ab",
       "tensor `t`: field `data_offsets` has 1 element, expected 2"},
      {Entry(R"({"dtype": "U8", "shape": [2], "data_offsets": [0, 1, 2]})"), "ab",
       "tensor `t`: field `data_offsets` has 3 elements"},
      {Entry(R"({"dtype": "U8", "shape": [2], "data_offsets": [0, -1]})"), "ab",
       "tensor `t`: field `data_offsets` is -1"},
      {Entry(R"({"dtype": "U8", "shape": [2], "data_offsets": [2, 0]})"), "ab",
       "tensor `t`: field `data_offsets` begins at 2, after its end 0"},
      {Entry(R"({"dtype": "U8", "shape": [2], "data_offsets": [0, 2]})"), "a",
       "tensor `t`: field `data_offsets` ends at 2, but the file has only 1 bytes of data: "
       "truncated"},
      {Entry(R"({"dtype": "U8", "shape": [2],
                 "data_offsets": [18446744073709551614, 18446744073709551615]})"),
       "ab", "but the file has only 2 bytes of data: truncated"},
      {two + "1, 3]}}", "abc", "tensors `a` and `b` overlap"},
      {two + "0, 2]}}", "ab", "tensors `a` and `b` overlap"},
      {two + "3, 5]}}", "abcde", "a hole of 1 bytes before tensor `b`"},
      {two + "2, 4]}}", "abcdef", "2 bytes at its end belong to no tensor"},
      {Entry(R"({"dtype": "U8", "shape": [4294967296, 4294967296], "data_offsets": [0, 2]})"), "ab",
       "tensor `t`: field `shape` [4294967296, 4294967296] overflows 64 bits"},
      {Entry(R"({"dtype": "F64", "shape": [9223372036854775807], "data_offsets": [0, 2]})"), "ab",
       "tensor `t`: field `shape` [9223372036854775807] of F64 overflows 64 bits"},
      {Entry(R"({"dtype": "F16", "shape": [2], "data_offsets": [0, 2]})"), "ab",
       "tensor `t`: field `data_offsets` spans 2 bytes, but shape [2] of F16 takes 4"},
      {Entry(R"({"dtype": "F4", "shape": [3], "data_offsets": [0, 1]})"), "a",
       "shape [3] of F4 takes 1 and a fraction"},
  };
  for (const BadHeader& bad : kCases) {
    SCOPED_TRACE(bad.header);
    const absl::Status status = Read(SafetensorsBytes(bad.header, bad.data)).status();
    EXPECT_THAT(status, StatusIs(kInvalid, bad.message));
    EXPECT_THAT(status, StatusIs(kInvalid, path_));
  }
}

// Every truncation of a good file is refused: no length happens to look whole.
TEST_F(SafetensorsTest, RefusesEveryTruncation) {
  const std::string bytes = SafetensorsBytes({{"w", "U8", {6}, "abcdef"}, {"s", "U8", {1}, "x"}});
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_THAT(Read(bytes.substr(0, size)), StatusIs(kInvalid, path_)) << size;
  }
}

TEST(SafetensorsDtypeBitsTest, KnowsTheTableTypes) {
  EXPECT_EQ(SafetensorsDtypeBits("F8_E4M3"), 8u);
  EXPECT_EQ(SafetensorsDtypeBits("F8_E8M0"), 8u);
  EXPECT_EQ(SafetensorsDtypeBits("BF16"), 16u);
  EXPECT_EQ(SafetensorsDtypeBits("F5"), 0u);
}

}  // namespace
}  // namespace engram
