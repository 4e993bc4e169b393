#include "storage/disk/disk_import.h"

#include <algorithm>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "proto/base/file.h"
#include "proto/base/status_macros.h"
#include "proto/crc32c.h"
#include "storage/disk/part_check.h"
#include "storage/disk/rocks_db.h"
#include "storage/disk/row_groups.h"
#include "storage/table_digest.h"
#include "storage/table_reader.h"

namespace engram {
namespace {

constexpr uint64_t kMaxManifestBytes = uint64_t{1} << 30;

// The rows of one sorted file: parts [begin, end) of the shard, one behind the other in one layer.
struct SortedFile {
  std::string path;
  size_t begin = 0;
  size_t end = 0;
};

// Few enough files to keep all of them open, and enough of them to share the work.
std::vector<SortedFile> CutIntoFiles(const std::vector<RowRange>& parts,
                                     const std::string& directory) {
  constexpr size_t kMostFiles = 256;
  constexpr size_t kLeastParts = 4;  // 70 MB of V4.1-Flash
  const size_t parts_per_file = std::max(kLeastParts, parts.size() / kMostFiles);
  std::vector<SortedFile> files;
  for (size_t i = 0; i < parts.size(); ++i) {
    const bool follows = i > 0 && parts[i - 1].layer == parts[i].layer &&
                         parts[i - 1].end == parts[i].begin &&
                         i - files.back().begin < parts_per_file;
    if (!follows) {
      files.push_back(
          {absl::StrCat(directory, "/", parts[i].layer, "-", parts[i].begin, ".sst"), i, i});
    }
    files.back().end = i + 1;
  }
  return files;
}

class Importer {
 public:
  Importer(const Checkpoint& checkpoint, const TableReader& reader, const Sidecar& sidecar,
           const std::vector<RowRange>& parts, std::vector<RowSum>& sums)
      : checkpoint_(checkpoint),
        reader_(reader),
        sidecar_(sidecar),
        groups_(checkpoint.layout()),
        parts_(parts),
        sums_(sums) {}

  // Leaves the file there, whole and read back, with its parts' sums.
  absl::Status Import(const SortedFile& file) const {
    std::error_code error;
    if (std::filesystem::exists(file.path, error)) {
      if (Check(file).ok()) return absl::OkStatus();
      std::filesystem::remove(file.path, error);  // damaged since; it is written anew
    }
    const std::string unfinished = file.path + ".unfinished";
    RETURN_IF_ERROR(Write(file, unfinished));
    std::filesystem::rename(unfinished, file.path, error);
    if (error) return SystemError(error.value(), absl::StrCat("renaming ", unfinished));
    return Check(file);
  }

 private:
  absl::Status Write(const SortedFile& file, const std::string& path) const {
    ASSIGN_OR_RETURN(const auto writer, RocksFileWriter::Create(path));
    for (size_t i = file.begin; i < file.end; ++i) RETURN_IF_ERROR(WritePart(parts_[i], *writer));
    return writer->Finish();
  }

  absl::Status WritePart(const RowRange& part, RocksFileWriter& writer) const {
    ASSIGN_OR_RETURN(const size_t layer, checkpoint_.geometry().LayerIndex(part.layer));
    const size_t row_bytes = groups_.row_bytes();
    // Whole groups at a time.
    const uint64_t chunk_groups = std::max<uint64_t>(1, kChunkRows / groups_.rows());
    std::vector<uint8_t> rows(chunk_groups * groups_.rows() * row_bytes);
    std::string value;
    for (uint64_t row = part.begin; row < part.end;) {
      const uint64_t first = groups_.GroupOf(row);
      const uint64_t end = std::min(groups_.EndRow(first + chunk_groups - 1), part.end);
      RETURN_IF_ERROR(reader_.Read(layer, row, end - row, rows.data()));
      const uint8_t* bytes = rows.data();
      for (uint64_t group = first; row < end; ++group) {
        value.assign(groups_.value_bytes(), '\0');
        for (const uint64_t group_end = std::min(groups_.EndRow(group), end); row < group_end;
             ++row, bytes += row_bytes) {
          const uint32_t checksum = Crc32c(bytes, row_bytes);
          std::copy_n(bytes, row_bytes, value.data() + groups_.RowAt(row));
          std::memcpy(value.data() + groups_.ChecksumAt(row), &checksum, sizeof(checksum));
        }
        RETURN_IF_ERROR(writer.Put(GroupKey(part.layer, group).view(), value));
      }
    }
    return absl::OkStatus();
  }

  // Reads the file back. DataLoss: it is not what the checkpoint's sidecar says.
  absl::Status Check(const SortedFile& file) const {
    size_t i = file.begin;
    std::optional<PartCheck> check(std::in_place, groups_, parts_[i]);
    RETURN_IF_ERROR(ReadRocksFile(
        file.path, [&](absl::string_view key, absl::string_view value) -> absl::Status {
          if (!check.has_value()) return absl::DataLossError("more rows than were written");
          RETURN_IF_ERROR(check->Take(key, value, [](uint64_t, const uint8_t*, uint32_t) {}));
          if (!check->done()) return absl::OkStatus();
          RETURN_IF_ERROR(CheckSum(i, check->sum(), file.path));
          ++i;
          check.reset();
          if (i < file.end) check.emplace(groups_, parts_[i]);
          return absl::OkStatus();
        }));
    if (i == file.end) return absl::OkStatus();
    return absl::DataLossError(absl::StrCat(file.path, " ends early"));
  }

