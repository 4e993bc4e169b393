#include "storage/synth.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/base/file.h"
#include "proto/base/status_macros.h"
#include "storage/parallel.h"
#include "storage/synth_rows.h"
#include "storage/tokenizer.h"

namespace engram {
namespace {

namespace fs = std::filesystem;

// Rows that a thread makes and writes at a time: about 2 MiB.
constexpr uint64_t kBatchRows = 8192;

// One table file while it is being written.
class TableWriter {
 public:
  TableWriter(std::string path, const SynthFile& file, const Geometry& geometry,
              const RowLayout& layout, const SynthOptions& options)
      : path_(std::move(path)),
        file_(file),
        geometry_(geometry),
        layout_(layout),
        options_(options) {}
  ~TableWriter() {
    if (fd_ >= 0) close(fd_);
  }

  absl::Status Write() {
    fd_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd_ < 0) return SystemError(errno, absl::StrCat("cannot create ", path_));
    RETURN_IF_ERROR(Reserve());
    RETURN_IF_ERROR(WriteAt(file_.header.data(), file_.header.size(), 0));
    for (size_t layer = 0; layer < geometry_.layers().size(); ++layer) {
      RETURN_IF_ERROR(options_.sparse ? WriteStatedRows(layer) : WriteAllRows(layer));
    }
    // Network file systems report a full disk as late as here.
    if (close(std::exchange(fd_, -1)) != 0) {
      return SystemError(errno, absl::StrCat("cannot close ", path_));
    }
    return absl::OkStatus();
  }

 private:
  // Asks for all the space at once, so that a disk that is too small is found before it is filled;
  // for a sparse file only for its size.
  absl::Status Reserve() const {
    const auto size = static_cast<off_t>(file_.size);
    if (options_.sparse) {
      if (ftruncate(fd_, size) == 0) return absl::OkStatus();
    } else if (fallocate(fd_, 0, 0, size) == 0 || errno == EOPNOTSUPP || errno == ENOSYS) {
      return absl::OkStatus();
    }
    return SystemError(errno, absl::StrCat("cannot write ", file_.size, " bytes to ", path_));
  }

  absl::Status WriteAt(const char* from, uint64_t size, uint64_t offset) const {
    uint64_t done = 0;
    while (done < size) {
      const ssize_t put = pwrite(fd_, from + done, size - done, static_cast<off_t>(offset + done));
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) return SystemError(errno, absl::StrCat("cannot write ", path_));
      done += static_cast<uint64_t>(put);
    }
    return absl::OkStatus();
  }

  // Rows [begin, begin + count) of a layer, where this file holds any of their tensors.
  absl::Status WriteRows(size_t layer_index, uint64_t begin, uint64_t count) const {
    const uint32_t layer = geometry_.layers()[layer_index].layer_id;
    const size_t row_bytes = layout_.row_bytes();
    std::vector<uint8_t> rows(count * row_bytes);
    for (uint64_t i = 0; i < count; ++i) {
      SynthRow(layout_, options_.seed, layer, begin + i,
               std::span<uint8_t>(rows).subspan(i * row_bytes, row_bytes));
    }
    std::vector<char> part;
    for (const SynthTensor& tensor : file_.tensors) {
      if (tensor.layer_index != layer_index) continue;
      part.resize(count * tensor.row_bytes);
      for (uint64_t i = 0; i < count; ++i) {
        std::memcpy(&part[i * tensor.row_bytes], &rows[i * row_bytes + tensor.row_offset],
                    tensor.row_bytes);
      }
      RETURN_IF_ERROR(WriteAt(part.data(), part.size(),
                              file_.header.size() + tensor.data_offset + begin * tensor.row_bytes));
    }
    return absl::OkStatus();
  }

  bool Holds(size_t layer_index) const {
    return std::any_of(file_.tensors.begin(), file_.tensors.end(), [&](const SynthTensor& tensor) {
      return tensor.layer_index == layer_index;
    });
  }

  absl::Status WriteAllRows(size_t layer_index) const {
    if (!Holds(layer_index)) return absl::OkStatus();
    const uint64_t rows = geometry_.layers()[layer_index].rows;
    const uint64_t batches = (rows + kBatchRows - 1) / kBatchRows;
    return ForEachInParallel(
        batches, rows * layout_.row_bytes(), {0, "writing", nullptr}, [&](uint64_t i, uint64_t&) {
          const uint64_t begin = i * kBatchRows;
          return WriteRows(layer_index, begin, std::min(kBatchRows, rows - begin));
        });
  }

