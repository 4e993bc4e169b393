#include "proto/digest.h"

#include <cstring>
#include <string>

#define XXH_STATIC_LINKING_ONLY  // the state on the stack
#include <xxhash.h>
#ifdef __x86_64__
#include <xxh_x86dispatch.h>  // the widest vectors that the processor has: 2x on rows of 264 bytes
#endif

namespace engram {
namespace {

__extension__ typedef unsigned __int128 uint128;

bool AllZero(const uint8_t* bytes, size_t size) {
  // A zero first byte and every byte equal to its predecessor.
  return size == 0 || (bytes[0] == 0 && std::memcmp(bytes, bytes + 1, size - 1) == 0);
}

class Encoder {
 public:
  explicit Encoder(const char* title) : bytes_(title) {}
  // The integer's own bytes, which are little-endian on every machine we build for.
  template <typename T>
  void Put(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  void Put(const Sha256& hash) {
    bytes_.append(reinterpret_cast<const char*>(hash.data()), hash.size());
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

}  // namespace

RowSum::RowSum(uint64_t low, uint64_t high) : sum_((static_cast<uint128>(high) << 64) | low) {}

void RowSum::AddRow(uint32_t layer, uint64_t row, const uint8_t* bytes, size_t row_bytes) {
  if (AllZero(bytes, row_bytes)) return;
  uint8_t key[sizeof(layer) + sizeof(row)];
  std::memcpy(key, &layer, sizeof(layer));
  std::memcpy(key + sizeof(layer), &row, sizeof(row));
  constexpr size_t kInline = 1024;
  uint8_t buffer[sizeof(key) + kInline];
  XXH128_hash_t hash;
  if (row_bytes <= kInline) {
    // One call over joined bytes is several times quicker than the streaming interface.
    std::memcpy(buffer, key, sizeof(key));
    std::memcpy(buffer + sizeof(key), bytes, row_bytes);
    hash = XXH3_128bits(buffer, sizeof(key) + row_bytes);
  } else {
    XXH3_state_t state;
    XXH3_128bits_reset(&state);
    XXH3_128bits_update(&state, key, sizeof(key));
    XXH3_128bits_update(&state, bytes, row_bytes);
    hash = XXH3_128bits_digest(&state);
  }
  sum_ += (static_cast<uint128>(hash.high64) << 64) | hash.low64;
}

RowSum& RowSum::operator+=(const RowSum& other) {
  sum_ += other.sum_;
  return *this;
}

RowSum& RowSum::operator-=(const RowSum& other) {
  sum_ -= other.sum_;
  return *this;
}

Sha256 TableDigest(const Geometry& geometry, const RowLayout& layout,
                   const std::optional<Sha256>& token_map, const RowSum& sum) {
  const GeometryParams& params = geometry.params();
  Encoder out("engram-digest-1\n");
  out.Put(static_cast<uint32_t>(geometry.layers().size()));
  for (const LayerGeometry& layer : geometry.layers()) {
    out.Put(layer.layer_id);
    out.Put(layer.rows);
  }
  out.Put(params.max_ngram);
  out.Put(params.heads);
  out.Put(static_cast<uint32_t>(params.bucket_floors.size()));
  for (const uint64_t floor : params.bucket_floors) out.Put(floor);
  out.Put(params.seed);
  out.Put(params.compressed_vocab);
  out.Put(params.pad_token);
  if (params.rule != HashRule::kEngram || params.row_multiple != 1) {
    out.Put(static_cast<uint32_t>(params.rule));
    out.Put(params.row_multiple);
  }
  out.Put(static_cast<uint32_t>(layout.value_type));
  out.Put(layout.values);
  out.Put(static_cast<uint32_t>(layout.scale_type));
  out.Put(layout.scales);
  out.Put(static_cast<uint8_t>(token_map.has_value()));
  if (token_map.has_value()) out.Put(*token_map);
  out.Put(sum.low());
  out.Put(sum.high());
  return Sha256Of(out.bytes());
}

}  // namespace engram
