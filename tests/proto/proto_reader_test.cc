#include "proto/base/proto_reader.h"

#include <google/protobuf/io/coded_stream.h>
#include <gtest/gtest.h>

#include "proto/base/proto_writer.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

std::string Varint(uint64_t value) {
  uint8_t buffer[10];
  return std::string(buffer, WriteVarint(value, buffer));
}

TEST(ProtoReader, VarintsAreProtobufs) {
  for (int bits = 0; bits < 64; ++bits) {
    for (const uint64_t value :
         {uint64_t{1} << bits, (uint64_t{1} << bits) - 1, ~uint64_t{0} >> bits}) {
      uint8_t buffer[10];
      uint8_t* const end =
          google::protobuf::io::CodedOutputStream::WriteVarint64ToArray(value, buffer);
      EXPECT_EQ(Varint(value), std::string(buffer, end));
      const std::string field = '\x08' + Varint(value);
      ProtoReader in(field);
      uint64_t read = 0;
      ASSERT_TRUE(in.Next() && in.Uint(read));
      EXPECT_EQ(read, value);
      EXPECT_FALSE(in.Next());
      EXPECT_TRUE(in.ok());
    }
  }
}

// Neither side has bytes whose address could be taken: the undefined-behaviour sanitizer looks.
TEST(ProtoReader, APackedFieldMayBeEmpty) {
  ProtoReader in(absl::string_view("\x42\0", 2));
  std::vector<uint32_t> values;
  ASSERT_TRUE(in.Next());
  EXPECT_TRUE(in.Fixed(8, values));
  EXPECT_TRUE(values.empty());
  EXPECT_FALSE(in.Next());
  EXPECT_TRUE(in.ok());
}

// What a reader makes of one field; it says no, and nothing can be read after that.
template <typename Read>
void ExpectRefused(const std::string& bytes, Read read) {
  ProtoReader in(bytes);
  EXPECT_FALSE(in.Next() && read(in));
  EXPECT_FALSE(in.ok());
  EXPECT_FALSE(in.Next());
  EXPECT_THAT(in.Malformed("Thing"), StatusIs(absl::StatusCode::kInvalidArgument, "Thing: field "));
}

TEST(ProtoReader, RefusesWhatIsNoField) {
  uint64_t wide = 0;
  uint32_t narrow = 0;
  std::string text;
  absl::string_view bytes;
  std::vector<uint32_t> list;
  const auto skip = [](ProtoReader& in) { return in.Skip(); };
  const auto uint = [&](ProtoReader& in) { return in.Uint(wide); };
  ExpectRefused("\x80", skip);                                          // half a tag
  ExpectRefused(std::string(1, '\0'), skip);                            // field 0
  ExpectRefused("\x0b", skip);                                          // a group
  ExpectRefused("\x0e", skip);                                          // no wire type
  ExpectRefused("\x08", uint);                                          // no value
  ExpectRefused("\x08\x80", uint);                                      // half of one
  ExpectRefused("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", uint);  // 65 bits
  ExpectRefused("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", uint);
  ExpectRefused(
      "\x0d"
      "1234",
      uint);  // another type
  ExpectRefused("\x08" + Varint(uint64_t{1} << 32),
                [&](ProtoReader& in) { return in.Uint(narrow); });
  ExpectRefused(
      "\x0a\x03"
      "ab",
      [&](ProtoReader& in) { return in.Bytes(bytes); });
  ExpectRefused("\x0a" + Varint(~uint64_t{0}) + "ab",
                [&](ProtoReader& in) { return in.Bytes(bytes); });
  ExpectRefused(
      "\x0a\x03"
      "abc",
      [&](ProtoReader& in) { return in.String(2, text); });
  ExpectRefused(
      "\x09"
      "1234567",
      skip);
  ExpectRefused(
      "\x0d"
      "123",
      skip);
  ExpectRefused(
      "\x0a\x03"
      "abc",
      [&](ProtoReader& in) { return in.Fixed(9, list); });
  ExpectRefused(
      "\x0a\x08"
      "12345678",
      [&](ProtoReader& in) { return in.Fixed(1, list); });
  ExpectRefused("\x0a\x02\x05\x80", [&](ProtoReader& in) { return in.Uints(9, list); });
  list.clear();
  ExpectRefused("\x0a\x02\x05\x06", [&](ProtoReader& in) { return in.Uints(1, list); });
}

TEST(ProtoReader, RepeatedFieldsComePackedOrOneByOne) {
  std::vector<uint32_t> fixed, numbers;
  const std::string bytes = std::string(
                                "\x0d"
                                "abcd"
                                "\x0a\x08"
                                "efghijkl",
                                15) +
                            std::string("\x10\x05\x12\x03\x06\x80\x01", 7);
  ProtoReader in(bytes);
  while (in.Next()) ASSERT_TRUE(in.field() == 1 ? in.Fixed(3, fixed) : in.Uints(3, numbers));
  EXPECT_TRUE(in.ok());
  EXPECT_EQ(in.position(), bytes.size());
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(fixed.data()), 12), "abcdefghijkl");
  EXPECT_EQ(numbers, (std::vector<uint32_t>{5, 6, 128}));
}

}  // namespace
}  // namespace engram
