#include "proto/sha256.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace engram {

Sha256 Sha256Of(absl::string_view bytes) {
  Sha256 hash;
  // Fails only when OpenSSL has no SHA-256 or no memory: nothing could be trusted after that.
  if (EVP_Digest(bytes.data(), bytes.size(), hash.data(), nullptr, EVP_sha256(), nullptr) != 1) {
    std::abort();
  }
  return hash;
}

std::string ToHex(const Sha256& hash) {
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(hash.data()), hash.size()));
}

absl::StatusOr<Sha256> Sha256FromHex(absl::string_view hex) {
  if (hex.size() != 2 * Sha256{}.size() || !std::all_of(hex.begin(), hex.end(), [](char c) {
        return absl::ascii_isxdigit(static_cast<unsigned char>(c));
      })) {
    return absl::InvalidArgumentError(
        absl::StrCat("digest `", hex.substr(0, 80), "` is not 64 hex digits"));
  }
  return Sha256FromBytes(absl::HexStringToBytes(hex));
}

absl::StatusOr<Sha256> Sha256FromBytes(absl::string_view bytes) {
  Sha256 hash;
  if (bytes.size() != hash.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a SHA-256 has ", hash.size(), " bytes, not ", bytes.size()));
  }
  std::copy(bytes.begin(), bytes.end(), hash.begin());
  return hash;
}

}  // namespace engram
