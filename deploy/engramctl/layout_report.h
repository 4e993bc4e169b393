// What a cut into shards means, for `inspect`.
#ifndef ENGRAM_DEPLOY_ENGRAMCTL_LAYOUT_REPORT_H_
#define ENGRAM_DEPLOY_ENGRAMCTL_LAYOUT_REPORT_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "deploy/engramctl/output.h"
#include "proto/geometry.h"

namespace engram {

struct LayoutFlags {
  uint32_t shards = 0;    // equal ones; 0: not asked for
  std::string shard_map;  // file; empty: not asked for
  uint64_t batch = 64;    // tokens

  bool asked() const { return shards != 0 || !shard_map.empty(); }
};

// One object: how many shards, rows and bytes of the smallest and the largest, the memory that a
// server of the largest takes, and per layer how many servers a token and a batch reach.
// InvalidArgument as Shard::Parse and ShardMap; the system's code where the file cannot be read.
absl::StatusOr<Json> LayoutJson(const Geometry& geometry, uint64_t row_bytes,
                                const LayoutFlags& flags);

// The same in words, lines with a newline each.
std::string LayoutText(const Json& layout);

}  // namespace engram

#endif  // ENGRAM_DEPLOY_ENGRAMCTL_LAYOUT_REPORT_H_
