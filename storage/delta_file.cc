#include "storage/delta_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "proto/base/bytes.h"
#include "proto/base/file.h"
#include "proto/base/status_macros.h"
#include "proto/crc32c.h"

namespace engram {
namespace {

constexpr absl::string_view kMagic = "ENGRDELT";
constexpr uint32_t kVersion = 1;
constexpr size_t kFixedBytes = 16;    // magic, version, length
constexpr size_t kRecordSummed = 28;  // of a record, before the checksum of these
constexpr size_t kRecordFront = 32;   // before its row's bytes
constexpr size_t kBufferBytes = 1 << 20;
constexpr size_t kMaxDeltaLayers = 4096;
constexpr uint32_t kMaxRowBytes = 1 << 20;

void AppendSum(std::string& out, const RowSum& sum) {
  AppendBytes(out, sum.low());
  AppendBytes(out, sum.high());
}

bool TakeSum(ByteCursor& in, RowSum& sum) {
  uint64_t low = 0, high = 0;
  const bool ok = in.Take(low) && in.Take(high);
  sum = RowSum(low, high);
  return ok;
}

RowSum SumOf(uint32_t layer, uint64_t row, const uint8_t* bytes, size_t row_bytes) {
  RowSum sum;
  sum.AddRow(layer, row, bytes, row_bytes);
  return sum;
}

absl::Status WriteAll(int fd, absl::string_view bytes, off_t at, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t put = pwrite(fd, bytes.data(), bytes.size(), at);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return SystemError(errno, absl::StrCat("cannot write ", path));
    bytes.remove_prefix(static_cast<size_t>(put));
    at += put;
  }
  return absl::OkStatus();
}

}  // namespace

uint64_t DeltaHeader::changed() const {
  uint64_t total = 0;
  for (const DeltaLayer& layer : layers) total += layer.changed;
  return total;
}

uint64_t DeltaHeader::record_bytes() const { return kRecordFront + row_bytes; }

bool DeltaHeader::whole() const {
  RowSum reached = base_sum;
  reached += change;
  return reached == target_sum;
}

std::string EncodeDeltaHeader(const DeltaHeader& header) {
  std::string out(kMagic);
  AppendBytes(out, kVersion);
  AppendBytes(out, uint32_t{0});  // the length, below
  AppendBytes(out, header.base);
  AppendBytes(out, header.target);
  AppendSum(out, header.base_sum);
  AppendSum(out, header.target_sum);
  AppendSum(out, header.change);
  AppendBytes(out, header.row_bytes);
  AppendBytes(out, static_cast<uint32_t>(header.layers.size()));
  for (const DeltaLayer& layer : header.layers) {
    AppendBytes(out, layer.layer);
    AppendBytes(out, uint32_t{0});
    AppendBytes(out, layer.rows);
    AppendBytes(out, layer.changed);
  }
  const auto length = static_cast<uint32_t>(out.size() + sizeof(uint32_t));
  std::memcpy(out.data() + kMagic.size() + sizeof(kVersion), &length, sizeof(length));
  AppendBytes(out, Crc32c(out.data(), out.size()));
  return out;
}

absl::StatusOr<DeltaHeader> DecodeDeltaHeader(absl::string_view delta, absl::string_view name,
                                              size_t& bytes) {
  const auto cut_off = [&] {
    return absl::DataLossError(absl::StrCat(name, " is cut off within its header"));
  };
  if (delta.substr(0, kMagic.size()) != kMagic.substr(0, delta.size()) || delta.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(name, " is not a delta"));
  }
  if (delta.size() < kFixedBytes) return cut_off();
  ByteCursor in(delta.substr(kMagic.size()));
  uint32_t version = 0, length = 0;
  in.Take(version);
  in.Take(length);
  if (version != kVersion) {
    return absl::InvalidArgumentError(absl::StrCat(name, " has format version ", version,
                                                   "; this program reads version ", kVersion));
  }
  const auto damaged = [&] {
    return absl::DataLossError(absl::StrCat(name, ": the header is damaged"));
  };
  if (length < kFixedBytes + sizeof(uint32_t) || length > kMaxDeltaHeaderBytes) return damaged();
  if (delta.size() < length) return cut_off();
  uint32_t checksum = 0;
  const size_t summed = length - sizeof(checksum);
  std::memcpy(&checksum, delta.data() + summed, sizeof(checksum));
  if (checksum != Crc32c(delta.data(), summed)) return damaged();
  in = ByteCursor(delta.substr(kFixedBytes, summed - kFixedBytes));
  DeltaHeader header;
  uint32_t layers = 0;
  if (!in.Take(header.base) || !in.Take(header.target) || !TakeSum(in, header.base_sum) ||
      !TakeSum(in, header.target_sum) || !TakeSum(in, header.change) ||
      !in.Take(header.row_bytes) || !in.Take(layers) || layers > kMaxDeltaLayers ||
      header.row_bytes == 0 || header.row_bytes > kMaxRowBytes) {
    return damaged();
  }
  for (uint32_t i = 0; i < layers; ++i) {
    DeltaLayer layer;
    uint32_t zero = 0;
    if (!in.Take(layer.layer) || !in.Take(zero) || !in.Take(layer.rows) ||
        !in.Take(layer.changed) || zero != 0 || layer.changed > layer.rows ||
        layer.rows >= uint64_t{1} << 48) {
      return damaged();
    }
    header.layers.push_back(layer);
  }
  if (!in.rest().empty()) return damaged();
  bytes = length;
  return header;
}

