#include "storage/file_frame.h"

#include "absl/strings/str_cat.h"
#include "proto/base/bytes.h"
#include "proto/base/status_macros.h"
#include "proto/crc32c.h"

namespace engram {
namespace {

template <typename T>
T Load(const char* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

}  // namespace

std::string Frame(const FileFormat& format, absl::string_view payload) {
  std::string bytes(format.magic);
  AppendBytes(bytes, format.version);
  AppendBytes(bytes, Crc32c(payload.data(), payload.size()));
  AppendBytes(bytes, uint64_t{payload.size()});
  AppendBytes(bytes, Crc32c(bytes.data(), bytes.size()));
  bytes.append(payload.data(), payload.size());
  return bytes;
}

absl::StatusOr<absl::string_view> Unframe(const FileFormat& format, absl::string_view bytes,
                                          const std::string& path) {
  if (bytes.substr(0, format.magic.size()) != format.magic) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is not ", format.name));
  }
  if (bytes.size() < kFrameBytes) {
    return absl::DataLossError(absl::StrCat(path, " is cut off within its header"));
  }
  if (Load<uint32_t>(bytes.data() + 24) != Crc32c(bytes.data(), 24)) {
    return absl::DataLossError(absl::StrCat(path, ": the header's checksum is wrong"));
  }
  const auto version = Load<uint32_t>(bytes.data() + 8);
  if (version != format.version) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, " has format version ", version, "; this program reads version ", format.version));
  }
  const absl::string_view behind = bytes.substr(kFrameBytes);
  const auto size = Load<uint64_t>(bytes.data() + 16);
  if (behind.size() < size) {
    return absl::DataLossError(
        absl::StrCat(path, " has ", behind.size(), " bytes of payload, not ", size));
  }
  const absl::string_view payload = behind.substr(0, size);
  if (Load<uint32_t>(bytes.data() + 12) != Crc32c(payload.data(), payload.size())) {
    return absl::DataLossError(absl::StrCat(path, ": the payload's checksum is wrong"));
  }
  return payload;
}

absl::StatusOr<absl::string_view> UnframeWhole(const FileFormat& format, absl::string_view bytes,
                                               const std::string& path) {
  ASSIGN_OR_RETURN(const absl::string_view payload, Unframe(format, bytes, path));
  if (payload.size() != bytes.size() - kFrameBytes) {
    return absl::DataLossError(absl::StrCat(path, " has ", bytes.size() - kFrameBytes,
                                            " bytes of payload, not ", payload.size()));
  }
  return payload;
}

}  // namespace engram
