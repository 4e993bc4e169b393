#include "storage/disk/backup.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <map>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "proto/base/file.h"
#include "proto/base/status_macros.h"
#include "proto/crc32c.h"
#include "storage/catalogue.h"
#include "storage/disk/disk_table.h"
#include "storage/file_frame.h"

namespace engram {
namespace {

namespace fs = std::filesystem;

constexpr FileFormat kBackupFormat = {"ENGRBKUP", 1, "a backup"};
constexpr absl::string_view kBackupIndex = "/backup";
constexpr uint64_t kMaxIndexBytes = uint64_t{64} << 20;
constexpr size_t kCopyBytes = 1 << 20;  // a piece; part of the format
constexpr int kAttempts = 5;

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }

 private:
  const int fd_;
};

absl::Status WriteAll(int fd, absl::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t count = write(fd, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return SystemError(errno, absl::StrCat("cannot write ", path));
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return absl::OkStatus();
}

// The next piece, whole but at the end of the file.
absl::StatusOr<size_t> ReadPiece(int fd, std::string& piece, const std::string& path) {
  size_t filled = 0;
  while (filled < piece.size()) {
    const ssize_t count = read(fd, piece.data() + filled, piece.size() - filled);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return SystemError(errno, absl::StrCat("cannot read ", path));
    if (count == 0) break;
    filled += static_cast<size_t>(count);
  }
  return filled;
}

// Reads a file whole, and calls take(piece) for each of its pieces.
template <typename Take>
absl::StatusOr<BackupFile> ReadPieces(const std::string& directory, const std::string& name,
                                      Take take) {
  const std::string path = absl::StrCat(directory, "/", name);
  const Descriptor in(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (in.get() < 0) return SystemError(errno, absl::StrCat("cannot open ", path));
  BackupFile file{name};
  std::string piece(kCopyBytes, '\0');
  std::vector<uint32_t> checksums;
  while (true) {
    ASSIGN_OR_RETURN(const size_t count, ReadPiece(in.get(), piece, path));
    if (count == 0) break;
    const absl::string_view bytes(piece.data(), count);
    RETURN_IF_ERROR(take(bytes));
    checksums.push_back(Crc32c(bytes));
    file.bytes += count;
  }
  file.checksum = Crc32c(checksums.data(), checksums.size() * sizeof(uint32_t));
  return file;
}

// Copies a file, which is then on the disk (its name is not yet). NotFound: it is not there.
absl::StatusOr<BackupFile> Copy(const std::string& from, const std::string& to,
                                const std::string& name) {
  const std::string path = absl::StrCat(to, "/", name);
  const Descriptor out(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (out.get() < 0) return SystemError(errno, absl::StrCat("cannot create ", path));
  ASSIGN_OR_RETURN(BackupFile file, ReadPieces(from, name, [&](absl::string_view bytes) {
                     return WriteAll(out.get(), bytes, path);
                   }));
  if (fsync(out.get()) != 0) return SystemError(errno, absl::StrCat("cannot sync ", path));
  return file;
}

absl::StatusOr<bool> IsThereAndNotEmpty(const std::string& directory) {
  std::error_code error;
  if (!fs::exists(directory, error) && !error) return false;
  const bool empty = !error && fs::is_empty(directory, error);
  if (error) return SystemError(error.value(), directory);
  return !empty;
}

absl::Status MakeDirectories(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  return error ? SystemError(error.value(), absl::StrCat("cannot make ", path)) : absl::OkStatus();
}

// nullopt: nothing was ever published there.
absl::StatusOr<std::optional<Catalogue>> CatalogueOf(const std::string& data_dir) {
  absl::StatusOr<Catalogue> catalogue = ReadCatalogue(data_dir + "/catalogue");
  if (absl::IsNotFound(catalogue.status())) return std::nullopt;
  RETURN_IF_ERROR(catalogue.status());
  return *std::move(catalogue);
}

// A file of the database. While name, size and time are the same, so is what it holds.
struct RowFile {
  std::string name;
  uint64_t bytes = 0;
  fs::file_time_type changed;
  auto operator<=>(const RowFile&) const = default;
};

// Those that have rows or name those that have, sorted; none: there is no shard. NotFound: one was
// removed meanwhile.
absl::StatusOr<std::vector<RowFile>> RowFiles(const std::string& data_dir) {
  std::vector<RowFile> files;
  std::error_code error;
  if (!fs::exists(data_dir + "/rows/CURRENT", error)) {
    if (fs::exists(data_dir + "/import", error)) {
      return absl::FailedPreconditionError(
          absl::StrCat(data_dir, " has an import that has not come to its end"));
    }
    return files;
  }
  for (const auto& entry : fs::directory_iterator(data_dir + "/rows", error)) {
    const std::string name = entry.path().filename();
    if (name == "LOCK" || absl::StartsWith(name, "LOG")) continue;
    files.push_back({"rows/" + name, entry.file_size(error), entry.last_write_time(error)});
    if (error) break;
  }
  if (error) return SystemError(error.value(), absl::StrCat("cannot list ", data_dir, "/rows"));
  std::sort(files.begin(), files.end());
  return files;
}

// `copied` becomes `rows`. NotFound: one of them was removed meanwhile.
absl::Status CopyRows(const std::string& data_dir, const std::string& out,
                      const std::vector<RowFile>& rows, std::map<RowFile, BackupFile>& copied) {
  std::erase_if(copied, [&](const auto& each) {
    const bool stays = std::binary_search(rows.begin(), rows.end(), each.first);
    if (!stays) fs::remove(absl::StrCat(out, "/", each.second.name));
    return !stays;
  });
  if (!rows.empty()) RETURN_IF_ERROR(MakeDirectories(out + "/rows"));
  for (const RowFile& file : rows) {
    if (copied.contains(file)) continue;
    ASSIGN_OR_RETURN(copied[file], Copy(data_dir, out, file.name));
  }
  return absl::OkStatus();
}

// The deltas that the catalogue names. NotFound: one was given up meanwhile.
absl::StatusOr<std::vector<BackupFile>> CopyDeltas(const Catalogue& catalogue,
                                                   const std::string& data_dir,
                                                   const std::string& out) {
  std::vector<BackupFile> files;
  for (const KeptGeneration& generation : catalogue.generations) {
    if (generation.parent == 0) continue;  // the table itself
    ASSIGN_OR_RETURN(files.emplace_back(),
                     Copy(data_dir, out, absl::StrCat("delta-", generation.id)));
  }
  return files;
}

// Deltas, then the catalogue that names them: of one moment.
absl::Status CopyGenerations(const std::string& data_dir, const std::string& out,
                             std::vector<BackupFile>& files) {
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    ASSIGN_OR_RETURN(const std::optional<Catalogue> catalogue, CatalogueOf(data_dir));
    if (!catalogue.has_value()) return absl::OkStatus();
    const absl::StatusOr<std::vector<BackupFile>> deltas = CopyDeltas(*catalogue, data_dir, out);
    if (!deltas.ok() && !absl::IsNotFound(deltas.status())) return deltas.status();
    ASSIGN_OR_RETURN(const std::optional<Catalogue> now, CatalogueOf(data_dir));
    if (deltas.ok() && now == catalogue) {
      // A delta's file is complete before it is named, and never changed.
      RETURN_IF_ERROR(WriteCatalogue(out + "/catalogue", *catalogue));
      ASSIGN_OR_RETURN(const BackupFile copied, ReadPieces(out, "catalogue", [](absl::string_view) {
                         return absl::OkStatus();
                       }));
      files.insert(files.end(), deltas->begin(), deltas->end());
      files.push_back(copied);
      return absl::OkStatus();
    }
    for (const auto& entry : fs::directory_iterator(out)) {
      if (absl::StartsWith(entry.path().filename().string(), "delta-")) fs::remove(entry.path());
    }
  }
  return absl::AbortedError(
      absl::StrCat("generations of ", data_dir, " changed while they were copied"));
}

// Rows and generations of one moment: whatever is folded changes what the database's files are.
absl::Status CopyShard(const std::string& data_dir, const std::string& out,
                       std::vector<BackupFile>& files) {
  std::map<RowFile, BackupFile> copied;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    files.clear();
    for (const auto& entry : fs::directory_iterator(out)) {
      if (entry.path().filename() != "rows") fs::remove(entry.path());  // of the attempt before
    }
    const absl::StatusOr<std::vector<RowFile>> rows = RowFiles(data_dir);
    if (absl::IsNotFound(rows.status())) continue;
    RETURN_IF_ERROR(rows.status());
    absl::Status status = CopyRows(data_dir, out, *rows, copied);
    if (status.ok()) status = CopyGenerations(data_dir, out, files);
    const absl::StatusOr<std::vector<RowFile>> now = RowFiles(data_dir);
    if (!now.ok() || *now != *rows) continue;
    RETURN_IF_ERROR(status);
    for (const auto& [row_file, file] : copied) files.push_back(file);
    return absl::OkStatus();
  }
  return absl::AbortedError(
      absl::StrCat("files of rows of ", data_dir, " changed while they were copied"));
}

std::string IndexText(const std::vector<BackupFile>& files) {
  std::string text;
  for (const BackupFile& file : files) {
    absl::StrAppendFormat(&text, "%08x %d %s\n", file.checksum, file.bytes, file.name);
  }
  return text;
}

bool IsNameOfOurs(absl::string_view name) {
  if (absl::StartsWith(name, "rows/")) name.remove_prefix(5);
  return !name.empty() && !absl::StrContains(name, '/') && name[0] != '.';
}

absl::StatusOr<std::vector<BackupFile>> ReadIndex(const std::string& backup) {
  const std::string path = absl::StrCat(backup, kBackupIndex);
  const absl::StatusOr<std::string> bytes = ReadFile(path, kMaxIndexBytes);
  if (absl::IsNotFound(bytes.status())) {
    return absl::NotFoundError(absl::StrCat(backup, " is no backup, or one that was not finished"));
  }
  RETURN_IF_ERROR(bytes.status());
  ASSIGN_OR_RETURN(const absl::string_view text, UnframeWhole(kBackupFormat, *bytes, path));
  std::vector<BackupFile> files;
  for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const std::vector<absl::string_view> parts = absl::StrSplit(line, absl::MaxSplits(' ', 2));
    BackupFile& file = files.emplace_back();
    if (parts.size() != 3 || !absl::SimpleHexAtoi(parts[0], &file.checksum) ||
        !absl::SimpleAtoi(parts[1], &file.bytes) || !IsNameOfOurs(parts[2])) {
      return absl::DataLossError(absl::StrCat(path, ": not a line of a backup: ", line));
    }
    file.name = std::string(parts[2]);
  }
  return files;
}

