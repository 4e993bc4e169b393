#include "storage/generations.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/base/file.h"
#include "proto/base/status_macros.h"
#include "storage/memory_available.h"
#include "storage/overlay_store.h"

namespace engram {
namespace {

constexpr absl::string_view kDeltaPrefix = "delta-";

// The table's own rows, which live as long as it does.
std::shared_ptr<const RowStore> RowsOf(const std::shared_ptr<const Table>& table) {
  return {table, table->rows.get()};
}

absl::Status CheckMemory(const DeltaHeader& header) {
  constexpr uint64_t kOfRow = 32;  // more than what finds a row takes
  ASSIGN_OR_RETURN(const uint64_t available, MemoryAvailable());
  const uint64_t need = header.changed() * (header.row_bytes + kOfRow);
  if (need <= available) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("the delta takes ", need, " bytes of memory; ", available, " are available"));
}

absl::StatusOr<int> LockDirectory(const std::string& data_dir) {
  const std::string path = data_dir + "/lock";
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return SystemError(errno, absl::StrCat("cannot open ", path));
  if (flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
  close(fd);
  return absl::FailedPreconditionError(
      absl::StrCat("the data directory ", data_dir, " is another process's"));
}

}  // namespace

Generations::Generations(std::shared_ptr<const Table> table)
    : Generations(std::move(table), "", -1, nullptr) {
  MutexLock lock(&change_);
  catalogue_.generations.push_back({1, 0, table_->digest, KeptState::kActive});
  held_[1] = Hold(catalogue_.generations[0], RowsOf(table_));
  ShowSet();
}

Generations::Generations(std::shared_ptr<const Table> table, std::string data_dir, int lock_fd,
                         std::function<void(absl::string_view)> log)
    : table_(std::move(table)),
      data_dir_(std::move(data_dir)),
      lock_fd_(lock_fd),
      log_(std::move(log)) {}

Generations::~Generations() {
  {
    MutexLock lock(&mutex_);
    stop_ = true;
    fold_changed_.NotifyAll();
  }
  if (folder_.joinable()) folder_.join();
  if (lock_fd_ >= 0) close(lock_fd_);
}

absl::StatusOr<std::unique_ptr<Generations>> Generations::Open(
    std::shared_ptr<const Table> table, const std::string& data_dir,
    std::function<void(absl::string_view)> log) {
  if (mkdir(data_dir.c_str(), 0755) != 0 && errno != EEXIST) {
    return SystemError(errno, absl::StrCat("cannot make ", data_dir));
  }
  ASSIGN_OR_RETURN(const int lock_fd, LockDirectory(data_dir));
  std::unique_ptr<Generations> generations(
      new Generations(std::move(table), data_dir, lock_fd, std::move(log)));
  {
    MutexLock lock(&generations->change_);
    RETURN_IF_ERROR(generations->Restore());
  }
  generations->folder_ = std::thread([self = generations.get()] { self->FoldLoop(); });
  return generations;
}

std::string Generations::DeltaPath(uint64_t id) const {
  return absl::StrCat(data_dir_, "/", kDeltaPrefix, id);
}

// ---------------------------------------------------------------- what lasts

absl::Status Generations::Restore() {
  absl::StatusOr<Catalogue> kept = ReadCatalogue(data_dir_ + "/catalogue");
  if (absl::IsNotFound(kept.status())) {
    kept = Catalogue{table_->rows->ranges(), {{1, 0, table_->digest, KeptState::kActive}}};
  }
  RETURN_IF_ERROR(kept.status());
  // Where a fold was ended before the catalogue said so, the table is ahead of it.
  if (!kept->BeginAt(table_->digest)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the data directory ", data_dir_, " holds deltas on the table of digest ",
                     ToHex(kept->generations[0].digest), "; the checkpoint's is ",
                     ToHex(table_->digest), " (start with an empty directory)"));
  }
  if (kept->ranges != table_->rows->ranges()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the data directory ", data_dir_, " is of another shard than ", table_->shard.ToString()));
  }
  std::map<uint64_t, std::shared_ptr<const RowStore>> stores;
  for (const KeptGeneration& each : kept->generations) {
    if (each.parent == 0) {
      stores[each.id] = RowsOf(table_);
    } else {
      ASSIGN_OR_RETURN(stores[each.id], LoadDelta(each, stores[each.parent]));
    }
  }
  catalogue_ = *kept;
  for (const KeptGeneration& each : catalogue_.generations) {
    if (each.state != KeptState::kRetired) held_[each.id] = Hold(each, stores[each.id]);
  }
  RETURN_IF_ERROR(Commit(*std::move(kept)));
  WakeFolder();
  return RemoveLeftovers();
}

