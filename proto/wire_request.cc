// The server's side of the stream's requests: they lie in the slices that gRPC hands out, which
// protobuf's own stream reads. The client's side (wire.cc) does without protobuf.
#include "absl/strings/str_cat.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/wire_format_lite.h"
#include "proto/wire.h"

namespace engram {
namespace {

using google::protobuf::io::CodedInputStream;
using WireFormat = google::protobuf::internal::WireFormatLite;
using WireType = WireFormat::WireType;

constexpr size_t kMaxDigestBytes = 64;

bool ReadUint(CodedInputStream& in, WireType type, uint64_t& value) {
  return type == WireFormat::WIRETYPE_VARINT && in.ReadVarint64(&value);
}

bool ReadUint(CodedInputStream& in, WireType type, uint32_t& value) {
  uint64_t wide = 0;
  if (!ReadUint(in, type, wide) || wide > UINT32_MAX) return false;
  value = static_cast<uint32_t>(wide);
  return true;
}

template <typename Enum>
bool ReadEnum(CodedInputStream& in, WireType type, Enum& value) {
  uint32_t number = 0;
  if (!ReadUint(in, type, number)) return false;
  value = static_cast<Enum>(number);
  return true;
}

bool ReadBytes(CodedInputStream& in, WireType type, size_t max_bytes, std::string& value) {
  uint32_t size = 0;
  return type == WireFormat::WIRETYPE_LENGTH_DELIMITED && in.ReadVarint32(&size) &&
         size <= max_bytes && in.ReadString(&value, static_cast<int>(size));
}

// A repeated fixed32 or fixed64: packed (read as one block) or element by element, as protobuf
// allows both. Appends to `values`; sets `too_many` instead of growing beyond `max_count`, so that
// a length that a peer made up takes no memory.
template <typename T>
bool ReadFixed(CodedInputStream& in, WireType type, uint64_t max_count, std::vector<T>& values,
               bool& too_many) {
  constexpr WireType kSingle =
      sizeof(T) == 4 ? WireFormat::WIRETYPE_FIXED32 : WireFormat::WIRETYPE_FIXED64;
  size_t bytes = sizeof(T);
  if (type == WireFormat::WIRETYPE_LENGTH_DELIMITED) {
    uint32_t size = 0;
    if (!in.ReadVarint32(&size) || size % sizeof(T) != 0) return false;
    bytes = size;
  } else if (type != kSingle) {
    return false;
  }
  const size_t before = values.size();
  if (bytes / sizeof(T) > max_count - before) {
    too_many = true;
    return false;
  }
  values.resize(before + bytes / sizeof(T));
  return in.ReadRaw(values.data() + before, static_cast<int>(bytes));
}

// Calls read_field(number, type, tag) for every field; it returns false on a malformed one.
template <typename ReadField>
absl::Status ReadFields(CodedInputStream& in, ReadField read_field) {
  while (const uint32_t tag = in.ReadTag()) {
    const int number = WireFormat::GetTagFieldNumber(tag);
    if (!read_field(number, WireFormat::GetTagWireType(tag), tag)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "GatherStreamRequest: field ", number, " is cut off, oversized or of the wrong type"));
    }
  }
  if (!in.ConsumedEntireMessage()) {
    return absl::InvalidArgumentError("GatherStreamRequest is not a protobuf message");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status DecodeStreamRequest(google::protobuf::io::ZeroCopyInputStream* input,
                                 uint64_t max_rows, StreamRequest& request) {
  request.request_id = 0;
  request.kind = RequestKind::kUnspecified;
  request.digest.clear();
  request.layer = 0;
  request.priority = WirePriority::kUnspecified;
  request.budget_us = 0;
  request.flags = 0;
  request.rows.clear();
  request.wide_rows.clear();
  CodedInputStream in(input);
  bool too_many = false;
  const absl::Status status = ReadFields(in, [&](int number, WireType type, uint32_t tag) {
    switch (number) {
      case 1:
        return ReadUint(in, type, request.request_id);
      case 2:
        return ReadEnum(in, type, request.kind);
      case 3:
        return ReadBytes(in, type, kMaxDigestBytes, request.digest);
      case 4:
        return ReadUint(in, type, request.layer);
      case 5:
        return ReadEnum(in, type, request.priority);
      case 6:
        return ReadUint(in, type, request.budget_us);
      case 7:
        return ReadUint(in, type, request.flags);
      case 8:
        return ReadFixed(in, type, max_rows, request.rows, too_many);
      case 9:
        return ReadFixed(in, type, max_rows, request.wide_rows, too_many);
      default:
        return WireFormat::SkipField(&in, tag);
    }
  });
  if (too_many) {
    return absl::InvalidArgumentError(
        absl::StrCat("request asks for more than ", max_rows, " rows, the most this server takes"));
  }
  return status;
}

}  // namespace engram
