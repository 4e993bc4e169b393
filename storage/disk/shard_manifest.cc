#include "storage/disk/shard_manifest.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "engram/storage/v1/disk_shard.pb.h"
#include "proto/base/status_macros.h"
#include "proto/describe.h"
#include "proto/description.h"
#include "storage/table_digest.h"

namespace engram {
namespace {

constexpr uint32_t kFormat = 1;
constexpr size_t kSumBytes = 16;

absl::StatusOr<ShardManifest> FromMessage(const storage::v1::DiskShard& message) {
  ShardManifest manifest;
  manifest.model = message.model();
  ASSIGN_OR_RETURN(manifest.digest, Sha256FromBytes(message.digest()));
  ASSIGN_OR_RETURN(manifest.geometry, DecodeGeometry(message.geometry().SerializeAsString()));
  ASSIGN_OR_RETURN(manifest.layout, DecodeRowLayout(message.row_layout().SerializeAsString()));
  if (!message.token_map().empty()) {
    ASSIGN_OR_RETURN(manifest.token_map, TokenMap::Parse(message.token_map()));
  }
  manifest.shard = {message.shard_index(), message.shard_count()};
  for (const v1::RowRange& range : message.ranges()) {
    manifest.ranges.push_back({range.layer(), range.begin(), range.end()});
  }
  RETURN_IF_ERROR(ValidateRanges(manifest.geometry, manifest.ranges));
  const std::string& sums = message.block_sums();
  for (size_t at = 0; at + kSumBytes <= sums.size(); at += kSumBytes) {
    uint64_t halves[2];
    std::memcpy(halves, sums.data() + at, kSumBytes);
    manifest.sums.emplace_back(halves[0], halves[1]);
  }
  if (!sums.empty() && sums.size() != CutIntoBlocks(manifest.ranges).size() * kSumBytes) {
    return absl::DataLossError(absl::StrCat(sums.size(), " bytes of block sums"));
  }
  for (const std::string& former : message.former_digests()) {
    ASSIGN_OR_RETURN(manifest.former.emplace_back(), Sha256FromBytes(former));
  }
  return manifest;
}

}  // namespace

bool ShardManifest::Had(const Sha256& other) const {
  return std::find(former.begin(), former.end(), other) != former.end();
}

void ShardManifest::TakeDigest(const Sha256& now) {
  former.push_back(digest);
  digest = now;
  std::erase(former, digest);  // It may have had it before.
}

std::string SerializeShardManifest(const ShardManifest& manifest) {
  storage::v1::DiskShard message;
  message.set_format(kFormat);
  message.set_model(manifest.model);
  message.set_digest(manifest.digest.data(), manifest.digest.size());
  ToMessage(manifest.geometry, message.mutable_geometry());
  ToMessage(manifest.layout, message.mutable_row_layout());
  if (manifest.token_map.has_value()) message.set_token_map(manifest.token_map->Serialize());
  message.set_shard_index(manifest.shard.index);
  message.set_shard_count(manifest.shard.count);
  for (const RowRange& range : manifest.ranges) {
    v1::RowRange* out = message.add_ranges();
    out->set_layer(range.layer);
    out->set_begin(range.begin);
    out->set_end(range.end);
  }
  for (const RowSum& sum : manifest.sums) {
    const uint64_t halves[2] = {sum.low(), sum.high()};
    message.mutable_block_sums()->append(reinterpret_cast<const char*>(halves), kSumBytes);
  }
  for (const Sha256& former : manifest.former) {
    message.add_former_digests(former.data(), former.size());
  }
  return message.SerializeAsString();
}

absl::StatusOr<ShardManifest> ParseShardManifest(absl::string_view bytes) {
  storage::v1::DiskShard message;
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return absl::DataLossError("the shard's description is damaged");
  }
  if (message.format() != kFormat) {
    return absl::FailedPreconditionError(absl::StrCat("the shard has format ", message.format(),
                                                      "; this program reads format ", kFormat));
  }
  absl::StatusOr<ShardManifest> manifest = FromMessage(message);
  if (manifest.ok()) return manifest;
  return absl::DataLossError(
      absl::StrCat("the shard's description is damaged: ", manifest.status().message()));
}

}  // namespace engram
