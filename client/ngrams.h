// The unit in which rows repeat. All heads of an order hash the same n-gram, so that its rows are
// asked for together or not at all: what was found of one n-gram holds for all of its rows.
#ifndef ENGRAM_CLIENT_NGRAMS_H_
#define ENGRAM_CLIENT_NGRAMS_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "client/step.h"

namespace engram {

// The columns of a lookup's tokens, cut into n-grams. N-gram u of a lookup is part u % parts() of
// token u / parts(); its positions are [First(u), First(u) + Size(u)). Immutable.
class NgramColumns {
 public:
  // Of a range that begins or ends within an order, the n-gram is what the range has of its heads.
  NgramColumns(uint32_t heads, ColumnRange columns);

  const ColumnRange& range() const { return range_; }
  uint32_t columns() const { return range_.count(); }
  // N-grams a token.
  uint32_t parts() const { return static_cast<uint32_t>(begin_.size()) - 1; }
  // Of a part, which may be any n-gram's number modulo parts().
  uint32_t begin(uint32_t part) const { return begin_[part]; }
  uint32_t size(uint32_t part) const { return begin_[part + 1] - begin_[part]; }
  // Its order's place among the model's: 0 is the shortest n-gram.
  uint32_t order(uint32_t part) const { return first_order_ + part; }
  uint32_t max_size() const;

  uint32_t First(uint32_t ngram) const {
    return ngram / parts() * columns() + begin_[ngram % parts()];
  }
  uint32_t Size(uint32_t ngram) const { return size(ngram % parts()); }

  bool operator==(const NgramColumns&) const = default;

 private:
  ColumnRange range_;
  uint32_t first_order_;
  std::vector<uint32_t> begin_;  // of each part, and the end of the last
};

// Whether none of an n-gram's ids is "no row".
inline bool IsWhole(std::span<const int64_t> ids) {
  int64_t any = 0;
  for (const int64_t id : ids) any |= id;
  return any >= 0;
}

// What tables of n-grams hash: the first and the last head's id. That two are the same is for all
// of their ids to say.
inline uint64_t EndsOf(std::span<const int64_t> ids) {
  return static_cast<uint64_t>(ids.front()) ^ std::rotl(static_cast<uint64_t>(ids.back()), 32);
}

// Where the rows of each n-gram of a lookup's layer come from. Reuse one object: vectors keep their
// capacity.
struct NgramFold {
  enum class Source : uint8_t {
    kFetch,      // from servers
    kDuplicate,  // from an earlier n-gram of the lookup with the same row ids
    kCached,     // from the client's cache
  };
  static constexpr uint32_t kNoSlot = UINT32_MAX;

  std::vector<Source> source;  // [n-grams]
  // [n-grams] From one that is no duplicate, one after the other, to all that repeat it; 0: the
  // end.
  std::vector<uint32_t> next;
  // [n-grams] The cache's slot that has its rows (kCached), or takes them when they have come
  // (kFetch); kNoSlot: none.
  std::vector<uint32_t> slot;

  // Everything is fetched.
  void Reset(size_t ngrams);
};

// Finds n-grams whose row ids are all the same: exact, whatever gave the ids. Not thread-safe.
class NgramDedup {
 public:
  // Marks duplicates in `fold`, which holds as many n-grams as `ids` [tokens, columns] have, and
  // links them. N-grams with a negative id (no row) are left alone. How many duplicates there are.
  size_t Run(std::span<const int64_t> ids, const NgramColumns& columns, NgramFold& fold);

 private:
  // Open addressing; what earlier batches left is told by its generation.
  //   bits 48..63 generation, 32..47 hash, 0..31 n-gram
  std::vector<uint64_t> table_;
  uint32_t generation_ = 0;
};

// Whether it pays to look for something. Where it was hardly ever found, only every 16th try is
// made, so that it is noticed when that changes; while it does not, every 32nd, and so on to every
// 128th. Pure; not thread-safe.
class Payoff {
 public:
  // Worth a look while at least `worthwhile` of what is looked up is found.
  explicit Payoff(double worthwhile) : worthwhile_(worthwhile) {}

  bool Try();
  // Of `tried` things so many were found. `weight`, up to 1: of this against all before.
  void Learn(size_t tried, size_t found, double weight);

 private:
  static constexpr uint32_t kFirst = 16, kMost = 128;

  double worthwhile_;
  double share_ = 1;
  uint32_t every_ = kFirst;
  uint32_t skipped_ = 0;
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_NGRAMS_H_
