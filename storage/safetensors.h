// The header of a safetensors file: u64 little-endian header length, that many bytes of JSON
// (name -> dtype, shape, data_offsets; `__metadata__` apart), raw little-endian data.
#ifndef ENGRAM_STORAGE_SAFETENSORS_H_
#define ENGRAM_STORAGE_SAFETENSORS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "storage/file_stamp.h"

namespace engram {

// The format's own bound on the JSON header.
inline constexpr uint64_t kMaxSafetensorsHeader = 100'000'000;

struct SafetensorsTensor {
  std::string dtype;  // as the header spells it: "F8_E4M3"
  std::vector<uint64_t> shape;
  uint64_t file_offset = 0;  // of the first byte, from the start of the file
  uint64_t bytes = 0;
};

struct SafetensorsFile {
  std::string path;
  FileStamp stamp;  // when the header was read
  std::map<std::string, SafetensorsTensor> tensors;
};

// Reads and checks the header; the data is not touched. The tensors returned lie within the file,
// cover all of it after the header but for gaps that align a tensor (to a power of two of at most
// 4096 bytes), and do not overlap; each has the bytes that its shape and dtype ask for, where the
// dtype is a known one.
// InvalidArgument, naming file and tensor: everything else, a truncated file among it.
// NotFound / PermissionDenied / ... as the system says.
absl::StatusOr<SafetensorsFile> ReadSafetensorsHeader(const std::string& path);

// Bits of one element of a safetensors dtype; 0 for a dtype that is not known here.
uint64_t SafetensorsDtypeBits(absl::string_view dtype);

}  // namespace engram

#endif  // ENGRAM_STORAGE_SAFETENSORS_H_