void AppendDeltaRecord(const DeltaRow& row, uint32_t row_bytes, std::string& out) {
  AppendBytes(out, row.row);
  AppendSum(out, row.before);
  AppendBytes(out, row.checksum);
  AppendBytes(out, Crc32c(out.data() + out.size() - kRecordSummed, kRecordSummed));
  out.append(reinterpret_cast<const char*>(row.bytes), row_bytes);
}

// ---------------------------------------------------------------- checking

absl::Status DeltaChecker::Error(uint64_t row, absl::string_view what) const {
  return absl::DataLossError(
      absl::StrCat(name_, ": row ", row, " of layer ", header_.layers[layer_].layer, " ", what));
}

absl::StatusOr<DeltaRow> DeltaChecker::Take(const uint8_t* record) {
  while (layer_ < header_.layers.size() && taken_of_layer_ == header_.layers[layer_].changed) {
    ++layer_;
    taken_of_layer_ = 0;
  }
  if (layer_ == header_.layers.size()) {
    return absl::DataLossError(absl::StrCat(name_, " has more rows than its header says"));
  }
  ByteCursor in(absl::string_view(reinterpret_cast<const char*>(record), kRecordFront));
  DeltaRow row;
  in.Take(row.row);
  TakeSum(in, row.before);
  in.Take(row.checksum);
  uint32_t front_checksum = 0;
  in.Take(front_checksum);
  if (front_checksum != Crc32c(record, kRecordSummed)) {
    return absl::DataLossError(absl::StrCat(name_, ": row ", taken_, " of the delta is damaged"));
  }
  ++taken_;
  row.layer_index = layer_;
  row.bytes = record + kRecordFront;
  const DeltaLayer& layer = header_.layers[layer_];
  if (row.row >= layer.rows) return Error(row.row, "is not one of the layer");
  if (taken_of_layer_ > 0 && row.row <= last_row_) {
    return Error(row.row, absl::StrCat("comes after row ", last_row_, ": rows are out of order"));
  }
  if (Crc32c(row.bytes, header_.row_bytes) != row.checksum) {
    return Error(row.row, "differs from its checksum");
  }
  last_row_ = row.row;
  ++taken_of_layer_;
  change_ += SumOf(layer.layer, row.row, row.bytes, header_.row_bytes);
  change_ -= row.before;
  return row;
}

absl::Status DeltaChecker::Finish() const {
  if (change_ == header_.change) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat(name_, ": its rows do not make the change that its header says"));
}

// ---------------------------------------------------------------- reading

absl::StatusOr<std::unique_ptr<DeltaReader>> DeltaReader::Open(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return SystemError(errno, absl::StrCat("cannot open ", path));
  std::unique_ptr<DeltaReader> reader(new DeltaReader(path, fd));
  struct stat info;
  if (fstat(fd, &info) != 0) return SystemError(errno, absl::StrCat("cannot stat ", path));
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a regular file"));
  }
  RETURN_IF_ERROR(reader->Fill());
  size_t header_bytes = 0;
  ASSIGN_OR_RETURN(reader->header_, DecodeDeltaHeader(reader->buffer_, path, header_bytes));
  const DeltaHeader& header = reader->header_;
  reader->left_ = header.changed();
  __extension__ typedef unsigned __int128 uint128;
  const uint128 expected = uint128{header_bytes} + uint128{reader->left_} * header.record_bytes();
  const auto size = static_cast<uint64_t>(info.st_size);
  if (uint128{size} != expected) {
    return absl::DataLossError(absl::StrCat(path, " has ", size, " bytes, ",
                                            size < expected ? "fewer" : "more",
                                            " than its header says: it ",
                                            size < expected ? "is cut off"
                                                            : "has something behind"
                                                              " its rows"));
  }
  reader->at_ = header_bytes;
  reader->checker_.emplace(header, path);
  return reader;
}

