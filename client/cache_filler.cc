#include "client/cache_filler.h"

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/client_core.h"
#include "client/lookup.h"
#include "proto/base/status_macros.h"
#include "proto/hot_ngrams.h"

namespace engram {
namespace {

// A lookup's rows are a few megabytes: one n-gram a token, its other columns none.
constexpr size_t kNgramsAtOnce = 1024;
// However often an n-gram was seen: it must be possible to be asked for more often.
constexpr uint32_t kMostCounted = 60;
// N-grams that are counted, for each slot: those that do not fit come in sooner when they are seen.
constexpr size_t kCountedPerSlot = 4;

class CacheFiller {
 public:
  CacheFiller(ClientCore& core, std::span<const HotNgrams::Ngram> ngrams)
      : core_(core), ngrams_(ngrams), max_size_(core.table().geometry.params().max_ngram) {}

  absl::Status Fill(size_t thread) {
    Folder& folder = core_.folder(thread);
    const std::vector<LayerGeometry>& layers = core_.table().geometry.layers();
    const size_t fitting = folder.cache()->slots() / layers.size();
    const size_t counted = std::min(ngrams_.size(), kCountedPerSlot * fitting);
    for (size_t layer = 0; layer < layers.size(); ++layer) {
      for (size_t begin = 0; begin < counted; begin += kNgramsAtOnce) {
        const auto part = ngrams_.subspan(begin, std::min(kNgramsAtOnce, counted - begin));
        std::vector<int64_t> ids = Ids(folder, layer, part);
        if (begin < fitting) RETURN_IF_ERROR(Fetch(thread, layer, std::move(ids)));
      }
    }
    return absl::OkStatus();
  }

 private:
  // Row ids [n-grams, columns of the cache]: each n-gram's own, else kNoRow. Counts them.
  std::vector<int64_t> Ids(Folder& folder, size_t layer, std::span<const HotNgrams::Ngram> part) {
    const RowHasher& hasher = core_.hasher();
    const NgramColumns& columns = folder.cache()->columns();
    std::vector<int64_t> ids(part.size() * columns.columns(), kNoRow);
    std::vector<int64_t> rows(size_t{max_size_} * hasher.columns());
    for (size_t i = 0; i < part.size(); ++i) {
      const HotNgrams::Ngram& ngram = part[i];
      hasher.HashChunk(layer, std::span(ngram.ids).first(ngram.size), {}, LookBack(),
                       std::span(rows).first(size_t{ngram.size} * hasher.columns()));
      const int64_t* const last = rows.data() + size_t{ngram.size - 1} * hasher.columns();
      for (uint32_t of = 0; of < columns.parts(); ++of) {
        if (columns.order(of) + 2 != ngram.size) continue;
        int64_t* const own = ids.data() + i * columns.columns() + columns.begin(of);
        std::copy_n(last + columns.range().begin + columns.begin(of), columns.size(of), own);
        folder.cache()->Count(RowCache::KeyOf(layer, {own, columns.size(of)}),
                              std::min(ngram.count, kMostCounted));
      }
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
  const std::span<const HotNgrams::Ngram> ngrams_;
  const uint32_t max_size_;
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

}  // namespace

absl::Status FillCaches(ClientCore& core) {
  ASSIGN_OR_RETURN(const HotNgrams hot, ReadHotNgrams(core.options().hot_ngrams));
  RETURN_IF_ERROR(Check(core, hot));
  CacheFiller filler(core, hot.ngrams);
  for (size_t thread = 0; thread < core.options().io_threads; ++thread) {
    const absl::Status status = filler.Fill(thread);
    if (!status.ok() && core.options().log) {
      core.options().log(absl::StrCat("the cache was not filled: ", status.message()));
    }
  }
  return absl::OkStatus();
}

}  // namespace engram
