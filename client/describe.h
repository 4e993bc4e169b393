// What a server says of itself.
#ifndef ENGRAM_CLIENT_DESCRIBE_H_
#define ENGRAM_CLIENT_DESCRIBE_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/client.h"
#include "client/credentials.h"
#include "proto/description.h"

namespace engram {

// A DescribeResponse that was understood and is consistent in itself.
struct ServerInfo {
  std::string version;
  std::string model;
  Geometry geometry;
  RowLayout layout;
  std::optional<Sha256> token_map;  // its SHA-256
  Sha256 digest{};                  // of the generation below
  std::vector<RowRange> ranges;     // of that generation
  std::vector<GenerationStatus> generations;
  DescribedState state = DescribedState::kUnspecified;
  Shard shard;
  uint64_t max_rows_per_request = 0;
  bool tells_of_changes = false;  // on its streams
};

inline constexpr char kDescribePath[] = "/engram.v1.EngramService/Describe";
inline constexpr char kGatherStreamPath[] = "/engram.v1.EngramService/GatherStream";
// Of a response without and with a token map, which takes four bytes a token id.
inline constexpr size_t kMaxDescribeBytes = 4 << 20;
inline constexpr size_t kMaxTokenMapBytes = size_t{4} * kMaxVocab + kMaxDescribeBytes;

// Of a serialized DescribeResponse. Picks the generation of `wanted`, or without one the active
// generation.
// FailedPrecondition: the server does not hold it. InvalidArgument: it is none, or contradicts
// itself.
absl::StatusOr<ServerInfo> ParseDescribe(const std::string& bytes,
                                         const std::optional<Sha256>& wanted);

// Blocking. The token map of one server. Unavailable and the like as the call fails; NotFound: the
// server has none.
absl::StatusOr<TokenMap> FetchTokenMap(const std::string& address, CredentialSource& credentials,
                                       absl::Duration timeout);

}  // namespace engram

#endif  // ENGRAM_CLIENT_DESCRIBE_H_
