// The token map (tokenizer compression): token id -> compressed id. Tokens that normalize alike
// share a compressed id. It is built where the tokenizer is (storage/tokenizer.h) and travels to
// clients as data, so that hashing needs no Unicode tables.
#ifndef ENGRAM_PROTO_TOKEN_MAP_H_
#define ENGRAM_PROTO_TOKEN_MAP_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/sha256.h"

namespace engram {

class TokenMap {
 public:
  // compressed[i] is the compressed id of token i. InvalidArgument: empty, more than kMaxVocab
  // tokens, or compressed ids that do not open in order (the first use of id k must come after
  // that of k - 1: every map that the rule can give has that form, so anything else is damage).
  static absl::StatusOr<TokenMap> Create(std::vector<uint32_t> compressed);

  // Little-endian u32 per token id, as `engramctl token-map` writes it and Describe sends it.
  static absl::StatusOr<TokenMap> Parse(absl::string_view little_endian_u32);
  std::string Serialize() const;

  uint32_t tokens() const { return static_cast<uint32_t>(compressed_.size()); }
  uint32_t compressed_count() const { return compressed_count_; }
  // SHA-256 of Serialize().
  const Sha256& sha256() const { return sha256_; }
  std::span<const uint32_t> compressed() const { return compressed_; }

  // The compressed id of `token`. InvalidArgument when the map has no such token.
  absl::StatusOr<uint32_t> Compress(uint32_t token) const;

 private:
  std::vector<uint32_t> compressed_;
  uint32_t compressed_count_ = 0;
  Sha256 sha256_{};
};

}  // namespace engram

#endif  // ENGRAM_PROTO_TOKEN_MAP_H_
