#include "proto/wire.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "proto/base/proto_reader.h"
#include "proto/base/proto_writer.h"
#include "proto/base/retry_after.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

constexpr size_t kMaxMessageBytes = 4096;
constexpr uint64_t kMaxChecksums = uint64_t{1} << 20;  // a piece has a few thousand rows

// One RowFailure message.
bool ReadFailure(ProtoReader& in, std::vector<std::pair<uint32_t, uint32_t>>& failures) {
  absl::string_view bytes;
  if (!in.Bytes(bytes)) return false;
  std::pair<uint32_t, uint32_t>& failure = failures.emplace_back(0, 0);
  ProtoReader fields(bytes);
  while (fields.Next()) {
    const bool ok = fields.field() == 1   ? fields.Uint(failure.first)
                    : fields.field() == 2 ? fields.Uint(failure.second)
                                          : fields.Skip();
    if (!ok) return false;
  }
  return fields.ok();
}

void AppendTo(std::string& out, const uint8_t* begin, const uint8_t* end) {
  out.append(reinterpret_cast<const char*>(begin), static_cast<size_t>(end - begin));
}

}  // namespace

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
  response.retry_after_us = 0;
  response.piece = 0;
  response.last = false;
  response.failures.clear();
  response.checksums.clear();
  response.rows_bytes = 0;
  ProtoReader in({reinterpret_cast<const char*>(data), size});
  bool at_rows = false;
  absl::Status status;
  while (!at_rows && status.ok() && in.Next()) {
    bool ok = true;
    switch (in.field()) {
      case 1:
        ok = in.Uint(response.request_id);
        break;
      case 2:
        ok = in.Enum(response.kind);
        break;
      case 3:
        ok = in.Uint(response.code);
        break;
      case 4:
        ok = in.String(kMaxMessageBytes, response.message);
        break;
      case 5:
        ok = in.Uint(response.piece);
        break;
      case 6:
        ok = in.Bool(response.last);
        break;
      case 7:
        ok = ReadFailure(in, response.failures);
        break;
      case 8:
        ok = in.Fixed(kMaxChecksums, response.checksums);
        break;
      case 9:
        ok = at_rows = in.Length(response.rows_bytes);
        break;
      case 10:
        ok = in.Uint(response.retry_after_us);
        break;
      default:
        ok = in.Skip();
    }
    if (!ok) status = in.Malformed("GatherStreamResponse");
  }
  if (status.ok() && !in.ok()) status = in.Malformed("GatherStreamResponse");
  const size_t header_bytes = in.position();
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
                          std::span<const std::pair<uint32_t, uint32_t>> failures,
                          std::span<const uint32_t> checksums, uint64_t rows_bytes, uint8_t* out) {
  uint8_t* end = WriteUint(1, request_id, out);
  end = WriteUint(2, static_cast<uint32_t>(ResponseKind::kAnswer), end);
  if (piece != 0) end = WriteUint(5, piece, end);
  if (last) end = WriteUint(6, 1, end);
  for (const auto& [position, code] : failures) {
    uint8_t fields[kMaxFailureBytes];
    const uint8_t* const fields_end = WriteUint(2, code, WriteUint(1, position, fields));
    const auto bytes = static_cast<size_t>(fields_end - fields);
    end = WriteLengthTag(7, bytes, end);
    std::memcpy(end, fields, bytes);
    end += bytes;
  }
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
  const absl::Duration retry_after = RetryAfter(status);
  if (retry_after > absl::ZeroDuration()) {
    end = WriteUint(10, static_cast<uint64_t>(absl::ToInt64Microseconds(retry_after)), end);
  }
  end = WriteLengthTag(4, message.size(), end);
  std::string out;
  AppendTo(out, buffer, end);
  out.append(message.data(), message.size());
  return out;
}

std::string EncodeNotice(ResponseKind kind) {
  uint8_t buffer[16];
  uint8_t* end = WriteUint(2, static_cast<uint32_t>(kind), buffer);
  std::string out;
  AppendTo(out, buffer, end);
  return out;
}

}  // namespace engram
