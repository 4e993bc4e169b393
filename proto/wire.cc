#include "proto/wire.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/wire_format_lite.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

using google::protobuf::io::CodedInputStream;
using google::protobuf::io::CodedOutputStream;
using WireFormat = google::protobuf::internal::WireFormatLite;
using WireType = WireFormat::WireType;

constexpr size_t kMaxDigestBytes = 64;
constexpr size_t kMaxMessageBytes = 4096;
constexpr uint64_t kMaxChecksums = uint64_t{1} << 20;  // a piece has a few thousand rows

absl::Status Malformed(absl::string_view message, int field) {
  return absl::InvalidArgumentError(
      absl::StrCat(message, ": field ", field, " is cut off, oversized or of the wrong type"));
}

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

// One RowFailure message.
bool ReadFailure(CodedInputStream& in, WireType type,
                 std::vector<std::pair<uint32_t, uint32_t>>& failures) {
  uint32_t size = 0;
  if (type != WireFormat::WIRETYPE_LENGTH_DELIMITED || !in.ReadVarint32(&size)) return false;
  const CodedInputStream::Limit limit = in.PushLimit(static_cast<int>(size));
  std::pair<uint32_t, uint32_t> failure{0, 0};
  while (const uint32_t tag = in.ReadTag()) {
    const WireType field_type = WireFormat::GetTagWireType(tag);
    bool ok = false;
    switch (WireFormat::GetTagFieldNumber(tag)) {
      case 1:
        ok = ReadUint(in, field_type, failure.first);
        break;
      case 2:
        ok = ReadUint(in, field_type, failure.second);
        break;
      default:
        ok = WireFormat::SkipField(&in, tag);
    }
    if (!ok) return false;
  }
  const bool complete = in.ConsumedEntireMessage();
  in.PopLimit(limit);
  failures.push_back(failure);
  return complete;
}

// Calls read_field(number, type, tag) for every field; it returns false on a malformed one. Ends
// early, and well, once `stop` is true.
template <typename ReadField>
absl::Status ReadFields(CodedInputStream& in, absl::string_view message, const bool& stop,
                        ReadField read_field) {
  while (const uint32_t tag = in.ReadTag()) {
    const int number = WireFormat::GetTagFieldNumber(tag);
    if (!read_field(number, WireFormat::GetTagWireType(tag), tag)) {
      return Malformed(message, number);
    }
    if (stop) return absl::OkStatus();
  }
  if (!in.ConsumedEntireMessage()) {
    return absl::InvalidArgumentError(absl::StrCat(message, " is not a protobuf message"));
  }
  return absl::OkStatus();
}

uint8_t* WriteUint(int field, uint64_t value, uint8_t* out) {
  return WireFormat::WriteUInt64ToArray(field, value, out);
}

uint8_t* WriteLengthTag(int field, uint64_t bytes, uint8_t* out) {
  out = WireFormat::WriteTagToArray(field, WireFormat::WIRETYPE_LENGTH_DELIMITED, out);
  return CodedOutputStream::WriteVarint64ToArray(bytes, out);
}

