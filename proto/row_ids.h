// Token ids -> row ids: the n-gram hash of every position, for every layer.
#ifndef ENGRAM_PROTO_ROW_IDS_H_
#define ENGRAM_PROTO_ROW_IDS_H_

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/geometry.h"
#include "proto/token_map.h"

namespace engram {

// A row id in the C++ and Python interfaces: global within its layer; kNoRow asks for no row and
// gives zeros.
inline constexpr int64_t kNoRow = -1;

// What a request's next chunk needs to know of the positions before it. A fresh one stands at the
// start of a sequence. Copyable; a copy is an independent branch (speculative drafts).
struct LookBack {
  // How many positions directly before the next one may be looked back at: 0 at the start, after a
  // dead position and (PLE) after the end of a sequence, at most kMaxNgram.
  uint32_t depth = 0;
  // Compressed ids of those positions, the newest first.
  std::array<uint32_t, kMaxNgram - 1> ids{};

  bool operator==(const LookBack&) const = default;
};

// Hashes chunks of a sequence. Immutable after construction: any number of threads may use it.
class RowHasher {
 public:
  // Borrows nothing. `pad` is the compressed id of the pad token, which stands for a look-back
  // before the start of the sequence or beyond a dead position.
  // InvalidArgument when it is not below the geometry's compressed vocabulary.
  static absl::StatusOr<RowHasher> Create(const Geometry& geometry, uint32_t compressed_pad);

  uint32_t columns() const { return columns_; }
  size_t layers() const { return layers_.size(); }

  // Row ids of one chunk for the layer at `layer_index` (its place in Geometry::layers()).
  //   compressed  [T] compressed ids; each must be below the geometry's compressed vocabulary
  //               (TokenMap gives no others)
  //   dead        [T], or empty for none: nonzero where the position must not be hashed as itself.
  //               Its own row ids, and the look-backs of later positions that reach it or beyond,
  //               use pad
  //   before      the look-back state at the chunk's start
  //   rows        [T, columns], row-major, columns in (order, head) order
  // Hashing a sequence in chunks, with Advance between them, equals hashing it whole. Where the
  // geometry's rule is kPle a pad (end-of-sequence) token is hashed as itself, and ends what later
  // positions may look back at.
  void HashChunk(size_t layer_index, std::span<const uint32_t> compressed,
                 std::span<const uint8_t> dead, const LookBack& before,
                 std::span<int64_t> rows) const;

  // Moves `state` past a chunk.
  void Advance(std::span<const uint32_t> compressed, std::span<const uint8_t> dead,
               LookBack& state) const;

 private:
  struct Column {
    uint64_t prime;
    uint64_t offset;
    uint64_t reciprocal;  // floor(2^(64 + shift) / prime)
    uint32_t shift;       // floor(log2(prime))
  };
  struct Layer {
    std::vector<uint64_t> multipliers;
    std::vector<Column> columns;
  };

  static uint64_t Modulo(uint64_t value, const Column& column);

  uint32_t orders_ = 0;
  uint32_t heads_ = 0;
  uint32_t columns_ = 0;
  uint32_t pad_ = 0;
  bool pad_ends_sequence_ = false;  // HashRule::kPle
  std::vector<Layer> layers_;
};

}  // namespace engram

#endif  // ENGRAM_PROTO_ROW_IDS_H_
