// What Generations does in the background when one was retired.
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

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
  constexpr size_t kBatchRows = 512;
  std::shared_ptr<const ChangedRows> lowest;
  bool readers = false;
  {
    MutexLock lock(&change_);
    std::erase_if(leaving_, [](const auto& each) { return each.expired(); });
    readers = !leaving_.empty();
    for (const auto& [id, held] : held_) {
      const std::vector<const OverlayStore*> overlays = OverlaysOf(*held->rows);
      if (overlays.empty()) return false;
      if (lowest == nullptr) lowest = overlays[0]->changed();
      if (lowest != overlays[0]->changed()) return false;
    }
  }
  if (readers) {  // of a generation without the overlay: they may gather what would be replaced.
    MutexLock lock(&mutex_);
    if (!stop_) fold_changed_.WaitUntil(&mutex_, absl::Now() + kLookAgain);
    return !stop_;
  }
  // Whoever reads from here on reads these rows in the overlay: what is published is on one of
  // those held.
  for (const ChangedRows::Layer& layer : lowest->layers()) {
    const std::span<const uint64_t> rows = layer.index.rows();
    for (size_t at = 0; at < rows.size(); at += kBatchRows) {
      if (Stopped()) return false;
      const absl::Status status =
          table_->rows->Replace(layer.id, rows.subspan(at, std::min(kBatchRows, rows.size() - at)),
                                layer.rows + at * lowest->row_bytes(), layer.checksums.data() + at);
      if (status.ok()) continue;
      Log(absl::StrCat("a retired generation's delta stays in memory: ", status.message()));
      return false;
    }
  }
  MutexLock lock(&change_);
  for (auto& [id, held] : held_) {
    HeldGeneration folded = *held;
    folded.rows = WithoutLowest(*OverlaysOf(*held->rows).back());
    leaving_.push_back(held);
    held = std::make_shared<const HeldGeneration>(std::move(folded));
  }
  ShowSet();
  Log(absl::StrCat(lowest->rows(), " rows of a delta were folded into the table"));
  return true;
}

bool Generations::FoldFiles() {
  KeptGeneration lower, upper;
  uint64_t id = 0;
  {
    MutexLock lock(&change_);
    const KeptGeneration* child = nullptr;
    for (const KeptGeneration& each : catalogue_.generations) {
      if (each.parent == 0 || each.state != KeptState::kRetired) continue;
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
