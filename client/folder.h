// What of a lookup need not be fetched: n-grams that it repeats, and those of the cache.
#ifndef ENGRAM_CLIENT_FOLDER_H_
#define ENGRAM_CLIENT_FOLDER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "client/lookup.h"
#include "client/ngrams.h"
#include "client/options.h"
#include "client/row_cache.h"
#include "client/stats.h"
#include "proto/geometry.h"
#include "proto/row_layout.h"

namespace engram {

// A stage between a layer's ids and its plan. Belongs to one I/O thread; stats may be read by any.
class Folder {
 public:
  // Errors as RowCache::Create. Borrows the geometry.
  static absl::StatusOr<std::unique_ptr<Folder>> Create(const ClientOptions& options,
                                                        const Geometry& geometry,
                                                        const RowLayout& layout);

  // False: the layer's ids are to be fetched as they stand. Otherwise fold() and columns() say what
  // is, until the next call, and End must follow when the layer is over.
  bool Fold(const Lookup& lookup, LookupLayer& layer);
  const NgramFold& fold() const { return fold_; }
  const NgramColumns& columns() const { return columns_; }
  RowCache* cache() { return cache_.get(); }
  // Rows of another table come from now on. Not while a layer is folded.
  void ChangeTable() {
    if (cache_ != nullptr) cache_->Clear();
  }
  // Where the cache's rows lie; null without one.
  uint8_t* cache_rows() const { return cache_ == nullptr ? nullptr : cache_->rows(); }

  // Of the layer folded last.
  size_t hits() const { return hits_.size(); }
  // Copies hits [begin, end) of the cache to their places. After Fold, before another one.
  void CopyHits(const LookupLayer& layer, size_t begin, size_t end) const;
  // The layer is over; `ok`: all of its rows have come. For any layer, any number of times.
  void End(LookupLayer& layer, bool ok);

  void AddTo(ClientStats& stats) const;

 private:
  Folder(bool dedup, const Geometry& geometry, std::unique_ptr<RowCache> cache);

  size_t FindCached(LookupLayer& layer);
  void Count(size_t layer_index);

  const bool dedup_;
  const Geometry& geometry_;
  const std::unique_ptr<RowCache> cache_;  // null: nothing is kept
  NgramColumns columns_;
  NgramDedup deduplicator_;
  // By the binary logarithm of a lookup's n-grams: decode steps repeat next to nothing.
  std::vector<Payoff> dedup_pays_;
  Payoff cache_pays_;
  NgramFold fold_;
  struct Search {
    uint32_t ngram;
    RowCache::Key key;
  };
  std::vector<Search> searches_;  // scratch
  std::vector<uint32_t> hits_;    // n-grams of the cache
  NgramCounters counters_;
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_FOLDER_H_
