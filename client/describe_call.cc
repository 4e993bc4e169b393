#include "client/describe_call.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "proto/base/status_macros.h"
#include "proto/describe.h"
#include "proto/grpc_status.h"

namespace engram {
namespace {

absl::StatusOr<Sha256> DigestFromBytes(const std::string& bytes) {
  Sha256 digest;
  if (bytes.size() != digest.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a digest has ", bytes.size(), " bytes, not 32"));
  }
  std::copy(bytes.begin(), bytes.end(), digest.begin());
  return digest;
}

absl::StatusOr<const v1::Generation*> PickGeneration(const v1::DescribeResponse& response,
                                                     const std::optional<Sha256>& wanted) {
  std::string held;
  for (const v1::Generation& generation : response.generations()) {
    ASSIGN_OR_RETURN(const Sha256 digest, DigestFromBytes(generation.digest()));
    const bool fits =
        wanted.has_value() ? digest == *wanted : generation.state() == v1::GENERATION_STATE_ACTIVE;
    if (fits) return &generation;
    absl::StrAppend(&held, held.empty() ? "" : ", ", ToHex(digest));
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "holds no ", wanted.has_value() ? "table of digest " : "active table",
      wanted.has_value() ? ToHex(*wanted) : "", "; it holds ", held.empty() ? "none" : held));
}

std::string StateName(v1::ServerState state) {
  return std::string(absl::StripPrefix(v1::ServerState_Name(state), "SERVER_STATE_"));
}

ServerStatus ToServerStatus(const v1::DescribeResponse& response) {
  ServerStatus result;
  const absl::StatusOr<ServerInfo> info = ParseDescribe(response, std::nullopt);
  result.status = info.status();
  if (!info.ok()) return result;
  result.version = info->version;
  result.model = info->model;
  result.state = StateName(info->state);
  result.digest = info->digest;
  result.shard = info->shard.ToString();
  result.ranges = info->ranges;
  result.rows = TotalRows(info->ranges);
  result.bytes = result.rows * info->layout.row_bytes();
  return result;
}

// One Describe under way.
struct DescribeCall {
  std::unique_ptr<v1::EngramService::Stub> stub;
  grpc::ClientContext context;
  v1::DescribeResponse response;
  grpc::Status status;
  std::unique_ptr<grpc::ClientAsyncResponseReader<v1::DescribeResponse>> reader;
};

}  // namespace

absl::StatusOr<ServerInfo> ParseDescribe(const v1::DescribeResponse& response,
                                         const std::optional<Sha256>& wanted) {
  ASSIGN_OR_RETURN(const v1::Generation* generation, PickGeneration(response, wanted));
  ServerInfo info;
  info.version = response.server_version();
  info.model = response.model();
  ASSIGN_OR_RETURN(info.geometry, GeometryFromMessage(response.geometry()));
  ASSIGN_OR_RETURN(info.layout, RowLayoutFromMessage(response.row_layout()));
  if (response.has_token_map()) {
    ASSIGN_OR_RETURN(info.token_map, DigestFromBytes(response.token_map().sha256()));
  }
  ASSIGN_OR_RETURN(info.digest, DigestFromBytes(generation->digest()));
  ASSIGN_OR_RETURN(info.ranges, RangesFromMessage(info.geometry, *generation));
  info.state = response.state();
  info.shard = {response.shard_index(), response.shard_count()};
  info.max_rows_per_request = response.limits().max_rows_per_request();
  if (info.max_rows_per_request == 0) {
    return absl::InvalidArgumentError("states a limit of 0 rows per request");
  }
  return info;
}

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address) {
  grpc::ChannelArguments arguments;
  // Large frames and a large window: answers are up to 256 KiB and nothing else uses the link.
  arguments.SetInt("grpc.http2.max_frame_size", 1 << 20);
  arguments.SetInt("grpc.http2.lookahead_bytes", 16 << 20);
  arguments.SetInt("grpc.http2.bdp_probe", 0);
  arguments.SetMaxReceiveMessageSize(16 << 20);
  // A lost host is noticed within half a minute, a restarted server is found within a second.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 30000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5000);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  // Channels of one process would otherwise share connections by address and settings.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

absl::StatusOr<TokenMap> FetchTokenMap(const std::string& address, absl::Duration timeout) {
  const auto stub = v1::EngramService::NewStub(MakeChannel(address));
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  v1::DescribeRequest request;
  request.set_include_token_map(true);
  v1::DescribeResponse response;
  RETURN_IF_ERROR(FromGrpcStatus(stub->Describe(&context, request, &response), address));
  if (!response.has_token_map()) {
    return absl::NotFoundError(absl::StrCat(address, " knows no token map"));
  }
  return TokenMapFromMessage(response.token_map());
}

std::vector<ServerStatus> AskServers(const std::vector<std::string>& addresses,
                                     absl::Duration timeout) {
  grpc::CompletionQueue queue;
  std::vector<DescribeCall> calls(addresses.size());
  const auto deadline = absl::ToChronoTime(absl::Now() + timeout);
  for (size_t i = 0; i < calls.size(); ++i) {
    DescribeCall& call = calls[i];
    call.stub = v1::EngramService::NewStub(MakeChannel(addresses[i]));
    call.context.set_deadline(deadline);
    call.reader = call.stub->AsyncDescribe(&call.context, v1::DescribeRequest(), &queue);
    call.reader->Finish(&call.response, &call.status, &call);
  }
  void* tag = nullptr;
  bool ok = false;
  for (size_t i = 0; i < calls.size(); ++i) queue.Next(&tag, &ok);
  queue.Shutdown();
  while (queue.Next(&tag, &ok)) {
  }
  std::vector<ServerStatus> results;
  for (size_t i = 0; i < calls.size(); ++i) {
    ServerStatus result;
    if (calls[i].status.ok()) {
      result = ToServerStatus(calls[i].response);
    } else {
      result.status = FromGrpcStatus(calls[i].status, addresses[i]);
    }
    result.address = addresses[i];
    results.push_back(std::move(result));
  }
  return results;
}

}  // namespace engram
