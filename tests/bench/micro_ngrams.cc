// What spares fetches, in process, by Google Benchmark: finding repeats, and rows that were fetched
// before. Rates are row ids (or rows) a second of one thread.
#include <benchmark/benchmark.h>

#include <cstring>
#include <random>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "client/folder.h"
#include "client/ngrams.h"
#include "proto/row_ids.h"
#include "proto/row_layout.h"
#include "proto/token_trace.h"
#include "tests/bench/micro.h"

namespace engram {
namespace {

constexpr uint32_t kHeads = 8;
constexpr uint32_t kColumns = 24;
constexpr size_t kNgramRowBytes = 264;

// ---------------------------------------------------------------- repeats

// Row ids [tokens, 24] of V4.1-Flash for the first tokens of the sample text. Their vocabulary is
// not the geometry's: other rows, as often repeated.
std::vector<int64_t> TextIds(size_t tokens) {
  std::vector<uint32_t> compressed;
  for (const std::vector<uint32_t>& sequence : OrDie(ReadTokenTrace("deploy/data/kjv.tok"))) {
    for (const uint32_t token : sequence) {
      compressed.push_back(token % FullGeometry().params().compressed_vocab);
    }
  }
  compressed.resize(tokens);
  const RowHasher hasher = OrDie(RowHasher::Create(FullGeometry(), 2));
  std::vector<int64_t> ids(tokens * kColumns);
  hasher.HashChunk(0, compressed, {}, LookBack(), ids);
  return ids;
}

// Calls run(ids, fold), which gives the repeats that it has found.
template <typename Run>
void FindRepeats(benchmark::State& state, Run run) {
  const std::vector<int64_t> ids = TextIds(static_cast<size_t>(state.range(0)));
  NgramFold fold;
  size_t found = 0;
  for (auto _ : state) {
    fold.Reset(ids.size() / kHeads);
    found = run(ids, fold);
  }
  CountRows(state, ids.size());
  state.counters["repeated"] =
      static_cast<double>(found) / static_cast<double>(ids.size() / kHeads);
}

void Dedup(benchmark::State& state) {
  const NgramColumns columns(kHeads, {0, kColumns});
  NgramDedup dedup;
  FindRepeats(state, [&](std::span<const int64_t> ids, NgramFold& fold) {
    return dedup.Run(ids, columns, fold);
  });
}
BENCHMARK(Dedup)->Arg(64)->Arg(512)->Arg(8192);

// An n-gram's row ids as a key of a hash map.
struct MapKey {
  const int64_t* ids;

  bool operator==(const MapKey& other) const {
    return std::memcmp(ids, other.ids, kHeads * sizeof(*ids)) == 0;
  }
  template <typename H>
  friend H AbslHashValue(H h, const MapKey& key) {
    return H::combine_contiguous(std::move(h), key.ids, kHeads);
  }
};

// The same by absl::flat_hash_map, which keeps its memory from one batch to the next.
void DedupByFlatHashMap(benchmark::State& state) {
  absl::flat_hash_map<MapKey, uint32_t> firsts;
  FindRepeats(state, [&](std::span<const int64_t> ids, NgramFold& fold) {
    size_t found = 0;
    firsts.clear();
    for (uint32_t ngram = 0; ngram < fold.source.size(); ++ngram) {
      const MapKey key{ids.data() + size_t{ngram} * kHeads};
      if (!IsWhole({key.ids, kHeads})) continue;
      const auto [it, is_new] = firsts.try_emplace(key, ngram);
      if (is_new) continue;
      fold.source[ngram] = NgramFold::Source::kDuplicate;
      fold.next[ngram] = fold.next[it->second];
      fold.next[it->second] = ngram;
      ++found;
    }
    return found;
  });
}
BENCHMARK(DedupByFlatHashMap)->Arg(64)->Arg(512)->Arg(8192);

// ---------------------------------------------------------------- hits

// Lookups of 8,192 tokens whose n-grams a cache of 512 MB all has: search, and copy to the caller's
// place. So many of them take turns: few, and the core's caches hold their rows; many, and each row
// comes from memory.
void CacheHits(benchmark::State& state) {
  constexpr size_t kTokens = 8192;
  const auto ngrams = static_cast<size_t>(state.range(0));
  ClientOptions options;
  options.dedup = false;
  options.cache_bytes = 512'000'000;
  const auto folder = OrDie(Folder::Create(options, FullGeometry(), PackedFp8Layout(256)));
  Block out(kTokens * kColumns * kNgramRowBytes, true);

  Lookup lookup(1);
  lookup.columns = {0, kColumns};
  LookupLayer& layer = lookup.layers()[0];
  layer.target = RowTarget::Rows(out.data(), kNgramRowBytes);
  layer.target.stream = true;
  const auto ids_of = [](size_t ngram, int64_t* ids) {
    for (size_t head = 0; head < kHeads; ++head) {
      ids[head] = static_cast<int64_t>(ngram * kHeads + head);
    }
  };
  std::vector<int64_t> ids(kTokens * kColumns);
  lookup.fills_cache = true;
  for (size_t ngram = 0; ngram < ngrams;) {
    for (size_t i = 0; i < ids.size(); i += kHeads, ++ngram) ids_of(ngram, &ids[i]);
    layer.ids = ids;
    folder->Fold(lookup, layer);
    for (const uint32_t slot : layer.filling) {
      std::memset(folder->cache_rows() + size_t{slot} * kHeads * kNgramRowBytes, 1,
                  kHeads * kNgramRowBytes);
    }
    folder->End(layer, true);
  }
  lookup.fills_cache = false;

  std::mt19937_64 random(1);
  for (size_t i = 0; i < ids.size(); i += kHeads) ids_of(random() % ngrams, &ids[i]);
  ClientStats before;
  folder->AddTo(before);
  for (auto _ : state) {
    folder->Fold(lookup, layer);
    folder->CopyHits(layer, 0, folder->hits());
    folder->End(layer, false);
  }
  CountRows(state, ids.size());
  ClientStats stats;
  folder->AddTo(stats);
  uint64_t hits = 0, looked_at = 0;
  for (const NgramStats& order : stats.ngrams) {
    hits += order.cached;
    looked_at += order.looked_at;
  }
  state.counters["hit"] = static_cast<double>(hits) / static_cast<double>(looked_at);
}
BENCHMARK(CacheHits)->Arg(2000)->Arg(100000);

}  // namespace
}  // namespace engram