  absl::Status WriteStatedRows(size_t layer_index) const {
    if (!Holds(layer_index)) return absl::OkStatus();
    for (const uint64_t row : StatedRows(geometry_.layers()[layer_index])) {
      RETURN_IF_ERROR(WriteRows(layer_index, row, 1));
    }
    return absl::OkStatus();
  }

  const std::string path_;
  const SynthFile& file_;
  const Geometry& geometry_;
  const RowLayout& layout_;
  const SynthOptions& options_;
  int fd_ = -1;
};

absl::Status PrepareDirectory(const std::string& directory) {
  if (directory.empty()) return absl::InvalidArgumentError("synth: no output directory given");
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) return SystemError(error.value(), absl::StrCat("cannot make ", directory));
  fs::directory_iterator it(directory, error);
  for (; !error && it != fs::directory_iterator(); it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name == "config.json" || name == "tokenizer.json" || absl::EndsWith(name, ".safetensors") ||
        absl::EndsWith(name, ".safetensors.index.json") || name == "engram.sidecar") {
      return absl::AlreadyExistsError(absl::StrCat(
          directory, " holds a checkpoint or part of one (", name, "); name another directory"));
    }
  }
  if (error) return SystemError(error.value(), absl::StrCat("cannot list ", directory));
  return absl::OkStatus();
}

// Copies the tokenizer, for V4.1 padded, and returns the size of the vocabulary that it gives.
absl::StatusOr<uint32_t> CopyTokenizer(const SynthOptions& options, const std::string& to) {
  if (options.model == SynthModel::kV41Flash) {
    RETURN_IF_ERROR(PadTokenizer(options.tokenizer, kV41Vocab, to));
  } else {
    constexpr uint64_t kMaxBytes = uint64_t{256} << 20;
    ASSIGN_OR_RETURN(const std::string text, ReadFile(options.tokenizer, kMaxBytes));
    RETURN_IF_ERROR(WriteFileAtomically(to, text));
  }
  ASSIGN_OR_RETURN(const TokenMap map, BuildTokenMap(to));
  return map.compressed_count();
}

absl::Status WriteCheckpoint(const SynthOptions& options, uint64_t bucket_floor,
                             std::vector<std::string>& written) {
  const auto path_of = [&](absl::string_view name) {
    written.push_back(absl::StrCat(options.out, "/", name));
    return written.back();
  };
  uint32_t vocab = DefaultCompressedVocab(options.model);
  if (!options.tokenizer.empty()) {
    ASSIGN_OR_RETURN(vocab, CopyTokenizer(options, path_of("tokenizer.json")));
  }
  ASSIGN_OR_RETURN(const Geometry geometry, SynthGeometry(options.model, bucket_floor, vocab));
  const RowLayout layout = SynthLayout(options.model, options.paper_values);
  const std::vector<SynthFile> files = SynthFiles(options.model, geometry, layout);
  for (const SynthFile& file : files) {
    RETURN_IF_ERROR(TableWriter(path_of(file.name), file, geometry, layout, options).Write());
  }
  const std::string index = SynthIndex(options.model, geometry, files);
  if (!index.empty()) {
    RETURN_IF_ERROR(WriteFileAtomically(path_of("model.safetensors.index.json"), index));
  }
  return WriteFileAtomically(path_of("config.json"), SynthConfig(options.model, geometry, layout,
                                                                 options.tokenizer.empty()));
}

}  // namespace

absl::Status Synthesize(const SynthOptions& options) {
  const uint64_t bucket_floor = options.bucket_floor.value_or(DefaultBucketFloor(options.model));
  // A bucket floor out of bounds is refused before anything is written.
  RETURN_IF_ERROR(
      SynthGeometry(options.model, bucket_floor, DefaultCompressedVocab(options.model)).status());
  RETURN_IF_ERROR(PrepareDirectory(options.out));
  std::vector<std::string> written;
  absl::Status status = WriteCheckpoint(options, bucket_floor, written);
  if (!status.ok()) {
    for (const std::string& path : written) unlink(path.c_str());
  }
  return status;
}

}  // namespace engram
