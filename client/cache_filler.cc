#include "client/cache_filler.h"

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/client_core.h"
#include "client/lookup.h"
#include "proto/base/status_macros.h"
#include "proto/hot_keys.h"
#include "proto/hot_ngrams.h"

namespace engram {
namespace {

// A lookup's rows are a few megabytes: one n-gram a token, its other columns none.
constexpr size_t kNgramsAtOnce = 1024;
// However often an n-gram was seen: it must be possible to be asked for more often.
constexpr uint32_t kMostCounted = 60;
// N-grams that are counted, for each slot: those that do not fit come in sooner when they are seen.
constexpr size_t kCountedPerSlot = 4;

// An n-gram as a cache of some columns knows it.
struct Candidate {
  uint32_t part = 0;
  uint32_t count = 0;
  std::array<int64_t, kMaxHeads> ids;  // the first of them, as many as the part has columns
};

// N-grams in the order in which they are wanted.
class HotSource {
 public:
  virtual ~HotSource() = default;
  virtual size_t size(size_t layer_index) const = 0;
  // Unset: the cache's columns have not this one.
  virtual std::optional<Candidate> At(size_t layer_index, size_t i,
                                      const NgramColumns& columns) = 0;
};

// Those of a file of token n-grams: the same for every layer.
class HotText final : public HotSource {
 public:
  HotText(HotNgrams hot, const RowHasher& hasher, uint32_t max_ngram)
      : hot_(std::move(hot)), hasher_(hasher), rows_(size_t{max_ngram} * hasher.columns()) {}

  size_t size(size_t) const override { return hot_.ngrams.size(); }

  std::optional<Candidate> At(size_t layer_index, size_t i, const NgramColumns& columns) override {
    const HotNgrams::Ngram& ngram = hot_.ngrams[i];
    for (uint32_t part = 0; part < columns.parts(); ++part) {
      if (columns.order(part) + 2 != ngram.size) continue;
      hasher_.HashChunk(layer_index, std::span(ngram.ids).first(ngram.size), {}, LookBack(),
                        std::span(rows_).first(size_t{ngram.size} * hasher_.columns()));
      const int64_t* const last = rows_.data() + size_t{ngram.size - 1} * hasher_.columns();
      Candidate candidate{part, ngram.count, {}};
      std::copy_n(last + columns.range().begin + columns.begin(part), columns.size(part),
                  candidate.ids.begin());
      return candidate;
    }
    return std::nullopt;
  }

 private:
  const HotNgrams hot_;
  const RowHasher& hasher_;
  std::vector<int64_t> rows_;  // scratch
};

// Those of a file of row ids.
class HotRows final : public HotSource {
 public:
  HotRows(HotKeys hot, const Geometry& geometry)
      : hot_(std::move(hot)), of_layer_(geometry.layers().size()) {
    for (const HotKeys::Key& key : hot_.keys) {
      of_layer_[*geometry.LayerIndex(key.layer)].push_back(&key);
    }
  }

  size_t size(size_t layer_index) const override { return of_layer_[layer_index].size(); }

  std::optional<Candidate> At(size_t layer_index, size_t i, const NgramColumns& columns) override {
    const HotKeys::Key& key = *of_layer_[layer_index][i];
    for (uint32_t part = 0; part < columns.parts(); ++part) {
      if (columns.range().begin + columns.begin(part) != key.column) continue;
      if (columns.size(part) != key.rows.size()) continue;
      Candidate candidate{part, key.count, {}};
      std::copy(key.rows.begin(), key.rows.end(), candidate.ids.begin());
      return candidate;
    }
    return std::nullopt;
  }

 private:
  const HotKeys hot_;
  std::vector<std::vector<const HotKeys::Key*>> of_layer_;
};

class CacheFiller {
 public:
  CacheFiller(ClientCore& core, HotSource& source) : core_(core), source_(source) {}

  absl::Status Fill(size_t thread) {
    Folder& folder = core_.folder(thread);
    const size_t layers = core_.table().geometry.layers().size();
    const size_t fitting = folder.cache()->slots() / layers;
    for (size_t layer = 0; layer < layers; ++layer) {
      const size_t counted = std::min(source_.size(layer), kCountedPerSlot * fitting);
      for (size_t begin = 0; begin < counted; begin += kNgramsAtOnce) {
        std::vector<int64_t> ids =
            Ids(folder, layer, begin, std::min(kNgramsAtOnce, counted - begin));
        if (begin < fitting) RETURN_IF_ERROR(Fetch(thread, layer, std::move(ids)));
      }
    }
    return absl::OkStatus();
  }

 private:
  // Row ids [n-grams, columns of the cache]: each n-gram's own, else kNoRow. Counts them.
  std::vector<int64_t> Ids(Folder& folder, size_t layer, size_t begin, size_t count) {
    const NgramColumns& columns = folder.cache()->columns();
    std::vector<int64_t> ids(count * columns.columns(), kNoRow);
    for (size_t i = 0; i < count; ++i) {
      const std::optional<Candidate> candidate = source_.At(layer, begin + i, columns);
      if (!candidate.has_value()) continue;
      int64_t* const own = ids.data() + i * columns.columns() + columns.begin(candidate->part);
      const uint32_t size = columns.size(candidate->part);
      std::copy_n(candidate->ids.begin(), size, own);
      folder.cache()->Count(RowCache::KeyOf(layer, {own, size}),
                            std::min(candidate->count, kMostCounted));
    }
    return ids;
  }

