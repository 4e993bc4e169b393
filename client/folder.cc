#include "client/folder.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

// Below such a share of finds, looking is taken to cost more than it spares. Estimates: what they
// give stands in tests/bench/README.md, "trace".
constexpr double kDedupWorthwhile = 0.02;
constexpr double kCacheWorthwhile = 0.05;
// N-grams after which the cache's first ones count for little: it takes a while to fill.
constexpr double kCacheWindow = 1 << 17;
constexpr size_t kSizes = 33;

// N-grams: so far ahead of a search its set, and its key, are asked for; and of a copy its rows.
constexpr size_t kSetsAhead = 24;
constexpr size_t kKeysAhead = 12;
constexpr size_t kRowsAhead = 2;
constexpr size_t kLine = 64;

uint64_t MostRows(const Geometry& geometry) {
  uint64_t most = 0;
  for (const LayerGeometry& layer : geometry.layers()) most = std::max(most, layer.rows);
  return most;
}

// Ids of anything else are for the plan to refuse: the cache knows them by fewer bits.
bool AreRows(std::span<const int64_t> ids, uint64_t rows) {
  uint64_t largest = 0;
  for (const int64_t id : ids) largest = std::max(largest, static_cast<uint64_t>(id));
  return largest < rows;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Folder>> Folder::Create(const ClientOptions& options,
                                                       const Geometry& geometry,
                                                       const RowLayout& layout) {
  std::unique_ptr<RowCache> cache;
  if (options.cache_bytes > 0) {
    ColumnRange columns = options.cache_columns;
    if (columns == ColumnRange{}) columns = {0, geometry.columns()};
    if (columns.begin >= columns.end || columns.end > geometry.columns()) {
      return absl::InvalidArgumentError(
          absl::StrCat("client option `cache_columns` is [", columns.begin, ", ", columns.end,
                       "), of a layer that has ", geometry.columns(), " columns"));
    }
    absl::StatusOr<std::unique_ptr<RowCache>> made = RowCache::Create(
        options.cache_bytes / options.io_threads, NgramColumns(geometry.params().heads, columns),
        layout.row_bytes(), MostRows(geometry));
    if (!made.ok()) {
      return absl::Status(made.status().code(),
                          absl::StrCat("client option `cache_bytes`: ", made.status().message()));
    }
    cache = *std::move(made);
  }
  return std::unique_ptr<Folder>(new Folder(options.dedup, geometry, std::move(cache)));
}

Folder::Folder(bool dedup, const Geometry& geometry, std::unique_ptr<RowCache> cache)
    : dedup_(dedup),
      geometry_(geometry),
      cache_(std::move(cache)),
      columns_(geometry.params().heads, {0, geometry.columns()}),
      dedup_pays_(kSizes, Payoff(kDedupWorthwhile)),
      cache_pays_(kCacheWorthwhile),
      counters_(geometry.layers().size() * geometry.params().orders()) {}

bool Folder::Fold(const Lookup& lookup, LookupLayer& layer) {
  hits_.clear();
  // Ids that are no tokens' columns have no n-grams.
  if (layer.ids.empty() || layer.ids.size() % lookup.columns.count() != 0) return false;
  if (lookup.columns != columns_.range()) {
    columns_ = NgramColumns(geometry_.params().heads, lookup.columns);
  }
  const size_t ngrams = layer.ids.size() / columns_.columns() * columns_.parts();
  Payoff& dedup_pays = dedup_pays_[std::bit_width(ngrams)];
  const bool dedup = dedup_ && !lookup.fills_cache && dedup_pays.Try();
  const bool cached = cache_ != nullptr && cache_->columns() == columns_ &&
                      (lookup.fills_cache || cache_pays_.Try());
  if (!dedup && !cached) return false;
  fold_.Reset(ngrams);
  size_t spared = 0;
  if (dedup) {
    spared = deduplicator_.Run(layer.ids, columns_, fold_);
    dedup_pays.Learn(ngrams, spared, 0.5);
  }
  if (cached) {
    const size_t hits = FindCached(layer);
    if (lookup.fills_cache) return true;
    cache_pays_.Learn(ngrams - spared, hits,
                      std::min(1.0, static_cast<double>(ngrams) / kCacheWindow));
    spared += hits;
  }
  Count(layer.index);
  return spared > 0 || !layer.filling.empty();
}

// Everything that a search looks at lies in memory, not in caches: it is asked for some searches
// ahead.
size_t Folder::FindCached(LookupLayer& layer) {
  cache_->Begin();
  searches_.clear();
  const uint64_t rows = geometry_.layers()[layer.index].rows;
  uint32_t ngram = 0;
  for (const int64_t* token = layer.ids.data(); ngram < fold_.source.size();
       token += columns_.columns()) {
    for (uint32_t part = 0; part < columns_.parts(); ++part, ++ngram) {
      if (fold_.source[ngram] != NgramFold::Source::kFetch) continue;
      const std::span<const int64_t> ids(token + columns_.begin(part), columns_.size(part));
      if (AreRows(ids, rows)) searches_.push_back({ngram, RowCache::KeyOf(layer.index, ids)});
    }
  }
  const size_t count = searches_.size();
  for (size_t i = 0; i < std::min(count, kSetsAhead); ++i) cache_->Prefetch(searches_[i].key);
  for (size_t i = 0; i < count; ++i) {
    if (i + kSetsAhead < count) cache_->Prefetch(searches_[i + kSetsAhead].key);
    if (i + kKeysAhead < count) cache_->PrefetchMatch(searches_[i + kKeysAhead].key);
    const uint32_t of = searches_[i].ngram;
    const RowCache::Found found = cache_->Find(searches_[i].key, of % columns_.parts());
    fold_.slot[of] = found.slot;
    if (found.hit) {
      fold_.source[of] = NgramFold::Source::kCached;
      hits_.push_back(of);
    } else if (found.slot != RowCache::kNone) {
      layer.filling.push_back(found.slot);
    }
  }
  return hits_.size();
}

void Folder::CopyHits(const LookupLayer& layer, size_t begin, size_t end) const {
  const size_t slot_bytes = cache_->slot_rows() * layer.target.row_bytes;
  const auto rows_of = [&](uint32_t hit) {
    return cache_->rows() + size_t{fold_.slot[hit]} * slot_bytes;
  };
  for (size_t i = begin; i < end; ++i) {
    if (i + kRowsAhead < hits_.size()) {
      const uint8_t* const next = rows_of(hits_[i + kRowsAhead]);
      for (size_t at = 0; at < slot_bytes; at += kLine) __builtin_prefetch(next + at);
    }
    const uint8_t* const rows = rows_of(hits_[i]);
    uint32_t ngram = hits_[i];
    do {
      layer.target.WriteRows(columns_.First(ngram), rows, columns_.Size(ngram));
      ngram = fold_.next[ngram];
    } while (ngram != 0);
  }
}

void Folder::End(LookupLayer& layer, bool ok) {
  for (const uint32_t slot : layer.filling) ok ? cache_->Commit(slot) : cache_->Release(slot);
  layer.filling.clear();
}

void Folder::Count(size_t layer_index) {
  NgramCounters::Order* const orders =
      counters_.orders.data() + layer_index * geometry_.params().orders();
  for (uint32_t part = 0; part < columns_.parts(); ++part) {
    size_t duplicates = 0, cached = 0, all = 0;
    for (size_t u = part; u < fold_.source.size(); u += columns_.parts(), ++all) {
      duplicates += fold_.source[u] == NgramFold::Source::kDuplicate ? 1 : 0;
      cached += fold_.source[u] == NgramFold::Source::kCached ? 1 : 0;
    }
    NgramCounters::Order& order = orders[columns_.order(part)];
    StatsCounters::Add(order.looked_at, all);
    StatsCounters::Add(order.duplicates, duplicates);
    StatsCounters::Add(order.cached, cached);
  }
}

void Folder::AddTo(ClientStats& stats) const {
  stats.ngrams.resize(counters_.orders.size());
  for (size_t i = 0; i < counters_.orders.size(); ++i) {
    NgramStats& sum = stats.ngrams[i];
    const NgramCounters::Order& order = counters_.orders[i];
    sum.layer = geometry_.layers()[i / geometry_.params().orders()].layer_id;
    sum.order = static_cast<uint32_t>(i % geometry_.params().orders()) + 2;
    sum.looked_at += order.looked_at.load(std::memory_order_relaxed);
    sum.duplicates += order.duplicates.load(std::memory_order_relaxed);
    sum.cached += order.cached.load(std::memory_order_relaxed);
  }
  if (cache_ != nullptr) stats.cache_bytes += cache_->bytes();
}

}  // namespace engram