absl::Status CopyBack(const std::string& backup, const std::string& to,
                      const std::vector<BackupFile>& files) {
  RETURN_IF_ERROR(MakeDirectories(to));
  for (const BackupFile& file : files) {
    RETURN_IF_ERROR(MakeDirectories(fs::path(absl::StrCat(to, "/", file.name)).parent_path()));
    const absl::StatusOr<BackupFile> copied = Copy(backup, to, file.name);
    if (absl::IsNotFound(copied.status())) {
      return absl::DataLossError(absl::StrCat("the backup ", backup, " lacks ", file.name));
    }
    RETURN_IF_ERROR(copied.status());
    if (copied->bytes == file.bytes && copied->checksum == file.checksum) continue;
    return absl::DataLossError(absl::StrCat(
        backup, "/", file.name, " is not what was backed up: it is damaged or cut off"));
  }
  // All names at once.
  const Descriptor all(open(to.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (all.get() < 0 || syncfs(all.get()) != 0) {
    return SystemError(errno, absl::StrCat("cannot sync ", to));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<BackupFile>> BackUp(const std::string& data_dir,
                                               const std::string& out) {
  std::error_code error;
  if (!fs::is_directory(data_dir, error)) {
    return absl::NotFoundError(absl::StrCat(data_dir, " is no directory"));
  }
  ASSIGN_OR_RETURN(const bool occupied, IsThereAndNotEmpty(out));
  if (occupied) {
    return absl::FailedPreconditionError(absl::StrCat(out, " is not empty: it is left alone"));
  }
  RETURN_IF_ERROR(MakeDirectories(out));
  std::vector<BackupFile> files;
  RETURN_IF_ERROR(CopyShard(data_dir, out, files));
  if (fs::exists(out + "/rows", error)) {
    RETURN_IF_ERROR(ReadShardManifest(out + "/rows").status());
  }
  if (files.empty()) return absl::NotFoundError(absl::StrCat(data_dir, " holds nothing"));
  RETURN_IF_ERROR(
      WriteFileAtomically(absl::StrCat(out, kBackupIndex), Frame(kBackupFormat, IndexText(files))));
  RETURN_IF_ERROR(SyncDirectoryOf(absl::StrCat(out, kBackupIndex)));
  return files;
}

absl::StatusOr<std::vector<BackupFile>> Restore(const std::string& backup,
                                                const std::string& data_dir) {
  ASSIGN_OR_RETURN(std::vector<BackupFile> files, ReadIndex(backup));
  ASSIGN_OR_RETURN(const bool occupied, IsThereAndNotEmpty(data_dir));
  if (occupied) {
    return absl::FailedPreconditionError(absl::StrCat(data_dir, " is not empty: it is left alone"));
  }
  const std::string path = fs::path(data_dir + "/").parent_path();  // without a `/` at its end
  const std::string under_way = absl::StrCat(path, ".restoring");
  std::error_code ignored;
  fs::remove_all(under_way, ignored);  // of one that was ended early
  absl::Status status = CopyBack(backup, under_way, files);
  // Takes the place of an empty directory, too.
  if (status.ok() && rename(under_way.c_str(), path.c_str()) != 0) {
    status = SystemError(errno, absl::StrCat("cannot rename ", under_way, " to ", path));
  }
  if (status.ok()) status = SyncDirectoryOf(path);
  if (status.ok()) return files;
  fs::remove_all(under_way, ignored);
  return status;
}

}  // namespace engram
