// Shard maps (against one geometry), and the texts that operators write.
#include "proto/sha256.h"
#include "proto/shard_map.h"
#include "tests/fuzz/memory_file.h"

namespace {

engram::Geometry MakeGeometry() {
  engram::GeometryParams params;
  params.layer_ids = {1, 4};
  params.max_ngram = 3;
  params.heads = 2;
  params.bucket_floors = {11, 11};
  params.compressed_vocab = 10;
  return *engram::Geometry::Derive(params);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace engram;
  static const auto* const kGeometry = new Geometry(MakeGeometry());
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto shard = Shard::Parse(text); shard.ok()) Require(shard->index < shard->count);
  if (const auto hash = Sha256FromHex(text); hash.ok()) Require(size == 64);
  const auto map = ShardMap::Parse(text, "map");
  if (!map.ok()) return 0;
  const auto ranges = map->Ranges(*kGeometry);
  if (!ranges.ok()) return 0;
  uint64_t rows = 0;
  for (const auto& shard : *ranges) rows += TotalRows(shard);
  Require(ranges->size() == map->names().size() && rows == kGeometry->total_rows());
  return 0;
}