DeltaReader::~DeltaReader() { close(fd_); }

// Keeps what is left of the buffer and reads on.
absl::Status DeltaReader::Fill() {
  buffer_.erase(0, at_);
  at_ = 0;
  size_t have = buffer_.size();
  const size_t wanted = have + kBufferBytes;
  buffer_.resize(wanted);
  while (have < wanted) {
    const ssize_t got = read(fd_, buffer_.data() + have, wanted - have);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return SystemError(errno, absl::StrCat("cannot read ", path_));
    if (got == 0) break;
    have += static_cast<size_t>(got);
  }
  buffer_.resize(have);
  return absl::OkStatus();
}

absl::StatusOr<std::optional<DeltaRow>> DeltaReader::Next() {
  if (left_ == 0) {
    RETURN_IF_ERROR(checker_->Finish());
    return std::optional<DeltaRow>();
  }
  const size_t record = header_.record_bytes();
  if (buffer_.size() - at_ < record) {
    RETURN_IF_ERROR(Fill());
    if (buffer_.size() < record) {
      return absl::DataLossError(absl::StrCat(path_, " shrank while it was read"));
    }
  }
  ASSIGN_OR_RETURN(const DeltaRow row,
                   checker_->Take(reinterpret_cast<const uint8_t*>(buffer_.data()) + at_));
  at_ += record;
  --left_;
  return std::optional<DeltaRow>(row);
}

// ---------------------------------------------------------------- writing

absl::StatusOr<std::unique_ptr<DeltaWriter>> DeltaWriter::Create(const std::string& path,
                                                                 DeltaHeader header) {
  std::string temporary = absl::StrCat(path, ".tmp.", getpid());
  const int fd = open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return SystemError(errno, absl::StrCat("cannot create ", temporary));
  header.change = RowSum();
  for (DeltaLayer& layer : header.layers) layer.changed = 0;
  std::unique_ptr<DeltaWriter> writer(
      new DeltaWriter(path, std::move(temporary), fd, std::move(header)));
  writer->written_ = EncodeDeltaHeader(writer->header_).size();  // its room
  return writer;
}

DeltaWriter::~DeltaWriter() {
  close(fd_);
  unlink(temporary_.c_str());  // Nothing is there once it has been moved.
}

absl::Status DeltaWriter::Add(const DeltaRow& row) {
  if (row.layer_index >= header_.layers.size() || row.layer_index < last_layer_ ||
      (row.layer_index == last_layer_ && last_row_.has_value() && row.row <= *last_row_)) {
    return absl::InvalidArgumentError(absl::StrCat("row ", row.row, " comes out of order"));
  }
  DeltaLayer& layer = header_.layers[row.layer_index];
  if (row.row >= layer.rows) {
    return absl::InvalidArgumentError(
        absl::StrCat("row ", row.row, " is beyond layer ", layer.layer));
  }
  last_layer_ = row.layer_index;
  last_row_ = row.row;
  ++layer.changed;
  header_.change += SumOf(layer.layer, row.row, row.bytes, header_.row_bytes);
  header_.change -= row.before;
  AppendDeltaRecord(row, header_.row_bytes, buffer_);
  return buffer_.size() < kBufferBytes ? absl::OkStatus() : Flush();
}

absl::Status DeltaWriter::Flush() {
  RETURN_IF_ERROR(WriteAll(fd_, buffer_, static_cast<off_t>(written_), temporary_));
  written_ += buffer_.size();
  buffer_.clear();
  return absl::OkStatus();
}

absl::Status DeltaWriter::Finish() {
  RETURN_IF_ERROR(Flush());
  RETURN_IF_ERROR(WriteAll(fd_, EncodeDeltaHeader(header_), 0, temporary_));
  if (fsync(fd_) != 0) return SystemError(errno, absl::StrCat("cannot sync ", temporary_));
  if (rename(temporary_.c_str(), path_.c_str()) != 0) {
    return SystemError(errno, absl::StrCat("cannot rename ", temporary_, " to ", path_));
  }
  return SyncDirectoryOf(path_);
}

}  // namespace engram