  // A block that the range cuts is read whole for its sum.
  absl::Status CheckSum(size_t i, const RowSum& sum, const std::string& path) const {
    const RowRange& part = parts_[i];
    ASSIGN_OR_RETURN(const size_t layer, checkpoint_.geometry().LayerIndex(part.layer));
    const uint64_t block = part.begin / kBlockRows;
    const uint64_t begin = block * kBlockRows;
    const uint64_t end = std::min(begin + kBlockRows, checkpoint_.geometry().layers()[layer].rows);
    ASSIGN_OR_RETURN(RowSum whole, SumRows(reader_, checkpoint_, layer, begin, part.begin));
    ASSIGN_OR_RETURN(const RowSum after, SumRows(reader_, checkpoint_, layer, part.end, end));
    whole += sum;
    whole += after;
    sums_[i] = sum;
    const RowSum& wanted = sidecar_.layers[layer].blocks[block];
    if (whole == wanted) return absl::OkStatus();
    // Who is to blame?
    ASSIGN_OR_RETURN(const RowSum source, SumRows(reader_, checkpoint_, layer, begin, end));
    if (source != wanted) return BlockDiffers(checkpoint_, layer, block);
    return absl::DataLossError(
        absl::StrCat(ToString(part), " are others in ", path, " than in the checkpoint"));
  }

  const Checkpoint& checkpoint_;
  const TableReader& reader_;
  const Sidecar& sidecar_;
  const RowGroups groups_;
  const std::vector<RowRange>& parts_;
  std::vector<RowSum>& sums_;  // distinct elements by distinct threads
};

// An import that was begun must be of the same rows: files are told apart by their names alone.
absl::Status BeginImport(const DataDir& data_dir, const ShardManifest& manifest) {
  std::error_code error;
  std::filesystem::create_directories(data_dir.import(), error);
  if (error) return SystemError(error.value(), data_dir.import());
  const std::string path = data_dir.import() + "/manifest";
  const std::string bytes = SerializeShardManifest(manifest);
  const absl::StatusOr<std::string> begun = ReadFile(path, kMaxManifestBytes);
  if (absl::IsNotFound(begun.status())) return WriteFileAtomically(path, bytes);
  RETURN_IF_ERROR(begun.status());
  if (*begun == bytes) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("an import of another shard or table was begun in ", data_dir.import(),
                   ": end it, or remove that directory"));
}

absl::Status CheckSpace(const DataDir& data_dir, const RowGroups& groups,
                        const std::vector<RowRange>& parts, const std::vector<SortedFile>& files) {
  uint64_t need = 0;
  for (const RowRange& part : parts) need += (part.rows() / groups.rows() + 2) * kDiskBlockBytes;
  std::error_code error;
  for (const SortedFile& file : files) {
    const uint64_t there = std::filesystem::file_size(file.path, error);
    if (!error) need -= std::min<uint64_t>(need, there);
  }
  return data_dir.CheckRoom("this shard", need);
}

}  // namespace

absl::Status ImportShard(const DataDir& data_dir, const Checkpoint& checkpoint,
                         const Sidecar& sidecar, ShardManifest manifest,
                         const ParallelOptions& parallel) {
  const uint64_t rows = TotalRows(manifest.ranges);
  if (rows > kMaxDiskRows) {
    return absl::InvalidArgumentError(
        absl::StrCat("this shard has ", rows, " rows; a shard on disk has at most ", kMaxDiskRows,
                     ": take more shards (--shard I/N)"));
  }
  RETURN_IF_ERROR(BeginImport(data_dir, manifest));
  ASSIGN_OR_RETURN(const auto reader, TableReader::Open(checkpoint));
  const RowGroups groups(checkpoint.layout());
  const std::vector<RowRange> parts = CutIntoBlocks(manifest.ranges);
  const std::vector<SortedFile> files = CutIntoFiles(parts, data_dir.import());
  RETURN_IF_ERROR(CheckSpace(data_dir, groups, parts, files));
  manifest.sums.resize(parts.size());
  const Importer importer(checkpoint, *reader, sidecar, parts, manifest.sums);
  RETURN_IF_ERROR(ForEachInParallel(files.size(), rows * groups.row_bytes(), parallel,
                                    [&](uint64_t i, uint64_t& bytes) {
                                      for (size_t p = files[i].begin; p < files[i].end; ++p) {
                                        bytes += parts[p].rows() * groups.row_bytes();
                                      }
                                      return importer.Import(files[i]);
                                    }));
  // All rows and the manifest, or nothing, become the database.
  std::vector<std::string> paths = {data_dir.import() + "/manifest.sst"};
  ASSIGN_OR_RETURN(const auto writer, RocksFileWriter::Create(paths[0]));
  RETURN_IF_ERROR(writer->Put(kManifestKey, SerializeShardManifest(manifest)));
  RETURN_IF_ERROR(writer->Finish());
  for (const SortedFile& file : files) paths.push_back(file.path);
  return IngestRocksFiles(data_dir.database(), paths);
}

}  // namespace engram
