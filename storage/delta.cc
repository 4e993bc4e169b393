#include "storage/delta.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "proto/crc32c.h"
#include "storage/checkpoint.h"
#include "storage/load_steps.h"
#include "storage/parallel.h"
#include "storage/sidecar.h"
#include "storage/table.h"
#include "storage/table_digest.h"
#include "storage/table_reader.h"

namespace engram {
namespace {

// Blocks that are compared before any of their rows is written: a few megabytes of changed rows
// each at most.
constexpr size_t kBlocksAtOnce = 16;

absl::Status CheckSameShape(const Checkpoint& from, const Checkpoint& to) {
  const auto refuse = [&](absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat(from.directory(), " and ", to.directory(),
                                                   " differ in ", what,
                                                   ": a delta changes rows alone"));
  };
  if (from.geometry().params() != to.geometry().params()) return refuse("geometry");
  if (from.layout() != to.layout()) return refuse("row layout");
  const auto hash = [](const Checkpoint& checkpoint) {
    std::optional<Sha256> hash;
    if (checkpoint.token_map().has_value()) hash = checkpoint.token_map()->sha256();
    return hash;
  };
  if (hash(from) != hash(to)) return refuse("token map");
  return absl::OkStatus();
}

// One of the two tables.
struct Side {
  Checkpoint checkpoint;
  Sidecar sidecar;
  std::unique_ptr<TableReader> reader;  // borrows `checkpoint`
};

absl::StatusOr<std::unique_ptr<Side>> OpenSide(const std::string& directory,
                                               const DeltaOptions& options) {
  ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::Open(directory));
  auto side = std::make_unique<Side>(Side{std::move(checkpoint), {}, nullptr});
  bool computed = false;
  LoadOptions load;
  load.threads = options.threads;
  load.log = options.log;
  ASSIGN_OR_RETURN(side->sidecar, GetSidecar(side->checkpoint, load, computed));
  ASSIGN_OR_RETURN(side->reader, TableReader::Open(side->checkpoint));
  return side;
}

// The changed rows of a block: records, one behind the other.
class BlockDelta {
 public:
  BlockDelta(const Side& from, const Side& to) : from_(from), to_(to) {}

  // Reads the block on both sides, holding it against both sidecars.
  absl::StatusOr<std::vector<DeltaRow>> Compare(size_t layer_index, const RowRange& block,
                                                std::string& rows) const {
    const uint32_t row_bytes = from_.checkpoint.layout().row_bytes();
    const uint64_t number = block.begin / kBlockRows;
    std::vector<uint8_t> old_rows(kChunkRows * row_bytes), new_rows(kChunkRows * row_bytes);
    RowSum old_sum, new_sum;
    std::vector<DeltaRow> changed;
    for (uint64_t row = block.begin; row < block.end;) {
      const uint64_t count = std::min(kChunkRows, block.end - row);
      RETURN_IF_ERROR(from_.reader->Read(layer_index, row, count, old_rows.data()));
      RETURN_IF_ERROR(to_.reader->Read(layer_index, row, count, new_rows.data()));
      for (uint64_t i = 0; i < count; ++i, ++row) {
        const uint8_t* const before = old_rows.data() + i * row_bytes;
        const uint8_t* const after = new_rows.data() + i * row_bytes;
        RowSum was;
        was.AddRow(block.layer, row, before, row_bytes);
        old_sum += was;
        new_sum.AddRow(block.layer, row, after, row_bytes);
        if (std::memcmp(before, after, row_bytes) == 0) continue;
        changed.push_back({layer_index, row, was, Crc32c(after, row_bytes), nullptr});
        rows.append(reinterpret_cast<const char*>(after), row_bytes);
      }
    }
    if (old_sum != from_.sidecar.layers[layer_index].blocks[number]) {
      return BlockDiffers(from_.checkpoint, layer_index, number);
    }
    if (new_sum != to_.sidecar.layers[layer_index].blocks[number]) {
      return BlockDiffers(to_.checkpoint, layer_index, number);
    }
    for (size_t i = 0; i < changed.size(); ++i) {
      changed[i].bytes = reinterpret_cast<const uint8_t*>(rows.data()) + i * row_bytes;
    }
    return changed;
  }

 private:
  const Side& from_;
  const Side& to_;
};

// The blocks whose sums differ, in the order of the file.
std::vector<std::pair<size_t, RowRange>> ChangedBlocks(const Side& from, const Side& to) {
  std::vector<std::pair<size_t, RowRange>> blocks;
  const std::vector<LayerGeometry>& layers = from.checkpoint.geometry().layers();
  for (size_t i = 0; i < layers.size(); ++i) {
    for (const RowRange& block : CutIntoBlocks({{layers[i].layer_id, 0, layers[i].rows}})) {
      const uint64_t number = block.begin / kBlockRows;
      if (from.sidecar.layers[i].blocks[number] != to.sidecar.layers[i].blocks[number]) {
        blocks.emplace_back(i, block);
      }
    }
  }
  return blocks;
}

}  // namespace

absl::StatusOr<DeltaHeader> WriteDelta(const DeltaOptions& options) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Side> from, OpenSide(options.from, options));
  ASSIGN_OR_RETURN(const std::unique_ptr<Side> to, OpenSide(options.to, options));
  RETURN_IF_ERROR(CheckSameShape(from->checkpoint, to->checkpoint));
  DeltaHeader header;
  header.base = from->sidecar.digest;
  header.target = to->sidecar.digest;
  header.base_sum = from->sidecar.TotalSum();
  header.target_sum = to->sidecar.TotalSum();
  header.row_bytes = from->checkpoint.layout().row_bytes();
  for (const LayerGeometry& layer : from->checkpoint.geometry().layers()) {
    header.layers.push_back({layer.layer_id, layer.rows, 0});
  }
  ASSIGN_OR_RETURN(const auto writer, DeltaWriter::Create(options.out, std::move(header)));
  const BlockDelta delta(*from, *to);
  const auto blocks = ChangedBlocks(*from, *to);
  for (size_t begin = 0; begin < blocks.size(); begin += kBlocksAtOnce) {
    const size_t count = std::min(kBlocksAtOnce, blocks.size() - begin);
    std::vector<std::vector<DeltaRow>> changed(count);
    std::vector<std::string> rows(count);
    RETURN_IF_ERROR(ForEachInParallel(
        count, count * kBlockRows * writer->header().row_bytes, {options.threads, "comparing", {}},
        [&](uint64_t i, uint64_t& bytes) -> absl::Status {
          const auto& [layer_index, block] = blocks[begin + i];
          ASSIGN_OR_RETURN(changed[i], delta.Compare(layer_index, block, rows[i]));
          bytes = block.rows() * writer->header().row_bytes;
          return absl::OkStatus();
        }));
    for (const std::vector<DeltaRow>& block : changed) {
      for (const DeltaRow& row : block) RETURN_IF_ERROR(writer->Add(row));
    }
    if (options.log) {
      options.log(absl::StrCat("compared ", begin + count, " of ", blocks.size(),
                               " blocks whose sums differ, ", writer->header().changed(),
                               " rows changed"));
    }
  }
  RETURN_IF_ERROR(from->reader->CheckFiles());
  RETURN_IF_ERROR(to->reader->CheckFiles());
  RETURN_IF_ERROR(writer->Finish());
  return writer->header();
}

}  // namespace engram
