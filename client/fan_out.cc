#include "client/fan_out.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/step_rows.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

// Whether every id is a row of the layer: then the order of the ids is that of the rows to fetch.
bool AllAreRows(std::span<const int64_t> ids, uint64_t layer_rows) {
  uint64_t beyond = 0;
  for (const int64_t id : ids) beyond |= static_cast<uint64_t>(id) >= layer_rows ? 1 : 0;
  return beyond == 0;
}

// Rows of a layer whose requests leave before the next layer is made ready.
constexpr size_t kLargeLayer = 16384;

// What a socket holds is read at once; hits are copied in a fraction of a millisecond.
constexpr int kReadsAtOnce = 32;
constexpr size_t kHitsAtOnce = 1024;

// How long lookups wait at most for those under way before a table is changed, and how long until
// that is tried again.
constexpr absl::Duration kChangeWait = absl::Seconds(1);

// Rows that were asked for rightly, of the right table, and cannot be had.
bool IsMissing(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kDataLoss:
      return true;
    default:
      return false;
  }
}

}  // namespace

FanOut::FanOut(const ClientOptions& options, const ServerLink::Shared& shared, Resolver* resolver)
    : loop_(shared.loop), dispatch_(options, shared, resolver, this) {}

// ---------------------------------------------------------------- a lookup's way out

void FanOut::Start(std::shared_ptr<Lookup> lookup) {
  if (lookup->AllDone()) {  // By whoever has submitted it: see FinishAtOnce.
    ended_.push_back(std::move(lookup));
    return CallBack();
  }
  if (changing_ && !shutdown_) return waiting_.push_back(std::move(lookup));
  Begin(std::move(lookup));
}

void FanOut::Begin(std::shared_ptr<Lookup> lookup) {
  lookup->table = table();
  lookup->active_index = active_.size();
  active_.push_back(lookup);
  next_deadline_ = std::min(next_deadline_, lookup->deadline);
  for (LookupLayer& layer : lookup->layers()) {
    if (shutdown_) {
      FailLayer(*lookup, layer, absl::CancelledError("the client is closing"));
    } else if (lookup->dropped.load(std::memory_order_relaxed)) {
      FailLayer(*lookup, layer, absl::CancelledError("the lookup was cancelled"));
    } else {
      StartLayer(lookup, layer);
    }
  }
  CallBack();
}

void FanOut::Resume(const std::shared_ptr<Lookup>& lookup, uint32_t layer) {
  LookupLayer& resumed = *lookup->FindLayer(layer);
  if (resumed.done.load(std::memory_order_relaxed)) return;
  StartLayer(lookup, resumed);
  CallBack();
}

void FanOut::StartLayer(const std::shared_ptr<Lookup>& lookup, LookupLayer& layer) {
  if (WaitForAhead(lookup, layer)) return;  // Resume comes back here.
  layer.requests = 1;                       // Its start: nothing else finishes the layer meanwhile.
  const absl::Status status = SendLayer(lookup, layer);
  if (!status.ok()) {
    FailLayer(*lookup, layer, status);
  } else if (!layer.copies.empty() || folder_->hits() > 0) {
    Flush();  // What must travel does so while the rest is copied.
    if (!layer.done.load(std::memory_order_relaxed)) CopyAhead(*lookup, layer);
    CopyHits(layer);
  } else if (layer.rows >= kLargeLayer) {
    Flush();
  }
  --layer.requests;
  EndPart(*lookup, layer);
}

void FanOut::TakeIn(const LookupLayer& layer) {
  if (layer.rows < kLargeLayer) return;
  for (int reads = 0; reads < kReadsAtOnce && loop_->Poll(absl::ZeroDuration()); ++reads) {
  }
}

// Piece by piece: what is taken in meanwhile may be that the layer has failed.
void FanOut::CopyHits(const LookupLayer& layer) {
  for (size_t begin = 0; begin < folder_->hits(); begin += kHitsAtOnce) {
    if (layer.done.load(std::memory_order_relaxed)) return;
    folder_->CopyHits(layer, begin, std::min(begin + kHitsAtOnce, folder_->hits()));
    TakeIn(layer);
  }
}

absl::Status FanOut::SendLayer(const std::shared_ptr<Lookup>& lookup, LookupLayer& layer) {
  RETURN_IF_ERROR(FillIds(*lookup, servers().table()->geometry.layers()[layer.index],
                          hasher_.has_value() ? &*hasher_ : nullptr, layer));
  RETURN_IF_ERROR(Plan(*lookup, layer));
  if (layer.plan != nullptr) {
    dispatch_.stats().masked_rows.Add(ZeroMissing(*lookup, layer));
  }
  const std::vector<Segment>& segments = servers().map().layer(layer.index).all();
  for (size_t group = 0; group < segments.size(); ++group) {
    const size_t begin = layer.plan == nullptr ? 0 : layer.plan->group_begin[group];
    const size_t end =
        layer.plan == nullptr ? layer.ids.size() : layer.plan->group_begin[group + 1];
    const absl::Status status = dispatch_.Send(lookup, layer, segments[group], begin, end);
    if (status.ok()) continue;
    if (lookup->missing == MissingRows::kFail || !IsMissing(status)) return status;
    NoteMissing(*lookup, layer, begin, end);
  }
  return absl::OkStatus();
}

