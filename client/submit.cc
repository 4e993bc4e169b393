// How lookups are made ready for the I/O threads: the part of ClientCore after connecting.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/client_core.h"
#include "client/prefetch.h"
#include "client/step_rows.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

// Of a layer's rows. A decode step's stay in the caches, where who reads them next finds them; a
// prefill chunk's would only drive out what is there.
constexpr uint64_t kStreamBytes = 8 << 20;

}  // namespace

absl::StatusOr<std::vector<uint32_t>> ClientCore::LayersOf(std::vector<uint32_t> layers) const {
  if (layers.empty()) {
    layers = table_->geometry.params().layer_ids;
    std::sort(layers.begin(), layers.end());
  }
  for (size_t i = 0; i < layers.size(); ++i) {
    RETURN_IF_ERROR(table_->geometry.LayerIndex(layers[i]).status());
    if (i > 0 && layers[i - 1] >= layers[i]) {
      return absl::InvalidArgumentError(
          absl::StrCat("layer ", layers[i], " stands behind layer ", layers[i - 1]));
    }
  }
  return layers;
}

absl::StatusOr<ColumnRange> ClientCore::ColumnsOf(ColumnRange columns) const {
  const uint32_t all = table_->geometry.columns();
  if (columns == ColumnRange{}) return ColumnRange{0, all};
  if (columns.begin < columns.end && columns.end <= all) return columns;
  return absl::InvalidArgumentError(absl::StrCat("columns [", columns.begin, ", ", columns.end,
                                                 ") are not columns of a layer that has ", all));
}

absl::StatusOr<std::shared_ptr<Lookup>> ClientCore::NewLookup(size_t layers,
                                                              const LookupOptions& options) const {
  RETURN_IF_ERROR(CheckProcess());
  if (options.missing == MissingRows::kZeros && options.degraded.empty()) {
    return absl::InvalidArgumentError(
        "MissingRows::kZeros needs `degraded`, a flag for each token");
  }
  if (layers == 0) return absl::InvalidArgumentError("a lookup needs at least one layer");
  if (options.timeout <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError("lookup option `timeout` is not positive");
  }
  auto lookup = std::make_shared<Lookup>(layers);
  lookup->timeout = options.timeout;
  lookup->submitted = absl::Now();
  lookup->deadline = lookup->submitted + options.timeout;
  lookup->priority = options.priority;
  lookup->on_done = options.on_done;
  lookup->missing = options.missing;
  lookup->degraded = options.degraded;
  lookup->spin = options_.spin;
  lookup->columns = {0, table_->geometry.columns()};
  return lookup;
}

absl::Status ClientCore::SetLayer(LookupLayer& layer, uint32_t id, size_t rows,
                                  const RowTarget& target) const {
  ASSIGN_OR_RETURN(layer.index, table_->geometry.LayerIndex(id));
  if (rows >= UINT32_MAX) {
    return absl::InvalidArgumentError(absl::StrCat("layer ", id, ": ", rows, " rows are too many"));
  }
  layer.layer = id;
  layer.waits = &waits_[layer.index];
  layer.rows = rows;
  layer.target = target;
  layer.target.stream = rows * target.row_bytes >= kStreamBytes;
  return absl::OkStatus();
}

absl::Status ClientCore::CheckIds(const StepIds& ids, size_t layers) const {
  if (ids.layers.size() != layers) {
    return absl::InvalidArgumentError(
        absl::StrCat("ids of ", ids.layers.size(), " layers for ", layers, " layers"));
  }
  if (ids.mask.empty() || ids.mask.size() == ids.tokens) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("a mask of ", ids.mask.size(), " for ", ids.tokens, " tokens"));
}

absl::Status ClientCore::SetIds(const StepIds& ids, const LayerIds& source, ColumnRange columns,
                                LookupLayer& layer) const {
  if (source.narrow == nullptr && source.wide == nullptr && ids.tokens > 0) {
    return absl::InvalidArgumentError(absl::StrCat("layer ", layer.layer, ": its ids are null"));
  }
  const GivenIds given{source, ids.tokens, columns, ids.per_column, ids.own_columns, ids.mask};
  if (AreGlobalRows(given, table_->geometry.columns())) {
    layer.ids = std::span(source.wide, layer.rows);
  } else {
    layer.given = given;
  }
  return absl::OkStatus();
}

absl::Status ClientCore::Submit(const std::shared_ptr<Lookup>& lookup, size_t thread) {
  const std::vector<LookupLayer>& layers = lookup->layers();
  const std::span<uint8_t> degraded = lookup->degraded;
  for (size_t i = 0; i < layers.size(); ++i) {
    if (!degraded.empty() && layers[i].rows != degraded.size() * lookup->columns.count()) {
      return absl::InvalidArgumentError(
          absl::StrCat("layer ", layers[i].layer, ": ", degraded.size(), " degraded flags for ",
                       layers[i].rows, " rows of ", lookup->columns.count(), " columns"));
    }
    for (size_t j = 0; j < i; ++j) {
      if (layers[i].layer == layers[j].layer) {
        return absl::InvalidArgumentError(
            absl::StrCat("layer ", layers[i].layer, " stands twice in one lookup"));
      }
    }
  }
  std::fill(degraded.begin(), degraded.end(), uint8_t{0});
  IoThread& owner = *io_threads_[thread];
  // A share of this object: whoever holds the lookup may ask its owner, closed or not.
  lookup->owner = std::shared_ptr<LookupOwner>(shared_from_this(), &owner);
  if (owner.Submit(lookup)) return absl::OkStatus();
  return absl::CancelledError("the client is closed");
}

absl::Status ClientCore::CheckTokenMap() const {
  if (token_map_.has_value()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "the servers have no token map: look up by row ids, or serve a checkpoint with a tokenizer");
}

