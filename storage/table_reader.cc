#include "storage/table_reader.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "proto/base/file.h"
#include "proto/base/status_macros.h"
#include "storage/row_field.h"

namespace engram {
namespace {

// Fields are read in pieces of this size and packed at once: piece and packed rows together (about
// twice this) stay in a core's L2 between the system's copy and ours.
constexpr uint64_t kPieceBytes = 256 << 10;

std::string Where(const Checkpoint& checkpoint, const TensorPlace& tensor) {
  return absl::StrCat(checkpoint.directory(), "/", tensor.file, ": tensor `", tensor.name, "`");
}

// The part [begin, begin + size) of a tensor, whole or not at all.
absl::Status ReadPart(int fd, const Checkpoint& checkpoint, const TensorPlace& tensor,
                      uint64_t begin, uint64_t size, uint8_t* out) {
  uint64_t done = 0;
  while (done < size) {
    const uint64_t offset = tensor.file_offset + begin + done;
    const ssize_t got = pread(fd, out + done, size - done, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      return SystemError(errno, absl::StrCat("cannot read ", Where(checkpoint, tensor)));
    }
    if (got == 0) {
      return absl::DataLossError(
          absl::StrCat(Where(checkpoint, tensor), ": the file ends within it, at byte ", offset));
    }
    done += static_cast<uint64_t>(got);
  }
  return absl::OkStatus();
}

// Each thread's buffer for one piece, kept from call to call. A piece is at least one row, and a
// row at most 256 KiB (RowLayout::Validate), so it stays small.
uint8_t* PieceBuffer(uint64_t bytes) {
  thread_local std::vector<uint8_t> buffer;
  if (buffer.size() < bytes) buffer.resize(bytes);
  return buffer.data();
}

// Where the field's first row of [begin, end) lies that is not in a hole.
uint64_t FieldData(const RowField& field, const std::map<std::string, int>& fds, uint64_t begin,
                   uint64_t end) {
  // A scale of 0.0 must be met and refused, hole or not.
  if (field.conversion != Conversion::kCopy) return begin;
  for (size_t i = PieceOf(field, begin); i < field.pieces.size() && begin < end; ++i) {
    const TensorPiece& piece = field.pieces[i];
    const uint64_t first = piece.place.file_offset;
    const uint64_t from = first + (begin - piece.first_row) * field.file_row_bytes;
    const off_t data = lseek(fds.at(piece.place.file), static_cast<off_t>(from), SEEK_DATA);
    if (data < 0 && errno != ENXIO) return begin;
    if (data >= 0 && static_cast<uint64_t>(data) < first + piece.rows * field.file_row_bytes) {
      const uint64_t row = (static_cast<uint64_t>(data) - first) / field.file_row_bytes;
      return std::min(end, piece.first_row + row);
    }
    begin = piece.first_row + piece.rows;
  }
  return end;
}

}  // namespace

absl::StatusOr<std::unique_ptr<TableReader>> TableReader::Open(const Checkpoint& checkpoint) {
  std::unique_ptr<TableReader> reader(new TableReader(checkpoint));
  for (const auto& [file, stamp] : checkpoint.files()) {
    const std::string path = absl::StrCat(checkpoint.directory(), "/", file);
    // Without O_NONBLOCK a pipe that has taken the file's place would be waited for.
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return SystemError(errno, absl::StrCat("cannot open ", path));
    reader->fds_[file] = fd;
  }
  RETURN_IF_ERROR(reader->CheckFiles());
  return reader;
}

TableReader::~TableReader() {
  for (const auto& [file, fd] : fds_) close(fd);
}

absl::Status TableReader::CheckFiles() const {
  for (const auto& [file, fd] : fds_) {
    RETURN_IF_ERROR(CheckStamp(fd, absl::StrCat(checkpoint_.directory(), "/", file),
                               checkpoint_.files().at(file)));
  }
  return absl::OkStatus();
}

absl::Status TableReader::Read(size_t layer_index, uint64_t begin, uint64_t count,
                               uint8_t* out) const {
  const uint64_t rows = checkpoint_.geometry().layers()[layer_index].rows;
  if (begin > rows || count > rows - begin) {
    return absl::InternalError(
        absl::StrCat("rows [", begin, ", +", count, ") asked of a table of ", rows, " rows"));
  }
  const uint64_t row_bytes = checkpoint_.layout().row_bytes();
  const uint64_t step = std::max<uint64_t>(1, kPieceBytes / row_bytes);
  for (uint64_t done = 0; done < count; done += step) {
    const uint64_t n = std::min(step, count - done);
    for (const RowField& field : checkpoint_.layers()[layer_index].fields) {
      RETURN_IF_ERROR(ReadField(field, begin + done, n, out + done * row_bytes));
    }
  }
  return absl::OkStatus();
}

absl::Status TableReader::ReadField(const RowField& field, uint64_t begin, uint64_t count,
                                    uint8_t* out) const {
  const uint64_t row_bytes = checkpoint_.layout().row_bytes();
  for (size_t i = PieceOf(field, begin); count > 0; ++i) {
    const TensorPiece& piece = field.pieces[i];
    const uint64_t n = std::min(count, piece.first_row + piece.rows - begin);
    const uint64_t at = (begin - piece.first_row) * field.file_row_bytes;
    const uint64_t bytes = n * field.file_row_bytes;
    const int fd = fds_.at(piece.place.file);
    // A field that is the row needs no packing.
    const bool straight = field.conversion == Conversion::kCopy && field.row_bytes == row_bytes;
    uint8_t* const from = straight ? out : PieceBuffer(bytes);
    RETURN_IF_ERROR(ReadPart(fd, checkpoint_, piece.place, at, bytes, from));
    if (field.conversion == Conversion::kF32ToUe8m0) {
      for (uint64_t row = 0; row < n; ++row) {
        size_t bad = 0;
        if (ConvertF32Scales(from + row * field.file_row_bytes, field.row_bytes,
                             out + row * row_bytes + field.row_offset, bad)) {
          continue;
        }
        return absl::InvalidArgumentError(
            absl::StrCat(Where(checkpoint_, piece.place), ": scale ", bad, " of row ", begin + row,
                         " is not a power of two from 2^-127 to 2^127"));
      }
    } else if (!straight) {
      ScatterField(field, from, n, row_bytes, out);
    }
    out += n * row_bytes;
    begin += n;
    count -= n;
  }
  return absl::OkStatus();
}

uint64_t TableReader::SkipHoles(size_t layer_index, uint64_t begin, uint64_t end) const {
  uint64_t first = end;
  for (const RowField& field : checkpoint_.layers()[layer_index].fields) {
    first = std::min(first, FieldData(field, fds_, begin, first));
  }
  return first;
}

}  // namespace engram
