// The shape of a model's Engram tables, and everything that derives from it: bucket sizes (primes),
// column offsets, multipliers. Both sides of the wire derive the same from the same fields.
#ifndef ENGRAM_PROTO_GEOMETRY_H_
#define ENGRAM_PROTO_GEOMETRY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace engram {

// Bounds on what a configuration may ask for. The real models stand far below them
// (layer 14, orders 2..4, 8 heads, floor 16,000,000).
inline constexpr uint32_t kMaxLayers = 256;
inline constexpr uint32_t kMaxLayerId = 65535;
inline constexpr uint32_t kMaxNgram = 8;
inline constexpr uint32_t kMaxHeads = 64;
// Columns of all layers together (V4.1-Flash: 48). Each costs the search for a prime, 10 us at the
// highest floor, so that nobody's typo, and no peer, holds up who derives a geometry.
inline constexpr uint32_t kMaxColumns = 16384;
inline constexpr uint64_t kMaxBucketFloor = uint64_t{1} << 40;
inline constexpr uint32_t kMaxVocab = uint32_t{1} << 26;
inline constexpr uint64_t kMaxRowMultiple = uint64_t{1} << 20;
// Beyond 2^62, adding 10007 * layer id could wrap.
inline constexpr uint64_t kMaxSeed = uint64_t{1} << 62;

// How a model hashes. Both multiply and xor the last ids, and take the result modulo each column's
// prime; they differ in where multipliers come from and in what a look-back may cross.
enum class HashRule : uint32_t {
  // DeepSeek's Engram: multipliers from numpy's generator, seeded per layer id.
  kEngram = 0,
  // Qwen4-Exp's per-layer embedding (PLE; transformers, models/qwen4_exp): multipliers from
  // SplitMix64, seeded per place in the list of layers; token ids are hashed as they are;
  // `pad_token` is the end-of-sequence token, and no look-back crosses one.
  kPle = 1,
};

// The fields a model states. Layers are named by their id in the model (1 and 14 in V4.1-Flash).
struct GeometryParams {
  std::vector<uint32_t> layer_ids;      // in the model's order, each once
  uint32_t max_ngram = 0;               // longest n-gram; orders are 2 .. max_ngram
  uint32_t heads = 0;                   // hash heads per order
  std::vector<uint64_t> bucket_floors;  // one per order: bucket sizes are primes >= the floor
  uint64_t seed = 0;
  uint32_t compressed_vocab = 0;  // compressed ids are 0 .. compressed_vocab - 1
  uint32_t pad_token = 0;         // token id (not compressed) that stands before the start
  HashRule rule = HashRule::kEngram;
  uint64_t row_multiple = 1;  // a layer's rows are rounded up to a multiple of it: PLE pads tables

  uint32_t orders() const { return max_ngram - 1; }
  uint32_t columns() const { return orders() * heads; }  // rows looked up per token and layer

  // InvalidArgument naming the parameter: empty or repeated layers, an n-gram below 2, zero heads,
  // a number of floors that is not the number of orders, or anything beyond the bounds above.
  absl::Status Validate() const;

  bool operator==(const GeometryParams&) const = default;
};

// One hash column: a (order, head) pair of a layer. Its rows are [offset, offset + prime).
struct HashColumn {
  uint64_t prime = 0;
  uint64_t offset = 0;
};

struct LayerGeometry {
  uint32_t layer_id = 0;
  std::vector<HashColumn> columns;   // order-major, head-minor
  std::vector<int64_t> multipliers;  // max_ngram of them, multiplier k for look-back k
  uint64_t rows = 0;                 // the sum of the primes, rounded up to row_multiple
};

class Geometry {
 public:
  // Derives primes, offsets and multipliers. InvalidArgument as GeometryParams::Validate, or when
  // `expected_rows` (the checkpoint's `engram_num_embeddings`, one per layer; nullopt to skip) is
  // not what the primes add up to: the checkpoint was then built by another rule.
  static absl::StatusOr<Geometry> Derive(
      const GeometryParams& params,
      const std::optional<std::vector<uint64_t>>& expected_rows = std::nullopt);

  const GeometryParams& params() const { return params_; }
  const std::vector<LayerGeometry>& layers() const { return layers_; }  // as in layer_ids
  uint32_t columns() const { return params_.columns(); }
  uint64_t total_rows() const;

  // The index of `layer_id` in layers(). NotFound naming the layers there are.
  absl::StatusOr<size_t> LayerIndex(uint32_t layer_id) const;

 private:
  GeometryParams params_;
  std::vector<LayerGeometry> layers_;
};

}  // namespace engram

#endif  // ENGRAM_PROTO_GEOMETRY_H_
