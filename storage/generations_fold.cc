// What Generations does in the background when one was retired.
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/base/file.h"
#include "proto/base/status_macros.h"
#include "storage/delta_merge.h"
#include "storage/generations.h"
#include "storage/overlay_store.h"

namespace engram {

void Generations::FoldLoop() {
  pthread_setname_np(pthread_self(), "engram-fold");
  while (true) {
    {
      MutexLock lock(&mutex_);
      while (!fold_wanted_ && !stop_) fold_changed_.Wait(&mutex_);
      if (stop_) return;
      fold_wanted_ = false;
    }
    while (FoldFiles()) {
    }
    while (FoldRows()) {
    }
  }
}

bool Generations::FoldRows() {
  constexpr absl::Duration kLookAgain = absl::Milliseconds(10);
  std::vector<std::shared_ptr<const ChangedRows>> shared;
  Sha256 target{};
  bool readers = false;
  {
    MutexLock lock(&change_);
    std::erase_if(leaving_, [](const auto& each) { return each.expired(); });
    readers = !leaving_.empty();
    shared = SharedOverlays();
    target = catalogue_.Trunk().back().digest;
  }
  if (shared.empty()) return false;
  if (readers) {  // of a generation without the overlays: they may gather what would be replaced.
    MutexLock lock(&mutex_);
    if (!stop_) fold_changed_.WaitUntil(&mutex_, absl::Now() + kLookAgain);
    return !stop_;
  }
  // Whoever reads from here on reads these rows in the overlays: what is published is on one of
  // those held.
  absl::Status status = table_->rows->Fold(shared, target, [this] { return Stopped(); });
  if (status.ok()) {
    MutexLock lock(&change_);
    status = DropFolded(shared.size(), target);
  }
  if (absl::IsCancelled(status)) return false;
  if (!status.ok()) {
    Log(absl::StrCat("a retired generation's delta stays in memory: ", status.message()));
    return false;
  }
  uint64_t rows = 0;
  for (const auto& changed : shared) rows += changed->rows();
  Log(absl::StrCat(rows, " rows of a delta were folded into the table"));
  return true;
}

std::vector<std::shared_ptr<const ChangedRows>> Generations::SharedOverlays() const {
  std::optional<std::vector<std::shared_ptr<const ChangedRows>>> shared;
  for (const auto& [id, held] : held_) {
    std::vector<std::shared_ptr<const ChangedRows>> its;
    for (const OverlayStore* overlay : OverlaysOf(*held->rows)) its.push_back(overlay->changed());
    if (!shared.has_value()) shared = its;
    const auto end = std::mismatch(shared->begin(), shared->end(), its.begin(), its.end()).first;
    shared->erase(end, shared->end());
  }
  return *std::move(shared);
}

absl::Status Generations::DropFolded(size_t overlays, const Sha256& target) {
  const bool kept = table_->rows->keeps_folds();
  Catalogue changed = catalogue_;
  if (kept && !changed.BeginAt(target)) {
    return absl::InternalError("what was folded is not below all that is served");
  }
  std::map<uint64_t, std::shared_ptr<const HeldGeneration>> folded;
  for (const auto& [id, held] : held_) {
    HeldGeneration without = *held;
    without.rows = WithoutLowest(*held->rows, overlays);
    if (kept && id == changed.generations[0].id) {
      without.base = changed.base;
      without.changed_rows = 0;
    }
    folded[id] = std::make_shared<const HeldGeneration>(std::move(without));
  }
  std::swap(held_, folded);  // They are what was held from here on.
  const std::vector<KeptGeneration> trunk = catalogue_.Trunk();
  if (!kept) {
    ShowSet();
  } else if (const absl::Status status = Commit(std::move(changed)); !status.ok()) {
    std::swap(held_, folded);
    return status;
  }
  for (const auto& [id, held] : folded) leaving_.push_back(held);
  for (const KeptGeneration& each : trunk) {
    const KeptGeneration* const now = catalogue_.Find(each.id);
    const bool has_delta = now != nullptr && now->parent != 0;
    if (each.parent != 0 && !has_delta) unlink(DeltaPath(each.id).c_str());
  }
  return absl::OkStatus();
}

bool Generations::FoldFiles() {
  KeptGeneration lower, upper;
  uint64_t id = 0;
  {
    MutexLock lock(&change_);
    const KeptGeneration* child = nullptr;
    // Deltas that are to be folded for good stay apart: the table may have gone from one to the
    // next already, and Restore must find where it is.
    const std::vector<KeptGeneration> trunk = catalogue_.Trunk();
    const auto to_be_folded = [&](const KeptGeneration& each) {
      return table_->rows->keeps_folds() &&
             std::find(trunk.begin(), trunk.end(), each) != trunk.end();
    };
    for (const KeptGeneration& each : catalogue_.generations) {
      if (each.parent == 0 || each.state != KeptState::kRetired || to_be_folded(each)) continue;
      const auto built_on_it = [&](const KeptGeneration& other) { return other.parent == each.id; };
      const auto& all = catalogue_.generations;
      if (std::count_if(all.begin(), all.end(), built_on_it) != 1) continue;
      child = &*std::find_if(all.begin(), all.end(), built_on_it);
      lower = each;
      upper = *child;
      break;
    }
    // A delta that is coming in has the next id, and builds on what is held.
    if (child == nullptr || staging_ != nullptr) return false;
    id = NextId();
  }
  const std::string merged = absl::StrCat(data_dir_, "/merged");
  absl::Status status = MergeDeltas(DeltaPath(lower.id), DeltaPath(upper.id), merged);
  MutexLock lock(&change_);
  const KeptGeneration* const still = catalogue_.Find(upper.id);
  // Retired meanwhile, or another delta came in between: next time.
  const bool as_it_was =
      still != nullptr && still->parent == lower.id && staging_ == nullptr && NextId() == id;
  if (status.ok() && as_it_was) {
    status = ReplaceByMerged(lower.id, upper.id, id, merged);
  }
  unlink(merged.c_str());
  if (!status.ok()) Log(absl::StrCat("a retired generation's delta stays: ", status.message()));
  return status.ok() && as_it_was && !Stopped();
}

absl::Status Generations::ReplaceByMerged(uint64_t lower, uint64_t upper, uint64_t id,
                                          const std::string& merged) {
  const std::string path = DeltaPath(id);
  if (rename(merged.c_str(), path.c_str()) != 0) {
    return SystemError(errno, absl::StrCat("cannot rename ", merged));
  }
  RETURN_IF_ERROR(SyncDirectoryOf(path));
  Catalogue changed = catalogue_;
  for (KeptGeneration& each : changed.generations) {
    if (each.id == upper) {
      each.id = id;
      each.parent = catalogue_.Find(lower)->parent;
    } else if (each.parent == upper) {
      each.parent = id;
    }
  }
  std::erase_if(changed.generations, [&](const KeptGeneration& each) { return each.id == lower; });
  const auto held = held_.find(upper);
  const bool is_held = held != held_.end();  // or retired, and others are built on it
  if (is_held) {
    HeldGeneration renamed = *held->second;
    ASSIGN_OR_RETURN(const auto reader, DeltaReader::Open(path));
    renamed.changed_rows = reader->header().changed();
    renamed.base = changed.Find(changed.Find(id)->parent)->digest;
    held_[id] = std::make_shared<const HeldGeneration>(std::move(renamed));
  }
  if (const absl::Status status = Commit(std::move(changed)); !status.ok()) {
    held_.erase(id);
    DropDelta(id);
    return status;
  }
  if (is_held) {
    leaving_.push_back(held_.at(upper));
    held_.erase(upper);
  }
  unlink(DeltaPath(lower).c_str());
  unlink(DeltaPath(upper).c_str());
  return absl::OkStatus();
}

bool Generations::Stopped() const {
  MutexLock lock(&mutex_);
  return stop_;
}

void Generations::Log(const std::string& line) const {
  if (log_) log_(line);
}

}  // namespace engram
