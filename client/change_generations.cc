#include "client/change_generations.h"

#include "client/unary_call.h"
#include "proto/base/proto_reader.h"
#include "proto/base/proto_writer.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

constexpr size_t kMaxResponseBytes = 4096;

void AppendBytesField(uint32_t field, absl::string_view bytes, std::string& out) {
  uint8_t tag[16];
  out.append(reinterpret_cast<const char*>(tag),
             static_cast<size_t>(WriteLengthTag(field, bytes.size(), tag) - tag));
  out.append(bytes.data(), bytes.size());
}

void AppendUintField(uint32_t field, uint64_t value, std::string& out) {
  uint8_t bytes[16];
  out.append(reinterpret_cast<const char*>(bytes),
             static_cast<size_t>(WriteUint(field, value, bytes) - bytes));
}

absl::string_view BytesOf(const Sha256& digest) {
  return {reinterpret_cast<const char*>(digest.data()), digest.size()};
}

std::vector<absl::Status> CallEach(const std::vector<std::string>& addresses,
                                   absl::string_view path, const Sha256& digest,
                                   absl::Duration timeout, const Credentials& credentials) {
  std::string request;
  AppendBytesField(1, BytesOf(digest), request);
  std::vector<ServerCall> calls;
  for (const std::string& address : addresses) {
    calls.push_back({address, std::string(path), request, kMaxResponseBytes});
  }
  std::vector<absl::Status> results;
  for (const auto& response : CallServers(calls, credentials, timeout))
    results.push_back(response.status());
  return results;
}

}  // namespace

absl::StatusOr<bool> PublishTo(const std::string& address, const PublishPiece& piece,
                               absl::Duration timeout, const Credentials& credentials) {
  std::string request;
  AppendBytesField(1, BytesOf(piece.target), request);
  AppendBytesField(2, piece.header, request);
  AppendUintField(3, piece.first, request);
  AppendBytesField(4, piece.records, request);
  AppendUintField(5, piece.last, request);
  const auto responses = CallServers(
      {{address, "/engram.v1.EngramService/Publish", std::move(request), kMaxResponseBytes}},
      credentials, timeout);
  RETURN_IF_ERROR(responses[0].status());
  ProtoReader in(*responses[0]);
  uint32_t prepared = 0;
  while (in.Next()) {
    if (!(in.field() == 1 ? in.Uint(prepared) : in.Skip())) return in.Malformed("PublishResponse");
  }
  if (!in.ok()) return in.Malformed("PublishResponse");
  return prepared != 0;
}

std::vector<absl::Status> ActivateOn(const std::vector<std::string>& addresses,
                                     const Sha256& digest, absl::Duration timeout,
                                     const Credentials& credentials) {
  return CallEach(addresses, "/engram.v1.EngramService/Activate", digest, timeout, credentials);
}

std::vector<absl::Status> RetireOn(const std::vector<std::string>& addresses, const Sha256& digest,
                                   absl::Duration timeout, const Credentials& credentials) {
  return CallEach(addresses, "/engram.v1.EngramService/Retire", digest, timeout, credentials);
}

}  // namespace engram
