#include "client/step_rows.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "client/scatter.h"

namespace engram {
namespace {

// Whether the chunk's rows of that layer are there, and of the lookup's table. Only when that layer
// of its prefetch is done.
bool IsThere(const LookupChunk& chunk, uint32_t layer, uint64_t table) {
  return chunk.ahead != nullptr && chunk.ahead->table == table &&
         chunk.ahead->FindLayer(layer)->status.ok();
}

// What a chunk hashes; one of a prefetch, should its rows have to be fetched after all.
TokenRun RunOf(const LookupChunk& chunk, const RowHasher& hasher) {
  if (chunk.ahead == nullptr) return chunk.run;
  return RunOfAhead(*chunk.ahead, chunk.first, chunk.tokens, hasher);
}

// Bytes that are copied sooner than another thread takes notice of them, or not much later.
constexpr size_t kCopiedAtOnce = 256 << 10;

void HashChunks(const Lookup& lookup, const RowHasher& hasher, LookupLayer& layer) {
  const size_t columns = lookup.columns.count();
  for (const LookupChunk& chunk : lookup.chunks) {
    if (IsThere(chunk, layer.layer, lookup.table)) layer.copies.push_back(&chunk);
  }
  if (layer.copies.size() == lookup.chunks.size()) return;
  layer.own_ids.resize(layer.rows);
  for (const LookupChunk& chunk : lookup.chunks) {
    const std::span<int64_t> rows =
        std::span(layer.own_ids).subspan(chunk.begin * columns, chunk.tokens * columns);
    if (IsThere(chunk, layer.layer, lookup.table)) {
      std::fill(rows.begin(), rows.end(), kNoRow);
    } else {
      HashRun(hasher, layer.index, RunOf(chunk, hasher), lookup.columns, rows);
    }
  }
  layer.ids = layer.own_ids;
}

}  // namespace

TokenRun RunOfAhead(const Lookup& ahead, size_t first, size_t tokens, const RowHasher& hasher) {
  const LookupChunk& branch = ahead.ChunkAt(first);
  const TokenRun& whole = branch.run;
  const size_t skipped = first - branch.begin;
  const auto part = [&](auto all, size_t begin, size_t count) {
    return all.empty() ? all : all.subspan(begin, count);
  };
  TokenRun run{part(whole.compressed, skipped, tokens), part(whole.dead, skipped, tokens),
               whole.before};
  hasher.Advance(part(whole.compressed, 0, skipped), part(whole.dead, 0, skipped), run.before);
  return run;
}

bool WaitForAhead(const std::shared_ptr<Lookup>& lookup, LookupLayer& layer) {
  return std::any_of(lookup->chunks.begin(), lookup->chunks.end(), [&](const LookupChunk& chunk) {
    return chunk.ahead != nullptr &&
           chunk.ahead->AddWaiter(*chunk.ahead->FindLayer(layer.layer), lookup);
  });
}

absl::Status FillIds(const Lookup& lookup, const LayerGeometry& geometry, const RowHasher* hasher,
                     LookupLayer& layer) {
  if (!lookup.chunks.empty()) {
    HashChunks(lookup, *hasher, layer);
    return absl::OkStatus();
  }
  if (!layer.given.has_value()) return absl::OkStatus();  // Global rows, as they stand.
  const absl::Status status = ConvertIds(*layer.given, geometry, layer.own_ids);
  layer.ids = layer.own_ids;
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat("layer ", layer.layer, ": ", status.message()));
}

size_t ZeroMissing(const Lookup& lookup, const LookupLayer& layer) {
  size_t zeroed = 0;
  const size_t columns = lookup.columns.count();
  auto copy = layer.copies.begin();
  for (const uint32_t position : layer.plan->none) {
    const size_t token = position / columns;
    while (copy != layer.copies.end() && (*copy)->begin + (*copy)->tokens <= token) ++copy;
    const bool copied = copy != layer.copies.end() && (*copy)->begin <= token;
    if (copied) continue;
    layer.target.ZeroRow(position);
    ++zeroed;
  }
  return zeroed;
}

void CopyAhead(const Lookup& lookup, const LookupLayer& layer) {
  const size_t row_bytes = layer.target.row_bytes;
  const size_t columns = lookup.columns.count();
  for (const LookupChunk* chunk : layer.copies) {
    const ColumnRange there = chunk->ahead->columns;
    const uint8_t* const rows = chunk->ahead->FindLayer(layer.layer)->target.values;
    // Of all columns that are there whole tokens lie one behind the other; of some, they do not.
    const size_t at_once = there == lookup.columns ? chunk->tokens : 1;
    for (size_t token = 0; token < chunk->tokens; token += at_once) {
      const size_t from =
          (chunk->first + token) * there.count() + lookup.columns.begin - there.begin;
      RowScatter scatter(nullptr, (chunk->begin + token) * columns, at_once * columns,
                         layer.target);
      scatter.Append(rows + from * row_bytes, at_once * columns * row_bytes);
    }
  }
}

bool FinishAtOnce(Lookup& lookup) {
  size_t bytes = 0;
  lookup.table = lookup.owner->table();
  for (const LookupLayer& layer : lookup.layers()) {
    bytes += layer.rows * layer.target.row_bytes;
    for (const LookupChunk& chunk : lookup.chunks) {
      if (chunk.ahead == nullptr || !chunk.ahead->Done(layer.layer)) return false;
      if (!IsThere(chunk, layer.layer, lookup.table)) return false;
    }
  }
  if (lookup.chunks.empty() || bytes > kCopiedAtOnce) return false;
  for (LookupLayer& layer : lookup.layers()) {
    for (const LookupChunk& chunk : lookup.chunks) layer.copies.push_back(&chunk);
    CopyAhead(lookup, layer);
    lookup.Finish(layer, absl::OkStatus());
  }
  return true;
}

}  // namespace engram
