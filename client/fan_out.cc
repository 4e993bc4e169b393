#include "client/fan_out.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace engram {
namespace {

// Whether every id is a row of the layer: then the order of the ids is that of the rows to fetch.
bool AllAreRows(std::span<const int64_t> ids, uint64_t layer_rows) {
  uint64_t beyond = 0;
  for (const int64_t id : ids) beyond |= static_cast<uint64_t>(id) >= layer_rows ? 1 : 0;
  return beyond == 0;
}

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
    : dispatch_(options, shared, resolver, this) {}

// ---------------------------------------------------------------- a lookup's way out

void FanOut::Start(std::shared_ptr<Lookup> lookup) {
  lookup->active_index = active_.size();
  active_.push_back(lookup);
  next_deadline_ = std::min(next_deadline_, lookup->deadline);
  for (LookupLayer& layer : lookup->layers()) {
    if (shutdown_) {
      FailLayer(*lookup, layer, absl::CancelledError("the client is closing"));
    } else {
      StartLayer(lookup, layer);
    }
  }
  CallBack();
}

void FanOut::StartLayer(const std::shared_ptr<Lookup>& lookup, LookupLayer& layer) {
  Hash(*lookup, layer);
  absl::Status status = Plan(layer);
  if (!status.ok()) return FailLayer(*lookup, layer, status);
  const std::vector<Segment>& segments = servers().map().layer(layer.index).all();
  ++layer.requests;  // not over before all of it is sent
  for (size_t group = 0; group < segments.size() && status.ok(); ++group) {
    const size_t begin = layer.plan == nullptr ? 0 : layer.plan->group_begin[group];
    const size_t end =
        layer.plan == nullptr ? layer.ids.size() : layer.plan->group_begin[group + 1];
    status = dispatch_.Send(lookup, layer, segments[group], begin, end);
    if (status.ok() || lookup->on_missing == MissingRows::kFail || !IsMissing(status)) continue;
    NoteMissing(*lookup, layer, begin, end);
    status = absl::OkStatus();
  }
  if (!status.ok()) FailLayer(*lookup, layer, status);
  if (--layer.requests == 0 && !layer.done.load(std::memory_order_relaxed)) {
    FinishLayer(*lookup, layer, absl::OkStatus());
  }
}

void FanOut::Hash(const Lookup& lookup, LookupLayer& layer) const {
  if (lookup.compressed.empty()) return;  // A lookup by row ids.
  const size_t columns = hasher_->columns();
  layer.hashed_ids.resize(lookup.compressed.size() * columns);
  hasher_->HashChunk(layer.index, lookup.compressed, lookup.dead, lookup.before, layer.hashed_ids);
  // The consumer masks dead positions: their rows (all pad) need not travel.
  for (size_t position = 0; position < lookup.dead.size(); ++position) {
    if (lookup.dead[position] != 0) {
      std::fill_n(layer.hashed_ids.data() + position * columns, columns, kNoRow);
    }
  }
  layer.ids = layer.hashed_ids;
}

// Says which rows go where, unless all go to one segment as they stand, and fills the places that
// ask for no row.
absl::Status FanOut::Plan(LookupLayer& layer) {
  const TableInfo& table = *servers().table();
  const uint64_t layer_rows = table.geometry.layers()[layer.index].rows;
  const LayerSegments& segments = servers().map().layer(layer.index);
  if (segments.all().size() == 1 && AllAreRows(layer.ids, layer_rows)) return absl::OkStatus();
  if (spare_plans_.empty()) spare_plans_.push_back(std::make_unique<ShardPlan>());
  layer.plan = std::move(spare_plans_.back());
  spare_plans_.pop_back();
  const absl::Status status = PlanShards(layer.ids, layer_rows, segments, *layer.plan);
  if (!status.ok()) {
    return absl::Status(status.code(), absl::StrCat("layer ", layer.layer, ": ", status.message()));
  }
  const size_t row_bytes = table.layout.row_bytes();
  for (const uint32_t position : layer.plan->none) {
    std::memset(layer.out.data() + position * row_bytes, 0, row_bytes);
  }
  return absl::OkStatus();
}

// ---------------------------------------------------------------- what comes of its parts

void FanOut::OnPartFailed(const Part& part, const absl::Status& why) {
  if (part.lookup->on_missing == MissingRows::kZeros && IsMissing(why)) {
    return NoteMissing(*part.lookup, part.layer, part.begin, part.end);
  }
  FailLayer(*part.lookup, part.layer, why);
}

void FanOut::OnPartOver(const Part& part) {
  LookupLayer& layer = part.layer;
  if (layer.requests != 0) return;
  if (!layer.done.load(std::memory_order_relaxed)) {
    FinishLayer(*part.lookup, layer, absl::OkStatus());
  }
  if (layer.plan != nullptr) spare_plans_.push_back(std::move(layer.plan));
}

void FanOut::OnAnswered() { CallBack(); }

void FanOut::NoteMissing(const Lookup& lookup, LookupLayer& layer, size_t begin, size_t end) {
  layer.missing.resize(lookup.degraded.size());
  const size_t columns = layer.ids.size() / lookup.degraded.size();
  for (size_t i = begin; i < end; ++i) {
    const size_t position = layer.plan == nullptr ? i : layer.plan->positions[i];
    layer.missing[position / columns] = true;
  }
}

void FanOut::Degrade(Lookup& lookup, LookupLayer& layer) {
  const size_t token_bytes = layer.out.size() / lookup.degraded.size();
  uint64_t tokens = 0;
  for (size_t token = 0; token < layer.missing.size(); ++token) {
    if (!layer.missing[token]) continue;
    std::memset(layer.out.data() + token * token_bytes, 0, token_bytes);
    lookup.degraded[token] = 1;
    ++tokens;
  }
  StatsCounters::Add(dispatch_.stats().degraded_tokens, tokens);
}

void FanOut::FinishLayer(Lookup& lookup, LookupLayer& layer, const absl::Status& status) {
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
  for (LookupLayer& layer : lookup.layers()) FailLayer(lookup, layer, why);
  CallBack();
}

void FanOut::CallBack() {
  while (!ended_.empty()) {
    const std::shared_ptr<Lookup> lookup = std::move(ended_.back());
    ended_.pop_back();
    lookup->CallBack();
  }
}

// ---------------------------------------------------------------- time

void FanOut::Tick(absl::Time now) {
  dispatch_.Tick(now);
  if (now >= next_deadline_) EndOverdue(now);
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
  if (lookup.on_missing == MissingRows::kZeros) {
    dispatch_.ForEachPart(
        layer, [&](const Part& part) { NoteMissing(lookup, layer, part.begin, part.end); });
    FinishLayer(lookup, layer, absl::OkStatus());
    return dispatch_.Cancel(layer);
  }
  FailLayer(lookup, layer,
            absl::DeadlineExceededError(absl::StrCat("rows of layer ", layer.layer,
                                                     " did not come within ",
                                                     absl::FormatDuration(lookup.timeout))));
}

void FanOut::Shutdown() {
  shutdown_ = true;
  for (const std::shared_ptr<Lookup>& lookup : std::vector(active_)) {
    Cancel(*lookup, absl::CancelledError("the client is closing"));
  }
  servers().Shutdown();
}

}  // namespace engram