// Files that the catalogue does not name: of changes that were cut short.
absl::Status Generations::RemoveLeftovers() {
  std::error_code error;
  std::vector<std::string> leftovers;
  for (const auto& entry : std::filesystem::directory_iterator(data_dir_, error)) {
    const std::string name = entry.path().filename();
    const bool kept = std::any_of(catalogue_.generations.begin(), catalogue_.generations.end(),
                                  [&](const KeptGeneration& each) {
                                    return each.parent != 0 && entry.path() == DeltaPath(each.id);
                                  });
    if (!kept && (absl::StartsWith(name, kDeltaPrefix) || absl::StartsWith(name, "merged") ||
                  absl::StartsWith(name, "catalogue.tmp."))) {
      leftovers.push_back(entry.path());
    }
  }
  if (error) {
    return SystemError(error.value(), absl::StrCat("cannot list ", data_dir_));
  }
  for (const std::string& path : leftovers) unlink(path.c_str());
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const RowStore>> Generations::LoadDelta(
    const KeptGeneration& generation, std::shared_ptr<const RowStore> base) {
  ASSIGN_OR_RETURN(const auto reader, DeltaReader::Open(DeltaPath(generation.id)));
  if (reader->header().target != generation.digest) {
    return absl::DataLossError(absl::StrCat(reader->path(), " is of the table of digest ",
                                            ToHex(reader->header().target), ", not ",
                                            ToHex(generation.digest)));
  }
  RETURN_IF_ERROR(CheckMemory(reader->header()));
  ASSIGN_OR_RETURN(auto store, OverlayStore::Load(std::move(base), *reader));
  return std::shared_ptr<const RowStore>(std::move(store));
}

absl::Status Generations::Commit(Catalogue catalogue) {
  if (!data_dir_.empty()) RETURN_IF_ERROR(WriteCatalogue(data_dir_ + "/catalogue", catalogue));
  catalogue_ = std::move(catalogue);
  ShowSet();
  return absl::OkStatus();
}

uint64_t Generations::NextId() const { return std::max(catalogue_.next_id(), unsure_id_ + 1); }

void Generations::DropDelta(uint64_t id) {
  const absl::StatusOr<Catalogue> kept = ReadCatalogue(data_dir_ + "/catalogue");
  const bool named = kept.ok() ? kept->Find(id) != nullptr : !absl::IsNotFound(kept.status());
  if (named) {
    unsure_id_ = id;
  } else {
    unlink(DeltaPath(id).c_str());
  }
}

// ---------------------------------------------------------------- what readers see

std::shared_ptr<const HeldGeneration> Generations::Hold(const KeptGeneration& kept,
                                                        std::shared_ptr<const RowStore> rows) {
  HeldGeneration held{kept.digest, catalogue_.base, std::move(rows), 0};
  if (const KeptGeneration* parent = catalogue_.Find(kept.parent); parent != nullptr) {
    held.base = parent->digest;
    // Of a delta just loaded, which is the uppermost.
    held.changed_rows = OverlaysOf(*held.rows).back()->changed()->rows();
  }
  return std::make_shared<const HeldGeneration>(std::move(held));
}

void Generations::ShowSet() {
  std::vector<std::shared_ptr<const HeldGeneration>> held;
  size_t active = 0;
  for (const KeptGeneration& each : catalogue_.generations) {
    if (each.state == KeptState::kRetired) continue;
    if (each.state == KeptState::kActive) active = held.size();
    held.push_back(held_.at(each.id));
  }
  MutexLock lock(&mutex_);
  set_ = std::make_shared<const GenerationSet>(std::move(held), active);
  version_.fetch_add(1, std::memory_order_release);
  if (listener_) listener_();
}

std::shared_ptr<const GenerationSet> Generations::current() const {
  MutexLock lock(&mutex_);
  return set_;
}

void Generations::Listen(std::function<void()> listener) {
  MutexLock lock(&mutex_);
  listener_ = std::move(listener);
}

// ---------------------------------------------------------------- publish

absl::Status Generations::Publish(const DeltaPiece& piece) {
  MutexLock lock(&change_);
  if (catalogue_.FindServed(piece.target) != nullptr) return absl::OkStatus();
  const absl::Status status = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_) -> absl::Status {
    if (piece.first == 0) RETURN_IF_ERROR(BeginPublish(piece));
    RETURN_IF_ERROR(TakeRecords(piece));
    return piece.last ? EndPublish() : absl::OkStatus();
  }();
  if (!status.ok() || piece.last) {
    staging_.reset();
    WakeFolder();  // It waits while a delta comes in.
  }
  return status;
}