absl::Status ClientCore::Compress(const StepChunk& chunk, std::vector<uint32_t>& compressed) const {
  if (chunk.state == nullptr) {
    return absl::InvalidArgumentError("a chunk of tokens has no look-back state");
  }
  if (!chunk.dead.empty() && chunk.dead.size() != chunk.tokens.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(chunk.dead.size(), " dead flags for ", chunk.tokens.size(), " tokens"));
  }
  const std::span<const uint32_t> map = token_map_->compressed();
  for (size_t i = 0; i < chunk.tokens.size(); ++i) {
    const uint32_t token = chunk.tokens[i];
    // A dead position (an image span, say) may carry any id: it is never hashed.
    const bool dead = !chunk.dead.empty() && chunk.dead[i] != 0;
    if (token >= map.size() && !dead) {
      return absl::InvalidArgumentError(
          absl::StrCat("token id ", token, " at position ", compressed.size(),
                       " is beyond the token map of ", map.size(), " tokens"));
    }
    compressed.push_back(token < map.size() ? map[token] : 0);
  }
  return absl::OkStatus();
}

absl::Status ClientCore::CheckAhead(const StepChunk& chunk, const Lookup& lookup) const {
  const std::shared_ptr<Lookup>& ahead = chunk.ahead->lookup_;
  if (ahead == nullptr) return absl::InvalidArgumentError("a chunk's prefetch is empty");
  if (chunk.ahead->core_.get() != this) {
    return absl::InvalidArgumentError("a chunk's prefetch is another client's");
  }
  const size_t tokens = ahead->compressed.size();
  if (chunk.first > tokens || chunk.count > tokens - chunk.first) {
    return absl::InvalidArgumentError(absl::StrCat("a chunk of ", chunk.count,
                                                   " tokens from token ", chunk.first,
                                                   " on, of a prefetch of ", tokens));
  }
  if (lookup.columns.begin < ahead->columns.begin || lookup.columns.end > ahead->columns.end) {
    return absl::InvalidArgumentError("a chunk's prefetch has other columns");
  }
  const LookupChunk& branch = ahead->ChunkAt(chunk.first);
  if (chunk.count > branch.begin + branch.tokens - chunk.first) {
    return absl::InvalidArgumentError("a chunk reaches beyond a branch of its prefetch");
  }
  for (const LookupLayer& layer : lookup.layers()) {
    if (ahead->FindLayer(layer.layer) == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("a chunk's prefetch has no layer ", layer.layer));
    }
  }
  return absl::OkStatus();
}

absl::Status ClientCore::AddChunk(const StepChunk& chunk, std::span<const uint32_t> compressed,
                                  LookupChunk& part) const {
  part.tokens = chunk.size();
  if (chunk.ahead != nullptr) {
    part.ahead = chunk.ahead->lookup_;
    part.first = chunk.first;
    if (chunk.state == nullptr || chunk.count == 0) return absl::OkStatus();
    const TokenRun run = RunOfAhead(*part.ahead, chunk.first, chunk.count, hasher());
    if (run.before != *chunk.state) {
      return absl::InvalidArgumentError("a chunk's prefetch stands behind another look-back state");
    }
    part.run = run;
  } else {
    part.run = {compressed, chunk.dead, *chunk.state};
  }
  hasher().Advance(part.run.compressed, part.run.dead, *chunk.state);
  return absl::OkStatus();
}

absl::Status ClientCore::SubmitChunks(const std::shared_ptr<Lookup>& lookup,
                                      std::span<const StepChunk> chunks, size_t thread) {
  RETURN_IF_ERROR(CheckTokenMap());
  for (const StepChunk& chunk : chunks) {
    RETURN_IF_ERROR(chunk.ahead != nullptr ? CheckAhead(chunk, *lookup)
                                           : Compress(chunk, lookup->compressed));
  }
  std::span<const uint32_t> compressed = lookup->compressed;
  absl::Status status;
  size_t begin = 0, added = 0;
  for (; added < chunks.size() && status.ok(); ++added) {
    const StepChunk& chunk = chunks[added];
    const size_t own = chunk.ahead != nullptr ? 0 : chunk.size();
    LookupChunk& part = lookup->chunks.emplace_back();
    part.begin = begin;
    status = AddChunk(chunk, compressed.first(own), part);
    begin += part.tokens;
    compressed = compressed.subspan(own);
  }
  if (status.ok()) status = Submit(lookup, thread);
  if (status.ok()) return status;
  // The last first: several chunks may be of one sequence.
  for (size_t i = added; i > 0; --i) {
    const TokenRun& run = lookup->chunks[i - 1].run;
    if (chunks[i - 1].state != nullptr && !run.compressed.empty())
      *chunks[i - 1].state = run.before;
  }
  return status;
}

absl::Status ClientCore::SubmitRuns(const std::shared_ptr<Lookup>& lookup,
                                    std::span<const TokenRun> runs, size_t thread) {
  for (const TokenRun& run : runs) {
    lookup->compressed.insert(lookup->compressed.end(), run.compressed.begin(),
                              run.compressed.end());
    lookup->dead.insert(lookup->dead.end(), run.dead.begin(), run.dead.end());
  }
  size_t begin = 0, dead = 0;
  for (const TokenRun& run : runs) {
    LookupChunk& part = lookup->chunks.emplace_back();
    part.begin = begin;
    part.tokens = run.compressed.size();
    part.run = {std::span(lookup->compressed).subspan(begin, part.tokens),
                std::span(lookup->dead).subspan(dead, run.dead.size()), run.before};
    begin += part.tokens;
    dead += run.dead.size();
  }
  return Submit(lookup, thread);
}

}  // namespace engram
