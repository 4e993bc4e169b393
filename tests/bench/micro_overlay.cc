// What a generation on top of another costs a gather.
#include "tests/bench/micro_overlay.h"

#include <benchmark/benchmark.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "proto/crc32c.h"
#include "storage/delta_file.h"
#include "storage/memory_store.h"
#include "storage/overlay_store.h"
#include "tests/bench/micro.h"

namespace engram {
namespace {

constexpr size_t kOverlayRowBytes = 264;
constexpr uint64_t kRows = (uint64_t{256} << 20) / kOverlayRowBytes;
constexpr uint64_t kOneIn = 100;    // rows are changed
constexpr size_t kPieceRows = 992;  // rows of one piece of 256 KiB
constexpr size_t kOverlayIds = kPieceRows * 256;

struct Tables {
  std::shared_ptr<const RowStore> old_rows;
  std::shared_ptr<const RowStore> new_rows;
};

// Rows of ones, of which every hundredth or so is of twos in the new table.
const Tables& MakeTables() {
  static const Tables tables = [] {
    std::shared_ptr<MemoryStore> store =
        OrDie(MemoryStore::Create(FullGeometry(), PackedFp8Layout(256), {{kMicroLayer, 0, kRows}}));
    std::memset(store->PlaceOf(kMicroLayer, 0).rows, 1, kRows * kOverlayRowBytes);
    const std::vector<uint8_t> ones(kOverlayRowBytes, 1), twos(kOverlayRowBytes, 2);
    DeltaHeader header;
    header.row_bytes = kOverlayRowBytes;
    for (const LayerGeometry& layer : FullGeometry().layers()) {
      header.layers.push_back({layer.layer_id, layer.rows, 0});
    }
    const std::string path =
        std::filesystem::temp_directory_path() / ("engram-micro-" + std::to_string(getpid()));
    const auto writer = OrDie(DeltaWriter::Create(path, std::move(header)));
    uint64_t mixed = 0;
    for (uint64_t row = 0; row < kRows; ++row) {
      mixed = mixed * 6364136223846793005 + 1442695040888963407;
      if ((mixed >> 33) % kOneIn != 0) continue;
      DeltaRow changed{0, row, {}, Crc32c(twos.data(), kOverlayRowBytes), twos.data()};
      changed.before.AddRow(kMicroLayer, row, ones.data(), kOverlayRowBytes);
      if (!writer->Add(changed).ok()) std::abort();
    }
    if (!writer->Finish().ok()) std::abort();
    const auto reader = OrDie(DeltaReader::Open(path));
    Tables made{store, OrDie(OverlayStore::Load(store, *reader))};
    std::filesystem::remove(path);
    return made;
  }();
  return tables;
}

void GatherGeneration(benchmark::State& state, bool new_one) {
  const Tables& tables = MakeTables();
  const RowStore& store = new_one ? *tables.new_rows : *tables.old_rows;
  std::vector<uint32_t> ids;
  for (const int64_t id : RandomRows(kRows, kOverlayIds)) ids.push_back(static_cast<uint32_t>(id));
  Block out(kPieceRows * kOverlayRowBytes, true);
  size_t at = 0;
  for (auto _ : state) {
    const std::span<const uint32_t> some = std::span<const uint32_t>(ids).subspan(at, kPieceRows);
    if (!store.Gather(kMicroLayer, some, out.data(), nullptr).ok()) state.SkipWithError("refused");
    at = (at + kPieceRows) % kOverlayIds;
    benchmark::ClobberMemory();
  }
  CountRows(state, kPieceRows);
}

}  // namespace

void RegisterOverlay() {
  benchmark::RegisterBenchmark("GatherGeneration/old", GatherGeneration, false);
  benchmark::RegisterBenchmark("GatherGeneration/new", GatherGeneration, true);
}

}  // namespace engram