// Says which rows go where, unless all go to one segment as they stand.
absl::Status FanOut::Plan(const Lookup& lookup, LookupLayer& layer) {
  TakeIn(layer);
  const bool folded = folder_->Fold(lookup, layer);
  TakeIn(layer);
  // From here until its parts are sent nothing is taken in: that could change the map.
  const TableInfo& table = *servers().table();
  const uint64_t layer_rows = table.geometry.layers()[layer.index].rows;
  const LayerSegments& segments = servers().map().layer(layer.index);
  if (!folded && segments.all().size() == 1 && AllAreRows(layer.ids, layer_rows)) {
    return absl::OkStatus();
  }
  if (spare_plans_.empty()) spare_plans_.push_back(std::make_unique<ShardPlan>());
  layer.plan = std::move(spare_plans_.back());
  spare_plans_.pop_back();
  layer.cache_rows = folder_->cache_rows();
  const absl::Status status = folded ? PlanShards(layer.ids, layer_rows, segments,
                                                  folder_->columns(), folder_->fold(), *layer.plan)
                                     : PlanShards(layer.ids, layer_rows, segments, *layer.plan);
  if (!status.ok()) {
    return absl::Status(status.code(), absl::StrCat("layer ", layer.layer, ": ", status.message()));
  }
  return absl::OkStatus();
}

// ---------------------------------------------------------------- what comes of its parts

void FanOut::OnPartFailed(const Part& part, const absl::Status& why) {
  if (part.lookup->missing == MissingRows::kZeros && IsMissing(why)) {
    return NoteMissing(*part.lookup, part.layer, part.begin, part.end);
  }
  FailLayer(*part.lookup, part.layer, why);
}

void FanOut::OnPartOver(const Part& part) { EndPart(*part.lookup, part.layer); }

void FanOut::EndPart(Lookup& lookup, LookupLayer& layer) {
  if (layer.requests != 0) return;
  if (!layer.done.load(std::memory_order_relaxed)) FinishLayer(lookup, layer, absl::OkStatus());
  if (layer.plan != nullptr) spare_plans_.push_back(std::move(layer.plan));
}

void FanOut::OnAnswered() { CallBack(); }

void FanOut::NoteMissing(const Lookup& lookup, LookupLayer& layer, size_t begin, size_t end) {
  layer.missing.resize(lookup.degraded.size());
  for (size_t i = begin; i < end; ++i) {
    const size_t position = layer.plan == nullptr ? i : layer.plan->positions[i];
    layer.missing[position / lookup.columns.count()] = true;
  }
  if (layer.plan == nullptr) return;
  for (const RowCopy& copy : CopiesOf(*layer.plan, begin, end)) {
    if (copy.to != RowCopy::To::kPosition) continue;
    layer.missing[copy.place / lookup.columns.count()] = true;  // an n-gram's rows are one token's
  }
}

void FanOut::Degrade(Lookup& lookup, LookupLayer& layer) {
  const uint32_t columns = lookup.columns.count();
  uint64_t tokens = 0;
  for (uint32_t token = 0; token < layer.missing.size(); ++token) {
    if (!layer.missing[token]) continue;
    for (uint32_t column = 0; column < columns; ++column) {
      layer.target.ZeroRow(token * columns + column);
    }
    lookup.degraded[token] = 1;
    ++tokens;
  }
  StatsCounters::Add(dispatch_.stats().degraded_tokens, tokens);
}

void FanOut::FinishLayer(Lookup& lookup, LookupLayer& layer, const absl::Status& status) {
  folder_->End(layer, status.ok() && layer.missing.empty());
  if (status.ok() && layer.parts_over > 1) {
    dispatch_.stats().straggler_gap.Observe(layer.last_over - layer.first_over);
  }
  if (status.ok() && !layer.missing.empty()) Degrade(lookup, layer);
  if (!lookup.Finish(layer, status)) return;
  const size_t index = lookup.active_index;
  ended_.push_back(std::move(active_[index]));
  if (index + 1 != active_.size()) {
    active_[index] = std::move(active_.back());
    active_[index]->active_index = index;
  }
  active_.pop_back();
}

// Ends a layer at once. Its requests that wait are skipped when their turn comes; those in flight
// are cancelled, and what still comes of them is dropped.
void FanOut::FailLayer(Lookup& lookup, LookupLayer& layer, const absl::Status& why) {
  if (layer.done.load(std::memory_order_relaxed)) return;
  FinishLayer(lookup, layer, why);
  dispatch_.Cancel(layer);
}

