// The stages of a lookup one by one, in process, by Google Benchmark: hash, plan, gather, scatter,
// encode. Rates are rows (or row ids) a second of one thread.
#include "tests/bench/micro.h"

#include <benchmark/benchmark.h>

#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "client/cluster_map.h"
#include "client/scatter.h"
#include "client/shard_plan.h"
#include "proto/row_ids.h"
#include "proto/wire.h"
#include "storage/gather.h"
#include "storage/memory_store.h"
#include "tests/bench/micro_dequantize.h"
#include "tests/bench/micro_overlay.h"

namespace engram {
namespace {

constexpr size_t kRowBytes = 264;

const char* NameOf(Isa isa) {
  constexpr const char* kNames[] = {"portable", "avx2", "avx512"};
  return kNames[static_cast<size_t>(isa)];
}

// ---------------------------------------------------------------- hash, plan, encode

void Hash(benchmark::State& state) {
  const auto tokens = static_cast<size_t>(state.range(0));
  const RowHasher hasher = OrDie(RowHasher::Create(FullGeometry(), 2));
  std::vector<uint32_t> compressed(tokens);
  for (size_t i = 0; i < tokens; ++i) compressed[i] = static_cast<uint32_t>(i * 7919 % 99092);
  std::vector<int64_t> rows(tokens * hasher.columns());
  const LookBack before;
  for (auto _ : state) {
    hasher.HashChunk(0, compressed, {}, before, rows);
    benchmark::DoNotOptimize(rows.data());
  }
  CountRows(state, rows.size());
}
BENCHMARK(Hash)->Arg(1)->Arg(64)->Arg(8192);

void Plan(benchmark::State& state) {
  const uint64_t rows = FullGeometry().layers()[0].rows;
  const auto shards = static_cast<uint64_t>(state.range(1));
  std::vector<Segment> segments;
  for (uint64_t i = 0; i < shards; ++i) {
    segments.push_back({rows * i / shards, rows * (i + 1) / shards, {i}});
  }
  const LayerSegments layer(std::move(segments));
  const std::vector<int64_t> ids = RandomRows(rows, static_cast<size_t>(state.range(0)));
  ShardPlan plan;
  for (auto _ : state) {
    if (!PlanShards(ids, rows, layer, plan).ok()) state.SkipWithError("refused");
    benchmark::DoNotOptimize(plan.rows.data());
  }
  CountRows(state, ids.size());
}
BENCHMARK(Plan)->ArgsProduct({{64 * 24, 8192 * 24}, {1, 4, 48}});

void EncodeRequest(benchmark::State& state) {
  uint8_t out[kMaxRequestHeader];
  uint64_t id = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(EncodeRequestHeader(++id, Sha256{}, kMicroLayer, WirePriority::kDecode,
                                                 10'000'000, 0, 512, false, out));
  }
}
BENCHMARK(EncodeRequest);

void EncodeAnswer(benchmark::State& state) {
  uint8_t out[kMaxAnswerHeader];
  uint64_t id = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(EncodeAnswerHeader(++id, 3, true, {}, {}, 512 * kRowBytes, out));
  }
}
BENCHMARK(EncodeAnswer);

void DecodeAnswer(benchmark::State& state) {
  uint8_t header[kMaxAnswerHeader];
  const size_t bytes = EncodeAnswerHeader(1 << 20, 3, true, {}, {}, 512 * kRowBytes, header);
  StreamResponse response;
  for (auto _ : state) {
    benchmark::DoNotOptimize(
        DecodeResponseHeader(header, bytes, bytes + 512 * kRowBytes, response));
  }
}
BENCHMARK(DecodeAnswer);

// ---------------------------------------------------------------- gather, scatter

constexpr size_t kIds = 1 << 20;
constexpr size_t kBatch = 1024;  // rows of one piece of 256 KiB

// Runs `gather(ids, out)` over uniform ids, a piece at a time, into the same 256 KiB.
template <typename GatherPiece>
void RunGather(benchmark::State& state, uint64_t rows, GatherPiece gather) {
  std::vector<uint32_t> ids;
  for (const int64_t id : RandomRows(rows, kIds)) ids.push_back(static_cast<uint32_t>(id));
  Block out(kBatch * kRowBytes, true);
  size_t at = 0;
  for (auto _ : state) {
    gather(std::span<const uint32_t>(ids).subspan(at, kBatch), out.data());
    at = (at + kBatch) % kIds;
    benchmark::ClobberMemory();
  }
  CountRows(state, kBatch);
}

