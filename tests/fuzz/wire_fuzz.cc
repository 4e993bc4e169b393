// Messages of GatherStream: the decoder written by hand agrees with protobuf's own, however the
// bytes are cut into slices.
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <algorithm>

#include "engram/v1/engram.pb.h"
#include "proto/wire.h"
#include "tests/fuzz/memory_file.h"

namespace engram {
namespace {

constexpr uint64_t kMaxRows = 1000;

void CheckRequest(const uint8_t* data, int size, int slice) {
  google::protobuf::io::ArrayInputStream input(data, size, slice);
  StreamRequest request;
  const absl::Status status = DecodeStreamRequest(&input, kMaxRows, request);
  v1::GatherStreamRequest message;
  const bool parsed = message.ParseFromArray(data, size);
  if (!status.ok()) return;
  Require(request.rows.size() + request.wide_rows.size() <= kMaxRows);
  if (!parsed) return;
  Require(request.request_id == message.request_id() &&
          static_cast<int>(request.kind) == static_cast<int>(message.kind()) &&
          request.digest == message.digest() && request.layer == message.layer() &&
          request.flags == message.flags() && request.budget_us == message.budget_us());
  Require(std::equal(request.rows.begin(), request.rows.end(), message.rows().begin(),
                     message.rows().end()));
  Require(std::equal(request.wide_rows.begin(), request.wide_rows.end(),
                     message.wide_rows().begin(), message.wide_rows().end()));
}

void CheckResponse(const uint8_t* data, size_t size) {
  StreamResponse response;
  const absl::StatusOr<size_t> header = DecodeResponseHeader(data, size, size, response);
  // What has not come whole is no error before its end, and is never taken for the whole.
  StreamResponse partial;
  for (size_t cut = 0; cut < std::min<size_t>(size, 64); ++cut) {
    const absl::StatusOr<size_t> early = DecodeResponseHeader(data, cut, size, partial);
    Require(!early.ok() || *early == 0 || (header.ok() && *early == *header));
  }
  if (!header.ok()) return;
  Require(*header <= size && response.rows_bytes == size - *header);
  v1::GatherStreamResponse message;
  if (!message.ParseFromArray(data, static_cast<int>(size))) return;
  Require(response.request_id == message.request_id() && response.code == message.code() &&
          response.piece == message.piece() && response.last == message.last() &&
          response.message == message.message() &&
          response.retry_after_us == message.retry_after_us());
  Require(response.failures.size() == static_cast<size_t>(message.failures_size()));
  Require(std::string(reinterpret_cast<const char*>(data) + *header, response.rows_bytes) ==
          message.rows());
}

}  // namespace
}  // namespace engram

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  for (const int slice : {-1, 1, 7}) {
    engram::CheckRequest(data, static_cast<int>(size), slice);
  }
  engram::CheckResponse(data, size);
  return 0;
}
