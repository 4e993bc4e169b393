#include "storage/table_reader.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

// Values are read in pieces of this size and packed at once: piece and packed rows together
// (about twice this) stay in a core's L2 between the system's copy and ours.
constexpr uint64_t kPieceBytes = 256 << 10;

// The part [begin, begin + size) of a tensor, whole or not at all.
absl::Status ReadPart(int fd, const std::string& directory, const TensorPlace& tensor,
                      uint64_t begin, uint64_t size, uint8_t* out) {
  uint64_t done = 0;
  while (done < size) {
    const uint64_t offset = tensor.file_offset + begin + done;
    const ssize_t got = pread(fd, out + done, size - done, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot read ", directory, "/", tensor.file,
                                                     ": tensor `", tensor.name, "`"));
    }
    if (got == 0) {
      return absl::DataLossError(absl::StrCat(directory, "/", tensor.file, ": ends at byte ",
                                              offset, ", within tensor `", tensor.name, "`"));
    }
    done += static_cast<uint64_t>(got);
  }
  return absl::OkStatus();
}

// Each thread's buffer for one piece, kept from call to call. A piece is at least one row, and a
// row at most 64 KiB of values (RowLayout::Validate), so it stays small.
uint8_t* PieceBuffer(uint64_t bytes) {
  thread_local std::vector<uint8_t> buffer;
  if (buffer.size() < bytes) buffer.resize(bytes);
  return buffer.data();
}

}  // namespace

absl::StatusOr<std::unique_ptr<TableReader>> TableReader::Open(const Checkpoint& checkpoint) {
  std::unique_ptr<TableReader> reader(new TableReader(checkpoint));
  std::map<std::string, int> opened;
  const auto open_once = [&](const std::string& file) -> absl::StatusOr<int> {
    if (const auto it = opened.find(file); it != opened.end()) return it->second;
    const std::string path = absl::StrCat(checkpoint.directory(), "/", file);
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
    reader->fds_.push_back(fd);
    opened[file] = fd;
    return fd;
  };
  for (const LayerTensors& layer : checkpoint.layers()) {
    Source source;
    ASSIGN_OR_RETURN(source.weight_fd, open_once(layer.weight.file));
    if (layer.scale) {
      ASSIGN_OR_RETURN(source.scale_fd, open_once(layer.scale->file));
    }
    reader->sources_.push_back(source);
  }
  return reader;
}

TableReader::~TableReader() {
  for (const int fd : fds_) close(fd);
}

absl::Status TableReader::Read(size_t layer_index, uint64_t begin, uint64_t count,
                               uint8_t* out) const {
  const uint64_t rows = checkpoint_.geometry().layers()[layer_index].rows;
  if (begin > rows || count > rows - begin) {
    return absl::InternalError(
        absl::StrCat("rows [", begin, ", +", count, ") asked of a table of ", rows, " rows"));
  }
  const LayerTensors& tensors = checkpoint_.layers()[layer_index];
  const Source& source = sources_[layer_index];
  const uint64_t value_bytes = checkpoint_.layout().value_bytes();
  const uint64_t scales = checkpoint_.layout().scales;
  const uint64_t row_bytes = value_bytes + scales;
  const uint64_t piece_rows = std::max<uint64_t>(1, kPieceBytes / value_bytes);
  uint8_t* const values = PieceBuffer(piece_rows * row_bytes);
  uint8_t* const scale_bytes = values + piece_rows * value_bytes;
  for (uint64_t done = 0; done < count; done += piece_rows) {
    const uint64_t first = begin + done;
    const uint64_t n = std::min(piece_rows, count - done);
    RETURN_IF_ERROR(ReadPart(source.weight_fd, checkpoint_.directory(), tensors.weight,
                             first * value_bytes, n * value_bytes, values));
    if (source.scale_fd >= 0) {
      RETURN_IF_ERROR(ReadPart(source.scale_fd, checkpoint_.directory(), *tensors.scale,
                               first * scales, n * scales, scale_bytes));
    }
    for (uint64_t i = 0; i < n; ++i) {
      uint8_t* const row = out + (done + i) * row_bytes;
      std::memcpy(row, values + i * value_bytes, value_bytes);
      std::memcpy(row + value_bytes, scale_bytes + i * scales, scales);
    }
  }
  return absl::OkStatus();
}

}  // namespace engram
