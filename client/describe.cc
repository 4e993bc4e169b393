#include "client/describe.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "client/unary_call.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

absl::StatusOr<std::vector<GenerationStatus>> GenerationsOf(const Description& description) {
  std::vector<GenerationStatus> generations;
  for (const Generation& each : description.generations) {
    GenerationStatus status;
    ASSIGN_OR_RETURN(status.digest, Sha256FromBytes(each.digest));
    status.active = each.state == GenerationState::kActive;
    if (!each.base.empty()) {
      ASSIGN_OR_RETURN(status.base, Sha256FromBytes(each.base));
    }
    status.changed_rows = each.changed_rows;
    status.ranges = each.ranges;
    generations.push_back(std::move(status));
  }
  return generations;
}

absl::StatusOr<const Generation*> PickGeneration(const Description& description,
                                                 const std::optional<Sha256>& wanted) {
  std::string held;
  for (const Generation& generation : description.generations) {
    ASSIGN_OR_RETURN(const Sha256 digest, Sha256FromBytes(generation.digest));
    const bool fits =
        wanted.has_value() ? digest == *wanted : generation.state == GenerationState::kActive;
    if (fits) return &generation;
    absl::StrAppend(&held, held.empty() ? "" : ", ", ToHex(digest));
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "holds no ", wanted.has_value() ? "table of digest " : "active table",
      wanted.has_value() ? ToHex(*wanted) : "", "; it holds ", held.empty() ? "none" : held));
}

absl::StatusOr<ServerInfo> Understand(const Description& description,
                                      const std::optional<Sha256>& wanted) {
  ASSIGN_OR_RETURN(const Generation* generation, PickGeneration(description, wanted));
  ServerInfo info;
  info.version = description.server_version;
  info.model = description.model;
  ASSIGN_OR_RETURN(info.geometry, DecodeGeometry(description.geometry));
  ASSIGN_OR_RETURN(info.layout, DecodeRowLayout(description.row_layout));
  if (description.token_map.has_value()) {
    ASSIGN_OR_RETURN(const std::string hash, DecodeTokenMapHash(*description.token_map));
    ASSIGN_OR_RETURN(info.token_map, Sha256FromBytes(hash));
  }
  ASSIGN_OR_RETURN(info.digest, Sha256FromBytes(generation->digest));
  info.ranges = generation->ranges;
  ASSIGN_OR_RETURN(info.generations, GenerationsOf(description));
  for (const GenerationStatus& each : info.generations) {
    RETURN_IF_ERROR(ValidateRanges(info.geometry, each.ranges));
  }
  RETURN_IF_ERROR(ValidateRanges(info.geometry, info.ranges));
  info.state = description.state;
  info.shard = description.shard;
  info.max_rows_per_request = description.max_rows_per_request;
  info.tells_of_changes = std::find(description.features.begin(), description.features.end(),
                                    static_cast<uint32_t>(DescribedFeature::kChangeNotices)) !=
                          description.features.end();
  if (info.max_rows_per_request == 0) {
    return absl::InvalidArgumentError("states a limit of 0 rows per request");
  }
  return info;
}

ServerStatus ToServerStatus(const Description& description) {
  ServerStatus result;
  const absl::StatusOr<ServerInfo> info = Understand(description, std::nullopt);
  result.status = info.status();
  if (!info.ok()) return result;
  result.version = info->version;
  result.model = info->model;
  result.state = DescribedStateName(info->state);
  result.digest = info->digest;
  result.shard = info->shard.ToString();
  result.ranges = info->ranges;
  result.generations = info->generations;
  result.rows = TotalRows(info->ranges);
  result.bytes = result.rows * info->layout.row_bytes();
  result.failure = description.failure;
  result.verified_passes = description.verified_passes;
  result.verified_rows = description.verified_rows;
  return result;
}

std::vector<ServerCall> DescribeCalls(const std::vector<std::string>& addresses,
                                      bool include_token_map) {
  std::vector<ServerCall> calls;
  for (const std::string& address : addresses) {
    calls.push_back({address, kDescribePath, EncodeDescribeRequest(include_token_map),
                     include_token_map ? kMaxTokenMapBytes : kMaxDescribeBytes});
  }
  return calls;
}

absl::StatusOr<Description> Decode(const absl::StatusOr<std::string>& bytes) {
  RETURN_IF_ERROR(bytes.status());
  return DecodeDescription(*bytes);
}

}  // namespace

absl::StatusOr<ServerInfo> ParseDescribe(const std::string& bytes,
                                         const std::optional<Sha256>& wanted) {
  ASSIGN_OR_RETURN(const Description description, DecodeDescription(bytes));
  return Understand(description, wanted);
}

absl::StatusOr<TokenMap> FetchTokenMap(const std::string& address, CredentialSource& credentials,
                                       absl::Duration timeout) {
  ASSIGN_OR_RETURN(const Description description,
                   Decode(CallServers(DescribeCalls({address}, true), credentials, timeout)[0]));
  if (!description.token_map.has_value()) {
    return absl::NotFoundError(absl::StrCat(address, " knows no token map"));
  }
  return DecodeTokenMap(*description.token_map);
}

std::vector<ServerStatus> AskServers(const std::vector<std::string>& addresses,
                                     absl::Duration timeout, const Credentials& credentials) {
  const auto responses = CallServers(DescribeCalls(addresses, false), credentials, timeout);
  std::vector<ServerStatus> results;
  for (size_t i = 0; i < addresses.size(); ++i) {
    ServerStatus result;
    const absl::StatusOr<Description> description = Decode(responses[i]);
    if (description.ok()) {
      result = ToServerStatus(*description);
    } else {
      result.status = description.status();
    }
    result.address = addresses[i];
    results.push_back(std::move(result));
  }
  return results;
}

}  // namespace engram
