// The frame that our files put around their payload: 8 bytes of magic; u32 format version; u32
// CRC32C of the payload; u64 payload bytes; u32 CRC32C of the 24 bytes before; then the payload.
// All little-endian.
#ifndef ENGRAM_STORAGE_FILE_FRAME_H_
#define ENGRAM_STORAGE_FILE_FRAME_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace engram {

struct FileFormat {
  absl::string_view magic;  // 8 bytes
  uint32_t version;
  absl::string_view name;  // "a sidecar file", for messages
};

inline constexpr size_t kFrameBytes = 28;  // before the payload

std::string Frame(const FileFormat& format, absl::string_view payload);

// The payload of a frame at the front of `bytes`, which may have more behind it. InvalidArgument:
// not of this format, or of another version of it. DataLoss: cut off, or damaged. Messages name
// `path`.
absl::StatusOr<absl::string_view> Unframe(const FileFormat& format, absl::string_view bytes,
                                          const std::string& path);

// The same of bytes that have nothing behind it, else DataLoss.
absl::StatusOr<absl::string_view> UnframeWhole(const FileFormat& format, absl::string_view bytes,
                                               const std::string& path);

}  // namespace engram

#endif  // ENGRAM_STORAGE_FILE_FRAME_H_
