#include "storage/safetensors.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "proto/base/file.h"
#include "proto/base/json.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

using nlohmann::json;

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxUint64 = std::numeric_limits<uint64_t>::max();

struct DtypeBits {
  absl::string_view name;
  uint64_t bits;
};
constexpr DtypeBits kDtypes[] = {
    {"BOOL", 8},    {"U8", 8},          {"I8", 8},          {"F8_E4M3", 8}, {"F8_E5M2", 8},
    {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"F4", 4},      {"F6_E2M3", 6},
    {"F6_E3M2", 6}, {"I16", 16},        {"U16", 16},        {"F16", 16},    {"BF16", 16},
    {"I32", 32},    {"U32", 32},        {"F32", 32},        {"C64", 64},    {"I64", 64},
    {"U64", 64},    {"F64", 64},
};

absl::Status Malformed(const std::string& path, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", what));
}

// Reads exactly `size` bytes at `offset`, which must lie within the file.
absl::Status ReadExactly(int fd, const std::string& path, uint64_t offset, uint64_t size,
                         char* out) {
  uint64_t done = 0;
  while (done < size) {
    const ssize_t got = pread(fd, out + done, size - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return SystemError(errno, absl::StrCat("cannot read ", path));
    if (got == 0) return Malformed(path, "the file shrank while it was read");
    done += static_cast<uint64_t>(got);
  }
  return absl::OkStatus();
}

// The JSON text of the header. Sets `stamp`.
absl::StatusOr<std::string> ReadHeaderText(const std::string& path, FileStamp& stamp) {
  // O_NONBLOCK: a pipe is refused below, not waited for.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return SystemError(errno, absl::StrCat("cannot open ", path));
  const auto close_fd = absl::MakeCleanup([fd] { close(fd); });
  ASSIGN_OR_RETURN(stamp, StampOf(fd, path));
  const uint64_t file_size = stamp.size;
  if (file_size < kLengthBytes) {
    return Malformed(path, absl::StrCat("the file has ", file_size,
                                        " bytes, too few for a safetensors header length"));
  }
  unsigned char bytes[kLengthBytes];
  RETURN_IF_ERROR(ReadExactly(fd, path, 0, kLengthBytes, reinterpret_cast<char*>(bytes)));
  uint64_t length = 0;
  for (size_t i = kLengthBytes; i-- > 0;) length = length << 8 | bytes[i];
  if (length > kMaxSafetensorsHeader) {
    return Malformed(path, absl::StrCat("the header states a length of ", length,
                                        " bytes; the format allows ", kMaxSafetensorsHeader));
  }
  if (length > file_size - kLengthBytes) {
    return Malformed(
        path, absl::StrCat("the header states a length of ", length,
                           " bytes, beyond the file's end (", file_size, " bytes): truncated"));
  }
  std::string text(length, '\0');
  RETURN_IF_ERROR(ReadExactly(fd, path, kLengthBytes, length, text.data()));
  return text;
}

// Unlike JsonFields::UintList, an empty list (a scalar's shape) is well formed.
absl::StatusOr<std::vector<uint64_t>> ReadShape(const JsonFields& fields) {
  if (fields.Has("shape")) {
    const json& shape = fields.object()["shape"];
    if (shape.is_array() && shape.empty()) return std::vector<uint64_t>{};
  }
  return fields.UintList("shape", 0, kMaxUint64, 64);
}

// Checks that the shape asks for exactly the bytes there are.
absl::Status CheckBytes(const JsonFields& fields, const SafetensorsTensor& tensor) {
  uint64_t elements = 1;
  for (const uint64_t extent : tensor.shape) {
    if (__builtin_mul_overflow(elements, extent, &elements)) {
      return fields.Complain(
          "shape", absl::StrCat("[", absl::StrJoin(tensor.shape, ", "), "] overflows 64 bits"));
    }
  }
  const uint64_t bits_each = SafetensorsDtypeBits(tensor.dtype);
  if (bits_each == 0) return absl::OkStatus();  // A newer dtype of a tensor that is not ours.
  uint64_t bits = 0;
  if (__builtin_mul_overflow(elements, bits_each, &bits)) {
    return fields.Complain("shape", absl::StrCat("[", absl::StrJoin(tensor.shape, ", "), "] of ",
                                                 tensor.dtype, " overflows 64 bits"));
  }
  if (bits % 8 != 0 || bits / 8 != tensor.bytes) {
    return fields.Complain(
        "data_offsets", absl::StrCat("spans ", tensor.bytes, " bytes, but shape [",
                                     absl::StrJoin(tensor.shape, ", "), "] of ", tensor.dtype,
                                     " takes ", bits / 8, bits % 8 != 0 ? " and a fraction" : ""));
  }
  return absl::OkStatus();
}

// One tensor's entry. `data` is the file offset where the data starts.
absl::StatusOr<SafetensorsTensor> ReadTensor(const JsonFields& fields, uint64_t data,
                                             uint64_t file_size) {
  SafetensorsTensor tensor;
  ASSIGN_OR_RETURN(tensor.dtype, fields.String("dtype"));
  ASSIGN_OR_RETURN(tensor.shape, ReadShape(fields));
  ASSIGN_OR_RETURN(const auto offsets, fields.UintList("data_offsets", 0, kMaxUint64, 2));
  if (offsets.size() != 2) return fields.Complain("data_offsets", "has 1 element, expected 2");
  const uint64_t begin = offsets[0];
  const uint64_t end = offsets[1];
  if (begin > end) {
    return fields.Complain("data_offsets",
                           absl::StrCat("begins at ", begin, ", after its end ", end));
  }
  if (end > file_size - data) {
    return fields.Complain(
        "data_offsets", absl::StrCat("ends at ", end, ", but the file has only ", file_size - data,
                                     " bytes of data: truncated"));
  }
  tensor.file_offset = data + begin;
  tensor.bytes = end - begin;
  RETURN_IF_ERROR(CheckBytes(fields, tensor));
  return tensor;
}

// Whether the gap before `offset` (into the data) only aligns what starts there.
bool IsAlignment(uint64_t gap, uint64_t offset) {
  constexpr uint64_t kMaxAlignment = 4096;
  uint64_t alignment = 1;
  while (alignment < kMaxAlignment && offset % (2 * alignment) == 0) alignment *= 2;
  return gap < alignment;
}

// The format demands that the tensors cover the data, each byte once. Some writers align tensors,
// which readers of table files can bear; anything beyond that is a header of another file.
absl::Status CheckCover(const SafetensorsFile& file, uint64_t data) {
  std::vector<std::pair<const std::string*, const SafetensorsTensor*>> order;
  for (const auto& [name, tensor] : file.tensors) order.emplace_back(&name, &tensor);
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second->file_offset, a.second->bytes) <
           std::pair(b.second->file_offset, b.second->bytes);
  });
  uint64_t covered = data;
  const std::string* previous = nullptr;
  for (const auto& [name, tensor] : order) {
    if (tensor->file_offset < covered) {
      return Malformed(file.path,
                       absl::StrCat("tensors `", *previous, "` and `", *name, "` overlap"));
    }
    const uint64_t gap = tensor->file_offset - covered;
    if (gap != 0 && !IsAlignment(gap, tensor->file_offset - data)) {
      return Malformed(file.path,
                       absl::StrCat("a hole of ", gap, " bytes before tensor `", *name, "`"));
    }
    covered = tensor->file_offset + tensor->bytes;
    previous = name;
  }
  if (covered != file.stamp.size) {
    return Malformed(file.path, absl::StrCat(file.stamp.size - covered,
                                             " bytes at its end belong to no tensor"));
  }
  return absl::OkStatus();
}

}  // namespace

uint64_t SafetensorsDtypeBits(absl::string_view dtype) {
  for (const DtypeBits& known : kDtypes) {
    if (known.name == dtype) return known.bits;
  }
  return 0;
}

absl::StatusOr<SafetensorsFile> ReadSafetensorsHeader(const std::string& path) {
  SafetensorsFile file;
  file.path = path;
  ASSIGN_OR_RETURN(const std::string text, ReadHeaderText(path, file.stamp));
  ASSIGN_OR_RETURN(const json header, ParseJsonObject(text, absl::StrCat(path, ": its header")));
  const uint64_t data = kLengthBytes + text.size();
  for (const auto& [name, entry] : header.items()) {
    const std::string where = name == "__metadata__" ? std::string("`__metadata__`")
                                                     : absl::StrCat("tensor `", name, "`");
    if (!entry.is_object()) {
      return Malformed(path, absl::StrCat(where, " is not a JSON object"));
    }
    if (name == "__metadata__") continue;
    ASSIGN_OR_RETURN(
        file.tensors[name],
        ReadTensor(JsonFields(entry, absl::StrCat(path, ": ", where)), data, file.stamp.size));
  }
  RETURN_IF_ERROR(CheckCover(file, data));
  return file;
}

}  // namespace engram
