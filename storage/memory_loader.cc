#include "storage/memory_loader.h"

#include <algorithm>

#include "proto/base/status_macros.h"
#include "proto/crc32c.h"
#include "storage/table_digest.h"
#include "storage/table_reader.h"

namespace engram {
namespace {

class Loader {
 public:
  Loader(const Checkpoint& checkpoint, const TableReader& reader, const Sidecar& sidecar,
         const MemoryStore& store)
      : checkpoint_(checkpoint),
        reader_(reader),
        sidecar_(sidecar),
        store_(store),
        zero_checksum_(ZeroRowChecksum(store.layout())) {}

  // Reads rows of one block into the store and holds the whole block against the sidecar.
  absl::Status Load(const RowRange& part) const {
    ASSIGN_OR_RETURN(const size_t layer, checkpoint_.geometry().LayerIndex(part.layer));
    const uint64_t block = part.begin / kBlockRows;
    const uint64_t begin = block * kBlockRows;
    const uint64_t end = std::min(begin + kBlockRows, checkpoint_.geometry().layers()[layer].rows);
    ASSIGN_OR_RETURN(RowSum sum, LoadRows(layer, part));
    // What the range's border cuts off is read for the sum alone.
    ASSIGN_OR_RETURN(const RowSum before, SumRows(reader_, checkpoint_, layer, begin, part.begin));
    ASSIGN_OR_RETURN(const RowSum after, SumRows(reader_, checkpoint_, layer, part.end, end));
    sum += before;
    sum += after;
    if (sum == sidecar_.layers[layer].blocks[block]) return absl::OkStatus();
    return BlockDiffers(checkpoint_, layer, block);
  }

 private:
  absl::StatusOr<RowSum> LoadRows(size_t layer, const RowRange& part) const {
    const uint32_t row_bytes = store_.layout().row_bytes();
    const MemoryStore::Place place = store_.PlaceOf(part.layer, part.begin);
    RowSum sum;
    ChunkSteps steps;
    for (uint64_t row = part.begin; row < part.end;) {
      // Rows in holes are zeros, as is the arena.
      const uint64_t data = reader_.SkipHoles(layer, row, part.end);
      std::fill_n(place.checksums + (row - part.begin), data - row, zero_checksum_);
      // In chunks that are still in the cache when they are hashed.
      const uint64_t count = steps.Next(data != row, part.end - data);
      row = data;
      uint8_t* bytes = place.rows + (row - part.begin) * row_bytes;
      RETURN_IF_ERROR(reader_.Read(layer, row, count, bytes));
      for (const uint64_t end = row + count; row < end; ++row, bytes += row_bytes) {
        place.checksums[row - part.begin] = Crc32c(bytes, row_bytes);
        sum.AddRow(part.layer, row, bytes, row_bytes);
      }
    }
    return sum;
  }

  const Checkpoint& checkpoint_;
  const TableReader& reader_;
  const Sidecar& sidecar_;
  const MemoryStore& store_;
  const uint32_t zero_checksum_;
};

}  // namespace

absl::Status LoadIntoMemory(const Checkpoint& checkpoint, const Sidecar& sidecar,
                            const ParallelOptions& parallel, const MemoryStore& store) {
  ASSIGN_OR_RETURN(const auto reader, TableReader::Open(checkpoint));
  const Loader loader(checkpoint, *reader, sidecar, store);
  const std::vector<RowRange> parts = CutIntoBlocks(store.ranges());
  const uint64_t row_bytes = checkpoint.layout().row_bytes();
  RETURN_IF_ERROR(
      ForEachInParallel(parts.size(), store.bytes(), parallel, [&](uint64_t i, uint64_t& bytes) {
        bytes = parts[i].rows() * row_bytes;
        return loader.Load(parts[i]);
      }));
  return reader->CheckFiles();
}

}  // namespace engram
