#include "storage/table_digest.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "storage/parallel.h"

namespace engram {
namespace {

struct BlockId {
  size_t layer_index;
  uint64_t block;
};

absl::StatusOr<std::vector<TableFileInfo>> DescribeFiles(const Checkpoint& checkpoint) {
  std::set<std::string> names;
  for (const LayerTensors& layer : checkpoint.layers()) {
    names.insert(layer.weight.file);
    if (layer.scale.has_value()) names.insert(layer.scale->file);
  }
  std::vector<TableFileInfo> files;
  for (const std::string& name : names) {
    const std::string path = absl::StrCat(checkpoint.directory(), "/", name);
    struct stat info;
    if (stat(path.c_str(), &info) != 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot stat ", path));
    }
    files.push_back({name, static_cast<uint64_t>(info.st_size),
                     int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec});
  }
  return files;
}

}  // namespace

absl::StatusOr<RowSum> SumRows(const TableReader& reader, const Checkpoint& checkpoint,
                               size_t layer_index, uint64_t begin, uint64_t end) {
  const uint32_t row_bytes = checkpoint.layout().row_bytes();
  const uint32_t layer = checkpoint.geometry().layers()[layer_index].layer_id;
  std::vector<uint8_t> chunk(kChunkRows * row_bytes);
  RowSum sum;
  for (; begin < end; begin += std::min(kChunkRows, end - begin)) {
    const uint64_t count = std::min(kChunkRows, end - begin);
    RETURN_IF_ERROR(reader.Read(layer_index, begin, count, chunk.data()));
    for (uint64_t i = 0; i < count; ++i) {
      sum.AddRow(layer, begin + i, chunk.data() + i * row_bytes, row_bytes);
    }
  }
  return sum;
}

absl::StatusOr<Sidecar> ComputeSidecar(const Checkpoint& checkpoint, uint32_t threads,
                                       const std::function<void(absl::string_view)>& log) {
  ASSIGN_OR_RETURN(const auto reader, TableReader::Open(checkpoint));
  const std::vector<LayerGeometry>& layers = checkpoint.geometry().layers();
  const uint64_t row_bytes = checkpoint.layout().row_bytes();
  Sidecar sidecar;
  std::vector<BlockId> blocks;
  for (size_t i = 0; i < layers.size(); ++i) {
    const uint64_t count = (layers[i].rows + kBlockRows - 1) / kBlockRows;
    sidecar.layers.push_back({layers[i].layer_id, layers[i].rows, std::vector<RowSum>(count)});
    for (uint64_t block = 0; block < count; ++block) blocks.push_back({i, block});
  }
  RETURN_IF_ERROR(
      ForEachInParallel(blocks.size(), checkpoint.geometry().total_rows() * row_bytes,
                        {threads, "digest", log}, [&](uint64_t i, uint64_t& bytes) -> absl::Status {
                          const auto [layer, block] = blocks[i];
                          const uint64_t begin = block * kBlockRows;
                          const uint64_t end = std::min(begin + kBlockRows, layers[layer].rows);
                          ASSIGN_OR_RETURN(sidecar.layers[layer].blocks[block],
                                           SumRows(*reader, checkpoint, layer, begin, end));
                          bytes = (end - begin) * row_bytes;
                          return absl::OkStatus();
                        }));
  sidecar.token_map = checkpoint.token_map();
  std::optional<Sha256> map_hash;
  if (sidecar.token_map.has_value()) map_hash = sidecar.token_map->sha256();
  sidecar.digest =
      TableDigest(checkpoint.geometry(), checkpoint.layout(), map_hash, sidecar.TotalSum());
  ASSIGN_OR_RETURN(sidecar.files, DescribeFiles(checkpoint));
  return sidecar;
}

}  // namespace engram
