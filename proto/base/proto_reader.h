// Reads protobuf's wire format from memory, field by field, without protobuf's runtime: a program
// that links the client carries a protobuf of its own, or none.
//
//   ProtoReader in(bytes);
//   while (in.Next()) {
//     if (!(in.field() == 1 ? in.Uint(id) : in.Skip())) return in.Malformed("Thing");
//   }
//   if (!in.ok()) return in.Malformed("Thing");
//
// Stricter than protobuf where a peer could only mean harm: a known field of another wire type, or
// a number that its type does not hold, is an error; groups are not read.
#ifndef ENGRAM_PROTO_BASE_PROTO_READER_H_
#define ENGRAM_PROTO_BASE_PROTO_READER_H_

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace engram {

// Borrows the bytes. After Next has said true, exactly one of the readers below must take the
// field; each is false where the field is cut off, or not of that type, and then all that follow
// are.
class ProtoReader {
 public:
  explicit ProtoReader(absl::string_view bytes)
      : begin_(reinterpret_cast<const uint8_t*>(bytes.data())),
        at_(begin_),
        end_(begin_ + bytes.size()) {}

  // To the next field. False at the end, or where there is none: then not ok().
  bool Next() {
    if (!ok_ || at_ == end_) return false;
    uint64_t tag = 0;
    ok_ = Varint(tag) && tag <= UINT32_MAX && tag >> 3 != 0;
    field_ = static_cast<uint32_t>(tag >> 3);
    type_ = static_cast<Type>(tag & 7);
    return ok_;
  }
  uint32_t field() const { return field_; }
  bool ok() const { return ok_; }
  // Bytes that were read.
  size_t position() const { return static_cast<size_t>(at_ - begin_); }

  bool Uint(uint64_t& value) { return ok_ = ok_ && type_ == kVarint && Varint(value); }
  bool Uint(uint32_t& value) {
    uint64_t wide = 0;
    ok_ = Uint(wide) && wide <= UINT32_MAX;
    if (ok_) value = static_cast<uint32_t>(wide);
    return ok_;
  }
  bool Bool(bool& value) {
    uint64_t number = 0;
    if (Uint(number)) value = number != 0;
    return ok_;
  }
  // A number that may be none of the enumerators.
  template <typename EnumType>
  bool Enum(EnumType& value) {
    uint32_t number = 0;
    if (Uint(number)) value = static_cast<EnumType>(number);
    return ok_;
  }
  // The length of a field whose bytes may not be there: they are not read.
  bool Length(uint64_t& length) { return ok_ = ok_ && type_ == kBytes && Varint(length); }
  // Of the bytes that the reader borrows.
  bool Bytes(absl::string_view& value) {
    uint64_t length = 0;
    return ok_ = Length(length) && Take(length, value);
  }
  bool String(size_t max_bytes, std::string& value) {
    absl::string_view bytes;
    ok_ = Bytes(bytes) && bytes.size() <= max_bytes;
    if (ok_) value.assign(bytes.data(), bytes.size());
    return ok_;
  }
  // A part of a repeated fixed32 or fixed64, packed or a single one, to the end of `values`, which
  // hold `max_count` at most.
  template <typename T>
  bool Fixed(uint64_t max_count, std::vector<T>& values) {
    absl::string_view bytes;
    if (type_ == (sizeof(T) == 4 ? kFixed32 : kFixed64)) {
      ok_ = ok_ && Take(sizeof(T), bytes);
    } else {
      ok_ = Bytes(bytes);
    }
    const size_t count = bytes.size() / sizeof(T), before = values.size();
    ok_ = ok_ && bytes.size() % sizeof(T) == 0 && count <= max_count - before;
    if (!ok_) return false;
    if (count == 0) return true;  // Neither may have an address.
    values.resize(before + count);
    std::memcpy(values.data() + before, bytes.data(), bytes.size());
    return true;
  }
  // The same of a repeated varint.
  template <typename T>
  bool Uints(uint64_t max_count, std::vector<T>& values) {
    if (type_ == kVarint) {
      ok_ = values.size() < max_count && Uint(values.emplace_back());
      return ok_;
    }
    absl::string_view bytes;
    if (!Bytes(bytes)) return false;
    ProtoReader packed(bytes);
    packed.type_ = kVarint;
    while (packed.at_ < packed.end_ && ok_) {
      ok_ = values.size() < max_count && packed.Uint(values.emplace_back());
    }
    return ok_;
  }
  bool Skip() {
    uint64_t number = 0;
    absl::string_view bytes;
    switch (type_) {
      case kVarint:
        return Uint(number);
      case kFixed64:
        return ok_ = ok_ && Take(8, bytes);
      case kBytes:
        return Bytes(bytes);
      case kFixed32:
        return ok_ = ok_ && Take(4, bytes);
    }
    return ok_ = false;
  }

  // Where it was not ok.
  absl::Status Malformed(absl::string_view message) const {
    return absl::InvalidArgumentError(
        absl::StrCat(message, ": field ", field_, " is cut off, oversized or of the wrong type"));
  }

 private:
  enum Type : uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

  bool Varint(uint64_t& value) {
    value = 0;
    for (int shift = 0; at_ < end_ && shift < 64; shift += 7) {
      const uint64_t byte = *at_++;
      value |= (byte & 0x7F) << shift;
      // The tenth byte holds the 64th bit alone.
      if (byte < 0x80) return shift < 63 || byte <= 1;
    }
    return false;
  }
  bool Take(uint64_t length, absl::string_view& bytes) {
    if (length > static_cast<uint64_t>(end_ - at_)) return false;
    bytes = {reinterpret_cast<const char*>(at_), static_cast<size_t>(length)};
    at_ += length;
    return true;
  }

  const uint8_t* const begin_;
  const uint8_t* at_;
  const uint8_t* const end_;
  uint32_t field_ = 0;
  Type type_ = kVarint;
  bool ok_ = true;
};

}  // namespace engram

#endif  // ENGRAM_PROTO_BASE_PROTO_READER_H_