void FanOut::Cancel(Lookup& lookup, const absl::Status& why) {
  const auto waiting = std::find_if(waiting_.begin(), waiting_.end(),
                                    [&](const auto& each) { return each.get() == &lookup; });
  if (waiting != waiting_.end()) {
    std::shared_ptr<Lookup> begun = std::move(*waiting);
    waiting_.erase(waiting);
    Begin(std::move(begun));
  }
  for (LookupLayer& layer : lookup.layers()) FailLayer(lookup, layer, why);
  CallBack();
}

void FanOut::CountEnd(const Lookup& lookup) {
  if (lookup.fills_cache) return;
  StatsCounters& stats = dispatch_.stats();
  stats.lookups.Add(1);
  const bool failed =
      std::any_of(lookup.layers().begin(), lookup.layers().end(), [](const LookupLayer& layer) {
        return !layer.status.ok() && !absl::IsCancelled(layer.status);
      });
  if (failed) stats.failed_lookups.Add(1);
  if (lookup.memory == nullptr) stats.fetch.Observe(absl::Now() - lookup.submitted);
}

void FanOut::CallBack() {
  while (!ended_.empty()) {
    const std::shared_ptr<Lookup> lookup = std::move(ended_.back());
    ended_.pop_back();
    CountEnd(*lookup);
    lookup->CallBack();
  }
  ChangeTableIfQuiet();
}

// ---------------------------------------------------------------- another table

void FanOut::TakeTable() {
  uint64_t table = 0;
  std::memcpy(&table, servers().table()->digest.data(), sizeof(table));
  table_.store(table, std::memory_order_relaxed);
}

absl::Time FanOut::NextChange() const {
  if (changing_) return change_until_;
  return servers().next_digest().has_value() ? change_after_ : absl::InfiniteFuture();
}

void FanOut::ChangeTable(absl::Time now) {
  if (now < NextChange() || folder_ == nullptr) return;
  if (changing_) {  // They take too long.
    change_after_ = now + kChangeWait;
    return BeginWaiting();
  }
  changing_ = true;
  change_until_ = now + kChangeWait;
}

void FanOut::ChangeTableIfQuiet() {
  if (!changing_ || !active_.empty()) return;
  servers().TakeNextDigest();
  TakeTable();
  folder_->ChangeTable();
  BeginWaiting();
}

void FanOut::BeginWaiting() {
  changing_ = false;
  for (std::shared_ptr<Lookup>& lookup : std::exchange(waiting_, {})) Begin(std::move(lookup));
}

// ---------------------------------------------------------------- time

void FanOut::Tick(absl::Time now) {
  dispatch_.Tick(now);
  if (now >= next_deadline_) EndOverdue(now);
  ChangeTable(now);
  CallBack();
}

void FanOut::EndOverdue(absl::Time now) {
  next_deadline_ = absl::InfiniteFuture();
  for (const std::shared_ptr<Lookup>& lookup : std::vector(active_)) {
    if (lookup->deadline > now) {
      next_deadline_ = std::min(next_deadline_, lookup->deadline);
      continue;
    }
    for (LookupLayer& layer : lookup->layers()) EndOverdueLayer(*lookup, layer);
  }
}

void FanOut::EndOverdueLayer(Lookup& lookup, LookupLayer& layer) {
  if (layer.done.load(std::memory_order_relaxed)) return;
  if (lookup.missing == MissingRows::kZeros) {
    dispatch_.ForEachPart(
        layer, [&](const Part& part) { NoteMissing(lookup, layer, part.begin, part.end); });
    FinishLayer(lookup, layer, absl::OkStatus());
    return dispatch_.Cancel(layer);
  }
  std::string message = absl::StrCat("rows of layer ", layer.layer, " did not come within ",
                                     absl::FormatDuration(lookup.timeout));
  const Part* first = nullptr;
  dispatch_.ForEachPart(layer, [&](const Part& part) {
    if (first == nullptr || part.segment.begin < first->segment.begin) first = &part;
  });
  if (first != nullptr) absl::StrAppend(&message, ": no answer for ", ToString(first->segment));
  FailLayer(lookup, layer, absl::DeadlineExceededError(message));
}

void FanOut::AddTo(ClientStats& stats) const {
  dispatch_.stats().AddTo(stats);
  if (folder_ != nullptr) folder_->AddTo(stats);
}

void FanOut::Shutdown() {
  shutdown_ = true;
  BeginWaiting();  // They fail at once.
  for (const std::shared_ptr<Lookup>& lookup : std::vector(active_)) {
    Cancel(*lookup, absl::CancelledError("the client is closing"));
  }
  dispatch_.Shutdown();
}

}  // namespace engram