absl::Status Generations::BeginPublish(const DeltaPiece& piece) {
  staging_.reset();
  if (data_dir_.empty()) {
    return absl::FailedPreconditionError(
        "this server was started without --data-dir: it could not keep a delta over a restart");
  }
  size_t header_bytes = 0;
  ASSIGN_OR_RETURN(DeltaHeader header, DecodeDeltaHeader(piece.header, "the delta", header_bytes));
  if (header.target != piece.target) {
    return absl::InvalidArgumentError("the delta's header is of another target");
  }
  RETURN_IF_ERROR(CheckHeader(header));
  RETURN_IF_ERROR(CheckMemory(header));
  const uint64_t id = NextId();
  auto staging = std::make_unique<Staging>(id, catalogue_.FindServed(header.base)->id, header);
  ASSIGN_OR_RETURN(staging->writer, DeltaWriter::Create(DeltaPath(id), std::move(header)));
  staging_ = std::move(staging);
  return absl::OkStatus();
}

absl::Status Generations::CheckHeader(const DeltaHeader& header) {
  if (catalogue_.FindServed(header.base) == nullptr) {
    std::string held;
    for (const KeptGeneration& each : catalogue_.generations) {
      if (each.state == KeptState::kRetired) continue;
      absl::StrAppend(&held, held.empty() ? "" : ", ", ToHex(each.digest));
    }
    return absl::FailedPreconditionError(absl::StrCat(
        "the delta is on the table of digest ", ToHex(header.base), "; this server holds ", held));
  }
  std::optional<Sha256> map;
  if (table_->token_map.has_value()) map = table_->token_map->sha256();
  const RowLayout& layout = table_->rows->layout();
  bool same = header.row_bytes == layout.row_bytes() &&
              header.layers.size() == table_->geometry.layers().size();
  for (size_t i = 0; same && i < header.layers.size(); ++i) {
    const LayerGeometry& layer = table_->geometry.layers()[i];
    same = header.layers[i].layer == layer.layer_id && header.layers[i].rows == layer.rows;
  }
  if (!same || TableDigest(table_->geometry, layout, map, header.base_sum) != header.base ||
      TableDigest(table_->geometry, layout, map, header.target_sum) != header.target) {
    return absl::InvalidArgumentError(
        "the delta changes the table's geometry, row layout or token map: load the checkpoint "
        "instead");
  }
  if (TotalRows(table_->rows->ranges()) == table_->geometry.total_rows() && !header.whole()) {
    return absl::DataLossError("rows are missing: the delta's do not lead to its target");
  }
  return absl::OkStatus();
}