void AppendTo(std::string& out, const uint8_t* begin, const uint8_t* end) {
  out.append(reinterpret_cast<const char*>(begin), static_cast<size_t>(end - begin));
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
  const absl::Status status = ReadFields(
      in, "GatherStreamRequest", /*stop=*/false, [&](int number, WireType type, uint32_t tag) {
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

size_t EncodeRequestHeader(uint64_t request_id, const Sha256& digest, uint32_t layer,
                           WirePriority priority, uint64_t budget_us, uint32_t flags, uint64_t rows,
                           bool wide, uint8_t* out) {
  uint8_t* end = out;
  end = WriteUint(1, request_id, end);
  end = WriteUint(2, static_cast<uint32_t>(RequestKind::kGather), end);
  end = WriteLengthTag(3, digest.size(), end);
  std::memcpy(end, digest.data(), digest.size());
  end += digest.size();
  end = WriteUint(4, layer, end);
  end = WriteUint(5, static_cast<uint32_t>(priority), end);
  if (budget_us != 0) end = WriteUint(6, budget_us, end);
  if (flags != 0) end = WriteUint(7, flags, end);
  end = WriteLengthTag(wide ? 9 : 8, rows * (wide ? sizeof(uint64_t) : sizeof(uint32_t)), end);
  return static_cast<size_t>(end - out);
}

std::string EncodeCancel(uint64_t request_id) {
  uint8_t buffer[32];
  uint8_t* end = WriteUint(1, request_id, buffer);
  end = WriteUint(2, static_cast<uint32_t>(RequestKind::kCancel), end);
  std::string out;
  AppendTo(out, buffer, end);
  return out;
}

absl::StatusOr<size_t> DecodeResponseHeader(const uint8_t* data, size_t size, size_t message_bytes,
                                            StreamResponse& response) {
  response.request_id = 0;
  response.kind = ResponseKind::kUnspecified;
  response.code = 0;
  response.message.clear();
  response.piece = 0;
  response.last = false;
  response.failures.clear();
  response.checksums.clear();
  response.rows_bytes = 0;
  CodedInputStream in(data, static_cast<int>(size));
  bool too_many = false;
  bool at_rows = false;
  const absl::Status status =
      ReadFields(in, "GatherStreamResponse", at_rows, [&](int number, WireType type, uint32_t tag) {
        switch (number) {
          case 1:
            return ReadUint(in, type, response.request_id);
          case 2:
            return ReadEnum(in, type, response.kind);
          case 3:
            return ReadUint(in, type, response.code);
          case 4:
            return ReadBytes(in, type, kMaxMessageBytes, response.message);
          case 5:
            return ReadUint(in, type, response.piece);
          case 6: {
            uint32_t last = 0;
            if (!ReadUint(in, type, last)) return false;
            response.last = last != 0;
            return true;
          }
          case 7:
            return ReadFailure(in, type, response.failures);
          case 8:
            return ReadFixed(in, type, kMaxChecksums, response.checksums, too_many);
          case 9:
            at_rows = type == WireFormat::WIRETYPE_LENGTH_DELIMITED &&
                      in.ReadVarint64(&response.rows_bytes);
            return at_rows;
          default:
            return WireFormat::SkipField(&in, tag);
        }
      });
  const size_t header_bytes = static_cast<size_t>(in.CurrentPosition());
  if (at_rows && message_bytes - header_bytes == response.rows_bytes) return header_bytes;
  if (at_rows) {
    return absl::InvalidArgumentError(
        "GatherStreamResponse: the rows are cut off, or not its last field");
  }
  // What looks malformed may be cut off where the data ends.
  if (size < message_bytes) return 0;
  RETURN_IF_ERROR(status);
  return header_bytes;
}

size_t EncodeAnswerHeader(uint64_t request_id, uint32_t piece, bool last,
                          std::span<const uint32_t> checksums, uint64_t rows_bytes, uint8_t* out) {
  uint8_t* end = WriteUint(1, request_id, out);
  end = WriteUint(2, static_cast<uint32_t>(ResponseKind::kAnswer), end);
  if (piece != 0) end = WriteUint(5, piece, end);
  if (last) end = WriteUint(6, 1, end);
  if (!checksums.empty()) {
    end = WriteLengthTag(8, checksums.size_bytes(), end);
    std::memcpy(end, checksums.data(), checksums.size_bytes());
    end += checksums.size_bytes();
  }
  if (rows_bytes != 0) end = WriteLengthTag(9, rows_bytes, end);
  return static_cast<size_t>(end - out);
}

std::string EncodeErrorAnswer(uint64_t request_id, const absl::Status& status) {
  const absl::string_view message = status.message().substr(0, kMaxMessageBytes);
  uint8_t buffer[kMaxAnswerHeader];
  uint8_t* end = WriteUint(1, request_id, buffer);
  end = WriteUint(2, static_cast<uint32_t>(ResponseKind::kAnswer), end);
  end = WriteUint(3, static_cast<uint32_t>(status.code()), end);
  end = WriteUint(6, 1, end);
  end = WriteLengthTag(4, message.size(), end);
  std::string out;
  AppendTo(out, buffer, end);
  out.append(message.data(), message.size());
  return out;
}

std::string EncodeDrainNotice() {
  uint8_t buffer[16];
  uint8_t* end = WriteUint(2, static_cast<uint32_t>(ResponseKind::kDraining), buffer);
  std::string out;
  AppendTo(out, buffer, end);
  return out;
}

}  // namespace engram
