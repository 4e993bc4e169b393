#include "client/describe.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client/unary_call.h"
#include "proto/base/status_macros.h"
#include "proto/describe.h"

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
  result.failure = response.failure();
  result.verified_passes = response.verification().passes();
  result.verified_rows = response.verification().rows();
  return result;
}

std::vector<ServerCall> DescribeCalls(const std::vector<std::string>& addresses,
                                      bool include_token_map) {
  v1::DescribeRequest request;
  request.set_include_token_map(include_token_map);
  std::vector<ServerCall> calls;
  for (const std::string& address : addresses) {
    calls.push_back({address, kDescribePath, request.SerializeAsString(),
                     include_token_map ? kMaxTokenMapBytes : kMaxDescribeBytes});
  }
  return calls;
}

absl::StatusOr<v1::DescribeResponse> Parse(const absl::StatusOr<std::string>& bytes) {
  RETURN_IF_ERROR(bytes.status());
  v1::DescribeResponse response;
  if (response.ParseFromString(*bytes)) return response;
  return absl::InvalidArgumentError("the response is no DescribeResponse");
}

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

absl::StatusOr<ServerInfo> ParseDescribe(const std::string& bytes,
                                         const std::optional<Sha256>& wanted) {
  ASSIGN_OR_RETURN(const v1::DescribeResponse response, Parse(bytes));
  return ParseDescribe(response, wanted);
}

absl::StatusOr<TokenMap> FetchTokenMap(const std::string& address, absl::Duration timeout) {
  ASSIGN_OR_RETURN(const v1::DescribeResponse response,
                   Parse(CallServers(DescribeCalls({address}, true), timeout)[0]));
  if (!response.has_token_map()) {
    return absl::NotFoundError(absl::StrCat(address, " knows no token map"));
  }
  return TokenMapFromMessage(response.token_map());
}

std::vector<ServerStatus> AskServers(const std::vector<std::string>& addresses,
                                     absl::Duration timeout) {
  const auto responses = CallServers(DescribeCalls(addresses, false), timeout);
  std::vector<ServerStatus> results;
  for (size_t i = 0; i < addresses.size(); ++i) {
    ServerStatus result;
    const absl::StatusOr<v1::DescribeResponse> response = Parse(responses[i]);
    if (response.ok()) {
      result = ToServerStatus(*response);
    } else {
      result.status = response.status();
    }
    result.address = addresses[i];
    results.push_back(std::move(result));
  }
  return results;
}

}  // namespace engram