absl::Status Generations::TakeRecords(const DeltaPiece& piece) {
  if (staging_ == nullptr || staging_->header.target != piece.target ||
      staging_->taken != piece.first) {
    return absl::FailedPreconditionError(absl::StrCat(
        "a piece of a delta from its row ", piece.first, " on does not follow what came before"));
  }
  const size_t record = staging_->header.record_bytes();
  if (piece.records.size() % record != 0) {
    return absl::InvalidArgumentError("a piece of a delta ends within a row");
  }
  const auto* bytes = reinterpret_cast<const uint8_t*>(piece.records.data());
  for (size_t at = 0; at < piece.records.size(); at += record) {
    ASSIGN_OR_RETURN(const DeltaRow row, staging_->checker.Take(bytes + at));
    RETURN_IF_ERROR(staging_->writer->Add(row));
    ++staging_->taken;
  }
  return absl::OkStatus();
}

absl::Status Generations::EndPublish() {
  const DeltaHeader& header = staging_->header;
  if (staging_->taken != header.changed()) {
    return absl::DataLossError(absl::StrCat("the delta was cut off: ", staging_->taken, " of ",
                                            header.changed(), " rows came"));
  }
  RETURN_IF_ERROR(staging_->checker.Finish());
  RETURN_IF_ERROR(staging_->writer->Finish());
  Catalogue changed = catalogue_;
  const KeptGeneration kept = {staging_->id, staging_->parent, header.target, KeptState::kPrepared};
  changed.generations.push_back(kept);
  const auto parent = held_.find(staging_->parent);
  if (parent == held_.end()) {
    unlink(DeltaPath(kept.id).c_str());
    return absl::FailedPreconditionError("the delta's base was retired meanwhile");
  }
  absl::StatusOr<std::shared_ptr<const RowStore>> rows = LoadDelta(kept, parent->second->rows);
  absl::Status status = rows.status();
  if (status.ok()) {
    held_[kept.id] = Hold(kept, *rows);
    status = Commit(std::move(changed));
  }
  if (status.ok()) return status;
  held_.erase(kept.id);
  DropDelta(kept.id);
  return status;
}

// ---------------------------------------------------------------- activate, retire

absl::Status Generations::Activate(const Sha256& digest) {
  MutexLock lock(&change_);
  const KeptGeneration* const wanted = catalogue_.FindServed(digest);
  if (wanted == nullptr) {
    return absl::NotFoundError(absl::StrCat("the generation ", ToHex(digest), " is not held here"));
  }
  if (wanted->state == KeptState::kActive) return absl::OkStatus();
  Catalogue changed = catalogue_;
  for (KeptGeneration& each : changed.generations) {
    if (each.state == KeptState::kActive) each.state = KeptState::kPrepared;
    if (each.id == wanted->id) each.state = KeptState::kActive;
  }
  return Commit(std::move(changed));
}

absl::Status Generations::Retire(const Sha256& digest) {
  MutexLock lock(&change_);
  const KeptGeneration* const wanted = catalogue_.FindServed(digest);
  if (wanted == nullptr) {
    return absl::NotFoundError(absl::StrCat("the generation ", ToHex(digest), " is not held here"));
  }
  if (wanted->state == KeptState::kActive) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the generation ", ToHex(digest), " is the active one: activate another first"));
  }
  const uint64_t id = wanted->id;
  Catalogue changed = catalogue_;
  for (KeptGeneration& each : changed.generations) {
    if (each.id == id) each.state = KeptState::kRetired;
  }
  const std::vector<uint64_t> pruned = changed.Prune();
  RETURN_IF_ERROR(Commit(std::move(changed)));
  leaving_.push_back(held_.at(id));
  held_.erase(id);
  for (const uint64_t gone : pruned) unlink(DeltaPath(gone).c_str());
  WakeFolder();
  return absl::OkStatus();
}

void Generations::WakeFolder() {
  MutexLock lock(&mutex_);
  fold_wanted_ = true;
  fold_changed_.NotifyAll();
}

}  // namespace engram
