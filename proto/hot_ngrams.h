// The n-grams that text asks for most: what a client's cache starts with.
#ifndef ENGRAM_PROTO_HOT_NGRAMS_H_
#define ENGRAM_PROTO_HOT_NGRAMS_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/geometry.h"
#include "proto/sha256.h"
#include "proto/token_trace.h"

namespace engram {

// Whole n-grams alone: none that begins before its sequence.
struct HotNgrams {
  struct Ngram {
    uint32_t count = 0;                     // in how many windows it was seen
    uint32_t size = 0;                      // 2 .. kMaxNgram tokens
    std::array<uint32_t, kMaxNgram> ids{};  // compressed ids, the oldest first; then zeros
    bool operator==(const Ngram&) const = default;
  };
  Sha256 token_map{};         // that gave the compressed ids
  std::vector<Ngram> ngrams;  // the most frequent first

  bool operator==(const HotNgrams&) const = default;
};

// Tokens of a window, where lookups are prefill chunks: what one repeats it fetches once anyway.
inline constexpr size_t kHotNgramWindow = 8192;

// Of the n-grams of orders 2 .. max_ngram in sequences of compressed ids, the `most` that occur in
// most windows of `window` tokens of the sequences put together. Of those
// as frequent, the ones that occur more often within windows come first, then the shorter, then by
// their ids.
std::vector<HotNgrams::Ngram> CountNgrams(const TokenTrace& compressed, uint32_t max_ngram,
                                          size_t most, size_t window = kHotNgramWindow);

// A file of them, little-endian:
//   8 bytes "ENGRHOT1", 32 token map, u64 n-grams, u32 CRC32C of all that,
//   of each n-gram u32 count, u32 size, u32 ids[size]; u32 CRC32C of the n-grams
absl::Status WriteHotNgrams(const std::string& path, const HotNgrams& hot);
// InvalidArgument naming the file: no such file's form, a size out of bounds. DataLoss: a checksum
// that does not fit. Else as ReadFile.
absl::StatusOr<HotNgrams> ReadHotNgrams(const std::string& path);

}  // namespace engram

#endif  // ENGRAM_PROTO_HOT_NGRAMS_H_
