#include "proto/geometry.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "proto/base/status_macros.h"
#include "proto/numpy_random.h"
#include "proto/primes.h"

namespace engram {
namespace {

absl::Status OutOfBounds(absl::string_view name, uint64_t value, uint64_t min, uint64_t max) {
  return absl::InvalidArgumentError(
      absl::StrCat("geometry: ", name, " is ", value, ", expected ", min, " to ", max));
}

// Multiplier k is 2 r + 1 with r below `high`, chosen so that id times multiplier stays below 2^63.
uint64_t MultiplierBound(const GeometryParams& params) {
  constexpr uint64_t kInt64Max = (uint64_t{1} << 63) - 1;
  return std::max<uint64_t>(1, kInt64Max / params.compressed_vocab / 2);
}

constexpr uint64_t kSeedStride = 10007;

// `numpy.random.default_rng(seed + 10007 * layer_id).integers(0, high, size=n)`.
std::vector<int64_t> EngramMultipliers(const GeometryParams& params, uint32_t layer_id) {
  const uint64_t high = MultiplierBound(params);
  NumpyRandom random(params.seed + kSeedStride * layer_id);
  std::vector<int64_t> multipliers(params.max_ngram);
  for (int64_t& multiplier : multipliers) {
    multiplier = static_cast<int64_t>(2 * random.Below(high) + 1);
  }
  return multipliers;
}

// SplitMix64's step from `state` (Steele, Lea and Flood 2014).
uint64_t SplitMix64(uint64_t state) {
  uint64_t x = state + 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

// `place` is the layer's in the list of layers, from 0.
std::vector<int64_t> PleMultipliers(const GeometryParams& params, size_t place) {
  const uint64_t high = MultiplierBound(params);
  std::vector<int64_t> multipliers;
  uint64_t state = params.seed + kSeedStride * place;
  for (uint32_t k = 0; k < params.max_ngram; ++k) {
    state += 0x9E3779B97F4A7C15;
    multipliers.push_back(static_cast<int64_t>(2 * (SplitMix64(state) % high) + 1));
  }
  return multipliers;
}

// One ascending walk over the primes; each is taken once in the whole model.
class PrimeWalk {
 public:
  // The smallest prime from `floor` on that is not taken yet; takes it.
  uint64_t Take(uint64_t floor) {
    // Whatever lies between a floor and the last prime taken from it is taken: primes are never
    // given back.
    uint64_t& last = last_from_.try_emplace(floor, floor - 1).first->second;
    do {
      last = After(last);
    } while (!taken_.insert(last).second);
    return last;
  }

 private:
  // NextPrime, which is dear: walks from floors that lie close together cross the same primes.
  uint64_t After(uint64_t n) {
    const auto [next, is_new] = next_.try_emplace(n, 0);
    if (is_new) next->second = NextPrime(n);
    return next->second;
  }

  std::unordered_map<uint64_t, uint64_t> next_;
  std::unordered_set<uint64_t> taken_;
  std::unordered_map<uint64_t, uint64_t> last_from_;
};

uint64_t RoundUp(uint64_t value, uint64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

absl::Status GeometryParams::Validate() const {
  if (layer_ids.empty() || layer_ids.size() > kMaxLayers) {
    return OutOfBounds("number of layers", layer_ids.size(), 1, kMaxLayers);
  }
  std::unordered_set<uint32_t> seen;
  for (const uint32_t id : layer_ids) {
    if (id > kMaxLayerId) return OutOfBounds("layer id", id, 0, kMaxLayerId);
    if (!seen.insert(id).second) {
      return absl::InvalidArgumentError(absl::StrCat("geometry: layer ", id, " is listed twice"));
    }
  }
  if (max_ngram < 2 || max_ngram > kMaxNgram) {
    return OutOfBounds("longest n-gram", max_ngram, 2, kMaxNgram);
  }
  if (heads < 1 || heads > kMaxHeads) return OutOfBounds("heads per order", heads, 1, kMaxHeads);
  if (bucket_floors.size() != orders()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "geometry: ", bucket_floors.size(), " bucket floors for ", orders(), " n-gram orders"));
  }
  if (layer_ids.size() * columns() > kMaxColumns) {
    return absl::InvalidArgumentError(
        absl::StrCat("geometry: ", layer_ids.size(), " layers of ", columns(), " columns (",
                     orders(), " n-gram orders of ", heads, " heads) are ",
                     layer_ids.size() * columns(), " columns, expected at most ", kMaxColumns));
  }
  for (const uint64_t floor : bucket_floors) {
    if (floor < 1 || floor > kMaxBucketFloor) {
      return OutOfBounds("bucket floor", floor, 1, kMaxBucketFloor);
    }
  }
  if (compressed_vocab < 1 || compressed_vocab > kMaxVocab) {
    return OutOfBounds("compressed vocabulary", compressed_vocab, 1, kMaxVocab);
  }
  if (pad_token >= kMaxVocab) return OutOfBounds("pad token", pad_token, 0, kMaxVocab - 1);
  if (seed > kMaxSeed) return OutOfBounds("seed", seed, 0, kMaxSeed);
  if (row_multiple < 1 || row_multiple > kMaxRowMultiple) {
    return OutOfBounds("row multiple", row_multiple, 1, kMaxRowMultiple);
  }
  if (rule != HashRule::kEngram && rule != HashRule::kPle) {
    return absl::InvalidArgumentError(
        absl::StrCat("geometry: hash rule ", static_cast<uint32_t>(rule), " is not known here"));
  }
  return absl::OkStatus();
}

absl::StatusOr<Geometry> Geometry::Derive(
    const GeometryParams& params, const std::optional<std::vector<uint64_t>>& expected_rows) {
  RETURN_IF_ERROR(params.Validate());
  Geometry geometry;
  geometry.params_ = params;
  PrimeWalk walk;
  for (const uint32_t layer_id : params.layer_ids) {
    LayerGeometry layer;
    layer.layer_id = layer_id;
    layer.multipliers = params.rule == HashRule::kPle
                            ? PleMultipliers(params, geometry.layers_.size())
                            : EngramMultipliers(params, layer_id);
    for (const uint64_t floor : params.bucket_floors) {
      for (uint32_t head = 0; head < params.heads; ++head) {
        const uint64_t prime = walk.Take(floor);
        layer.columns.push_back({prime, layer.rows});
        layer.rows += prime;
      }
    }
    layer.rows = RoundUp(layer.rows, params.row_multiple);
    geometry.layers_.push_back(std::move(layer));
  }
  if (expected_rows.has_value()) {
    std::vector<uint64_t> rows;
    for (const LayerGeometry& layer : geometry.layers_) rows.push_back(layer.rows);
    if (rows != *expected_rows) {
      return absl::InvalidArgumentError(
          absl::StrCat("geometry: the bucket sizes add up to [", absl::StrJoin(rows, ", "),
                       "] rows per layer, but the checkpoint states [",
                       absl::StrJoin(*expected_rows, ", "), "]"));
    }
  }
  return geometry;
}

uint64_t Geometry::total_rows() const {
  uint64_t total = 0;
  for (const LayerGeometry& layer : layers_) total += layer.rows;
  return total;
}

absl::StatusOr<size_t> Geometry::LayerIndex(uint32_t layer_id) const {
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (layers_[i].layer_id == layer_id) return i;
  }
  return absl::NotFoundError(absl::StrCat(
      "layer ", layer_id,
      " has no Engram table; layers with one: ", absl::StrJoin(params_.layer_ids, ", ")));
}

}  // namespace engram
