// A DescribeResponse of engram.v1 as a client reads it, without protobuf's runtime
// (proto/describe.h is how a server writes it).
#ifndef ENGRAM_PROTO_DESCRIPTION_H_
#define ENGRAM_PROTO_DESCRIPTION_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/geometry.h"
#include "proto/range_map.h"
#include "proto/row_layout.h"
#include "proto/token_map.h"

namespace engram {

// Values of the enums in engram.proto; a peer may send others.
enum class DescribedState : uint32_t {
  kUnspecified = 0,
  kLoading = 1,
  kServing = 2,
  kDraining = 3,
  kFailed = 4
};
std::string DescribedStateName(DescribedState state);  // "SERVING"; the number of an unknown one

enum class DescribedFeature : uint32_t { kRowChecksums = 1, kChangeNotices = 2 };

enum class GenerationState : uint32_t { kUnspecified = 0, kPrepared = 1, kActive = 2 };

struct Generation {
  std::string digest;  // raw bytes; 32 in a well-formed one
  GenerationState state = GenerationState::kUnspecified;
  std::vector<RowRange> ranges;  // of no known geometry yet
  std::string base;              // of the generation it was published on; empty: loaded
  uint64_t changed_rows = 0;
};

// Fields as they came. Messages within it are still serialized: see below. (A message that comes
// twice is the two behind one another, as protobuf merges them.)
struct Description {
  std::string server_version;
  std::string model;
  std::string geometry;
  std::string row_layout;
  std::optional<std::string> token_map;
  std::vector<Generation> generations;
  DescribedState state = DescribedState::kUnspecified;
  Shard shard{0, 0};
  uint64_t max_rows_per_request = 0;
  std::vector<uint32_t> features;  // numbers of DescribedFeature and others
  uint64_t verified_passes = 0;
  uint64_t verified_rows = 0;
  std::string failure;
};

// InvalidArgument: malformed.
absl::StatusOr<Description> DecodeDescription(absl::string_view bytes);

// Of the messages Geometry, RowLayout and TokenMap. InvalidArgument: malformed, and
//   geometry    out of bounds, or the rows per layer that the peer states are not the ones derived
//               here (the two disagree about the hash)
//   row layout  unknown types, or `row_bytes` is not the layout's
//   token map   no ids, or they do not hash to the message's SHA-256
absl::StatusOr<Geometry> DecodeGeometry(absl::string_view bytes);
absl::StatusOr<RowLayout> DecodeRowLayout(absl::string_view bytes);
absl::StatusOr<TokenMap> DecodeTokenMap(absl::string_view bytes);
// The SHA-256 that a TokenMap message states, as it came.
absl::StatusOr<std::string> DecodeTokenMapHash(absl::string_view bytes);

// A serialized DescribeRequest.
std::string EncodeDescribeRequest(bool include_token_map);

}  // namespace engram

#endif  // ENGRAM_PROTO_DESCRIPTION_H_