// A table that stays from one benchmark to the next of the same shape.
Block& Table(uint64_t rows, bool huge) {
  static std::unique_ptr<Block> block;
  static std::pair<uint64_t, bool> shape;
  if (block == nullptr || shape != std::pair(rows, huge)) {
    block.reset();
    block = std::make_unique<Block>(rows * kRowBytes, huge);
    shape = {rows, huge};
  }
  return *block;
}

void GatherWith(benchmark::State& state, uint64_t rows, bool huge, Isa isa) {
  const uint8_t* const table = Table(rows, huge).data();
  RunGather(state, rows, [&](std::span<const uint32_t> ids, uint8_t* out) {
    GatherRows<uint32_t>(table, kRowBytes, ids.data(), ids.size(), 0, out, isa);
  });
}

// What anybody would write first.
void GatherPlainLoop(benchmark::State& state, uint64_t rows) {
  const uint8_t* const table = Table(rows, true).data();
  size_t row_bytes = kRowBytes;
  benchmark::DoNotOptimize(row_bytes);
  RunGather(state, rows, [&](std::span<const uint32_t> ids, uint8_t* out) {
    for (size_t i = 0; i < ids.size(); ++i) {
      std::memcpy(out + i * row_bytes, table + ids[i] * row_bytes, row_bytes);
    }
  });
}

// Through the store that a server gathers from, ids checked as it checks them.
void GatherFromStore(benchmark::State& state, uint64_t rows) {
  Table(1, false);  // lets a large one go
  auto store =
      OrDie(MemoryStore::Create(FullGeometry(), PackedFp8Layout(256), {{kMicroLayer, 0, rows}}));
  std::memset(store->PlaceOf(kMicroLayer, 0).rows, 1, rows * kRowBytes);
  RunGather(state, rows, [&](std::span<const uint32_t> ids, uint8_t* out) {
    if (!store->Check(kMicroLayer, ids).ok() ||
        !store->Gather(kMicroLayer, ids, out, nullptr).ok()) {
      state.SkipWithError("refused");
    }
  });
}

void Scatter(benchmark::State& state, Isa isa) {
  // An answer that was just read goes to places all over a slot of 8,192 tokens.
  constexpr size_t kPlaces = 8192 * 24;
  Block slot(kPlaces * kRowBytes, true);
  Block answer(kBatch * kRowBytes, true);
  std::vector<uint32_t> positions;
  for (const int64_t place : RandomRows(kPlaces, kIds)) {
    positions.push_back(static_cast<uint32_t>(place));
  }
  size_t at = 0;
  for (auto _ : state) {
    ScatterRows(answer.data(), kRowBytes, kRowBytes, positions.data() + at, kBatch, slot.data(),
                isa);
    at = (at + kBatch) % kIds;
    benchmark::ClobberMemory();
  }
  CountRows(state, kBatch);
}

constexpr uint64_t kGib = (uint64_t{1} << 30) / kRowBytes;  // rows

void Register() {
  for (const uint64_t gib : {1, 4, 8}) {
    const std::string size = std::to_string(gib) + "GiB";
    for (const Isa isa : SupportedIsas()) {
      benchmark::RegisterBenchmark(("Gather/" + size + "/" + NameOf(isa)).c_str(), GatherWith,
                                   gib * kGib, true, isa);
    }
    benchmark::RegisterBenchmark(("GatherPlainLoop/" + size).c_str(), GatherPlainLoop, gib * kGib);
    if (gib == 1) {
      benchmark::RegisterBenchmark("Gather/1GiB/small_pages", GatherWith, gib * kGib, false,
                                   BestIsa());
    }
    benchmark::RegisterBenchmark(("GatherFromStore/" + size).c_str(), GatherFromStore, gib * kGib);
  }
  for (const Isa isa : SupportedIsas()) {
    benchmark::RegisterBenchmark((std::string("Scatter/") + NameOf(isa)).c_str(), Scatter, isa);
  }
}

}  // namespace
}  // namespace engram

int main(int argc, char** argv) {
  engram::Register();
  engram::RegisterDequantize();
  engram::RegisterOverlay();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
