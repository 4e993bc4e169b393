#include "proto/token_map.h"

#include <bit>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "proto/geometry.h"
#include "proto/sha256.h"

namespace engram {

static_assert(std::endian::native == std::endian::little,
              "wire and file formats are little-endian");

absl::StatusOr<TokenMap> TokenMap::Create(std::vector<uint32_t> compressed) {
  if (compressed.empty() || compressed.size() > kMaxVocab) {
    return absl::InvalidArgumentError(
        absl::StrCat("token map has ", compressed.size(), " tokens, expected 1 to ", kMaxVocab));
  }
  TokenMap map;
  for (size_t token = 0; token < compressed.size(); ++token) {
    if (compressed[token] > map.compressed_count_) {
      return absl::InvalidArgumentError(absl::StrCat("token map: token ", token,
                                                     " has compressed id ", compressed[token],
                                                     ", expected at most ", map.compressed_count_));
    }
    if (compressed[token] == map.compressed_count_) ++map.compressed_count_;
  }
  map.compressed_ = std::move(compressed);
  map.sha256_ = Sha256Of(map.Serialize());
  return map;
}

absl::StatusOr<TokenMap> TokenMap::Parse(absl::string_view bytes) {
  if (bytes.size() % sizeof(uint32_t) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("token map has ", bytes.size(), " bytes, not a multiple of 4"));
  }
  std::vector<uint32_t> compressed(bytes.size() / sizeof(uint32_t));
  if (!bytes.empty()) std::memcpy(compressed.data(), bytes.data(), bytes.size());
  return Create(std::move(compressed));
}

std::string TokenMap::Serialize() const {
  return std::string(reinterpret_cast<const char*>(compressed_.data()),
                     compressed_.size() * sizeof(uint32_t));
}

absl::StatusOr<uint32_t> TokenMap::Compress(uint32_t token) const {
  if (token >= compressed_.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "token id ", token, " is beyond the token map of ", compressed_.size(), " tokens"));
  }
  return compressed_[token];
}

}  // namespace engram