  absl::Status Fetch(size_t thread, size_t layer_index, std::vector<int64_t> ids) {
    Folder& folder = core_.folder(thread);
    const size_t row_bytes = core_.table().layout.row_bytes();
    ASSIGN_OR_RETURN(auto lookup, core_.NewLookup(1, {.timeout = core_.options().connect_timeout,
                                                      .priority = LookupPriority::kPrefill}));
    lookup->columns = folder.cache()->columns().range();
    lookup->fills_cache = true;
    LookupLayer& layer = lookup->layers()[0];
    layer.own_ids = std::move(ids);
    layer.ids = layer.own_ids;
    rows_.resize(layer.ids.size() * row_bytes);
    const uint32_t id = core_.table().geometry.layers()[layer_index].layer_id;
    RETURN_IF_ERROR(
        core_.SetLayer(layer, id, layer.ids.size(), RowTarget::Rows(rows_.data(), row_bytes)));
    RETURN_IF_ERROR(core_.Submit(lookup, thread));
    const absl::Status status = lookup->WaitAll(absl::InfiniteFuture());
    lookup->WaitUntilOver();
    return status;
  }

  ClientCore& core_;
  HotSource& source_;
  std::vector<uint8_t> rows_;
};

absl::Status Check(const ClientCore& core, const HotNgrams& hot) {
  const std::string& path = core.options().hot_ngrams;
  RETURN_IF_ERROR(core.CheckTokenMap());
  if (hot.token_map != core.token_map()->sha256()) {
    return absl::FailedPreconditionError(absl::StrCat("hot n-grams ", path, " are of token map ",
                                                      ToHex(hot.token_map), ", the servers have ",
                                                      ToHex(core.token_map()->sha256())));
  }
  const GeometryParams& params = core.table().geometry.params();
  for (const HotNgrams::Ngram& ngram : hot.ngrams) {
    if (ngram.size > params.max_ngram) {
      return absl::InvalidArgumentError(absl::StrCat("hot n-grams ", path, ": one of ", ngram.size,
                                                     " tokens, for a model of ", params.max_ngram));
    }
    for (const uint32_t id : std::span(ngram.ids).first(ngram.size)) {
      if (id < params.compressed_vocab) continue;
      return absl::InvalidArgumentError(absl::StrCat("hot n-grams ", path, ": compressed id ", id,
                                                     " is beyond the vocabulary of ",
                                                     params.compressed_vocab));
    }
  }
  return absl::OkStatus();
}

absl::Status Check(const ClientCore& core, const HotKeys& hot) {
  const std::string& path = core.options().hot_ngrams;
  if (hot.digest != core.table().digest) {
    return absl::FailedPreconditionError(
        absl::StrCat("hot n-grams ", path, " are of the table of digest ", ToHex(hot.digest),
                     ", the servers hold that of ", ToHex(core.table().digest)));
  }
  const Geometry& geometry = core.table().geometry;
  for (const HotKeys::Key& key : hot.keys) {
    const absl::StatusOr<size_t> index = geometry.LayerIndex(key.layer);
    if (!index.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("hot n-grams ", path, ": ", index.status().message()));
    }
    const LayerGeometry& layer = geometry.layers()[*index];
    for (size_t i = 0; i < key.rows.size(); ++i) {
      const size_t column = key.column + i;
      if (column < layer.columns.size() && key.rows[i] >= layer.columns[column].offset &&
          key.rows[i] - layer.columns[column].offset < layer.columns[column].prime) {
        continue;
      }
      return absl::InvalidArgumentError(absl::StrCat("hot n-grams ", path, ": layer ", key.layer,
                                                     ": row ", key.rows[i], " is none of column ",
                                                     column));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<HotSource>> OpenSource(const ClientCore& core) {
  const std::string& path = core.options().hot_ngrams;
  ASSIGN_OR_RETURN(const bool by_rows, IsHotKeysFile(path));
  if (by_rows) {
    ASSIGN_OR_RETURN(HotKeys hot, ReadHotKeys(path));
    RETURN_IF_ERROR(Check(core, hot));
    return std::make_unique<HotRows>(std::move(hot), core.table().geometry);
  }
  ASSIGN_OR_RETURN(HotNgrams hot, ReadHotNgrams(path));
  RETURN_IF_ERROR(Check(core, hot));
  return std::make_unique<HotText>(std::move(hot), core.hasher(),
                                   core.table().geometry.params().max_ngram);
}

}  // namespace

absl::Status FillCaches(ClientCore& core) {
  ASSIGN_OR_RETURN(const std::unique_ptr<HotSource> source, OpenSource(core));
  CacheFiller filler(core, *source);
  for (size_t thread = 0; thread < core.options().io_threads; ++thread) {
    const absl::Status status = filler.Fill(thread);
    if (!status.ok() && core.options().log) {
      core.options().log(absl::StrCat("the cache was not filled: ", status.message()));
    }
  }
  return absl::OkStatus();
}

}  // namespace engram
