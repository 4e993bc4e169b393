#include "storage/table_digest.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "storage/parallel.h"

namespace engram {

std::vector<RowRange> CutIntoBlocks(const std::vector<RowRange>& ranges) {
  std::vector<RowRange> blocks;
  for (const RowRange& range : ranges) {
    for (uint64_t begin = range.begin; begin < range.end;) {
      const uint64_t end = std::min(range.end, (begin / kBlockRows + 1) * kBlockRows);
      blocks.push_back({range.layer, begin, end});
      begin = end;
    }
  }
  return blocks;
}

absl::StatusOr<RowSum> SumRows(const TableReader& reader, const Checkpoint& checkpoint,
                               size_t layer_index, uint64_t begin, uint64_t end) {
  const uint32_t row_bytes = checkpoint.layout().row_bytes();
  const uint32_t layer = checkpoint.geometry().layers()[layer_index].layer_id;
  std::vector<uint8_t> chunk(kChunkRows * row_bytes);
  RowSum sum;
  ChunkSteps steps;
  while (true) {
    const uint64_t data = reader.SkipHoles(layer_index, begin, end);
    if (data == end) return sum;
    const uint64_t count = steps.Next(data != begin, end - data);
    begin = data;
    RETURN_IF_ERROR(reader.Read(layer_index, begin, count, chunk.data()));
    for (uint64_t i = 0; i < count; ++i) {
      sum.AddRow(layer, begin + i, chunk.data() + i * row_bytes, row_bytes);
    }
    begin += count;
  }
}

absl::Status CheckBlocks(const TableReader& reader, const Checkpoint& checkpoint,
                         size_t layer_index, const RowRange& rows, const LayerSums& sums) {
  const uint64_t layer_rows = checkpoint.geometry().layers()[layer_index].rows;
  for (uint64_t block = rows.begin / kBlockRows; block * kBlockRows < rows.end; ++block) {
    const uint64_t begin = block * kBlockRows;
    const uint64_t end = std::min(begin + kBlockRows, layer_rows);
    ASSIGN_OR_RETURN(const RowSum sum, SumRows(reader, checkpoint, layer_index, begin, end));
    if (sum != sums.blocks[block]) return BlockDiffers(checkpoint, layer_index, block);
  }
  return absl::OkStatus();
}

absl::Status BlockDiffers(const Checkpoint& checkpoint, size_t layer_index, uint64_t block) {
  const LayerGeometry& layer = checkpoint.geometry().layers()[layer_index];
  const uint64_t begin = block * kBlockRows;
  const RowRange rows = {layer.layer_id, begin, std::min(begin + kBlockRows, layer.rows)};
  return absl::DataLossError(absl::StrCat(
      ToString(rows), " (block ", block, ") differ from the sums in ", checkpoint.sidecar_path(),
      ": the files are damaged or have changed. If they changed on purpose run "
      "`engramctl digest ",
      checkpoint.directory(), "`"));
}

absl::StatusOr<Sidecar> ComputeSidecar(const Checkpoint& checkpoint, uint32_t threads,
                                       const std::function<void(absl::string_view)>& log,
                                       LoadProgress* progress) {
  ASSIGN_OR_RETURN(const auto reader, TableReader::Open(checkpoint));
  const std::vector<LayerGeometry>& layers = checkpoint.geometry().layers();
  const uint64_t row_bytes = checkpoint.layout().row_bytes();
  Sidecar sidecar;
  std::vector<RowRange> whole;
  for (const LayerGeometry& layer : layers) {
    const uint64_t count = (layer.rows + kBlockRows - 1) / kBlockRows;
    sidecar.layers.push_back({layer.layer_id, layer.rows, std::vector<RowSum>(count)});
    whole.push_back({layer.layer_id, 0, layer.rows});
  }
  const std::vector<RowRange> blocks = CutIntoBlocks(whole);
  RETURN_IF_ERROR(ForEachInParallel(
      blocks.size(), checkpoint.geometry().total_rows() * row_bytes,
      {threads, "digest", log, progress}, [&](uint64_t i, uint64_t& bytes) -> absl::Status {
        const RowRange& block = blocks[i];
        const size_t layer = *checkpoint.geometry().LayerIndex(block.layer);
        ASSIGN_OR_RETURN(sidecar.layers[layer].blocks[block.begin / kBlockRows],
                         SumRows(*reader, checkpoint, layer, block.begin, block.end));
        bytes = block.rows() * row_bytes;
        return absl::OkStatus();
      }));
  sidecar.token_map = checkpoint.token_map();
  sidecar.tokenizer_sha256 = checkpoint.tokenizer_sha256();
  std::optional<Sha256> map_hash;
  if (sidecar.token_map.has_value()) map_hash = sidecar.token_map->sha256();
  sidecar.digest =
      TableDigest(checkpoint.geometry(), checkpoint.layout(), map_hash, sidecar.TotalSum());
  // What was summed up is what the files hold, unless one of them changed meanwhile.
  RETURN_IF_ERROR(reader->CheckFiles());
  for (const auto& [name, stamp] : checkpoint.files()) {
    sidecar.files.push_back({name, stamp.size, stamp.modified_ns});
  }
  return sidecar;
}

}  // namespace engram
