#include "proto/geometry.h"

#include <algorithm>
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

// `numpy.random.default_rng(seed + 10007 * layer_id).integers(0, high, size=n)`, each 2 r + 1, with
// high chosen so that compressed id times multiplier stays below 2^63.
std::vector<int64_t> DeriveMultipliers(const GeometryParams& params, uint32_t layer_id) {
  constexpr uint64_t kSeedStride = 10007;
  const uint64_t int64_max = (uint64_t{1} << 63) - 1;
  const uint64_t high = std::max<uint64_t>(1, int64_max / params.compressed_vocab / 2);
  NumpyRandom random(params.seed + kSeedStride * layer_id);
  std::vector<int64_t> multipliers(params.max_ngram);
  for (int64_t& multiplier : multipliers) {
    multiplier = static_cast<int64_t>(2 * random.Below(high) + 1);
  }
  return multipliers;
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
  for (const uint64_t floor : bucket_floors) {
    if (floor < 1 || floor > kMaxBucketFloor) {
      return OutOfBounds("bucket floor", floor, 1, kMaxBucketFloor);
    }
  }
  if (compressed_vocab < 1 || compressed_vocab > kMaxVocab) {
    return OutOfBounds("compressed vocabulary", compressed_vocab, 1, kMaxVocab);
  }
  if (pad_token >= kMaxVocab) return OutOfBounds("pad token", pad_token, 0, kMaxVocab - 1);
  return absl::OkStatus();
}

absl::StatusOr<Geometry> Geometry::Derive(
    const GeometryParams& params, const std::optional<std::vector<uint64_t>>& expected_rows) {
  RETURN_IF_ERROR(params.Validate());
  Geometry geometry;
  geometry.params_ = params;
  // One ascending walk; a prime is taken once in the whole model.
  std::unordered_set<uint64_t> taken;
  for (const uint32_t layer_id : params.layer_ids) {
    LayerGeometry layer;
    layer.layer_id = layer_id;
    layer.multipliers = DeriveMultipliers(params, layer_id);
    for (const uint64_t floor : params.bucket_floors) {
      uint64_t prime = floor - 1;
      for (uint32_t head = 0; head < params.heads; ++head) {
        do {
          prime = NextPrime(prime);
        } while (!taken.insert(prime).second);
        layer.columns.push_back({prime, layer.rows});
        layer.rows += prime;
      }
    }
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
