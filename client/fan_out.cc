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

// Layers of so many rows have ids that do not fit into 32 bits beside "no row".
constexpr uint64_t kWideRows = UINT32_MAX;

template <typename Wire, typename Row>
void EncodeIds(const Row* rows, size_t count, uint8_t* out) {
  for (size_t i = 0; i < count; ++i, out += sizeof(Wire)) {
    const Wire id = static_cast<Wire>(rows[i]);
    std::memcpy(out, &id, sizeof(id));
  }
}

// Whether every id is a row of the layer: then the order of the ids is that of the rows to fetch.
bool AllAreRows(std::span<const int64_t> ids, uint64_t layer_rows) {
  uint64_t beyond = 0;
  for (const int64_t id : ids) beyond |= static_cast<uint64_t>(id) >= layer_rows ? 1 : 0;
  return beyond == 0;
}

WirePriority ToWire(LookupPriority priority) {
  return priority == LookupPriority::kDecode ? WirePriority::kDecode : WirePriority::kPrefill;
}

}  // namespace

FanOut::Request::Request(std::shared_ptr<Lookup> its_lookup, LookupLayer& its_layer, size_t from,
                         size_t to)
    : lookup(std::move(its_lookup)),
      layer(its_layer),
      begin(from),
      end(to),
      scatter(layer.plan == nullptr ? nullptr : layer.plan->positions.data() + from, from,
              to - from, layer.target) {}

FanOut::FanOut(const ClientOptions& options, const ServerLink::Shared& shared)
    : options_(options), servers_(options.servers.size()), lanes_(servers_.size() * kLanes) {
  for (size_t i = 0; i < lanes_.size(); ++i) {
    const bool urgent = i % kLanes == static_cast<size_t>(LookupPriority::kDecode);
    lanes_[i].link = std::make_unique<ServerLink>(i, options.servers[i / kLanes], urgent,
                                                  options.expect_digest, shared, this);
  }
}

// ---------------------------------------------------------------- lookups

void FanOut::Start(std::shared_ptr<Lookup> lookup) {
  lookup->active_index = active_.size();
  active_.push_back(lookup);
  next_deadline_ = std::min(next_deadline_, lookup->deadline);
  next_tick_ = std::min(next_tick_, next_deadline_);
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
  } else if (!layer.copies.empty()) {
    Flush();  // What must travel does so while the rest is copied.
    if (!layer.done.load(std::memory_order_relaxed)) CopyAhead(*lookup, layer);
  }
  EndRequest(*lookup, layer);
}

absl::Status FanOut::SendLayer(const std::shared_ptr<Lookup>& lookup, LookupLayer& layer) {
  RETURN_IF_ERROR(FillIds(*lookup, table_->geometry.layers()[layer.index],
                          hasher_.has_value() ? &*hasher_ : nullptr, layer));
  RETURN_IF_ERROR(Plan(layer));
  const std::vector<Segment>& segments = map_->layer(layer.index).all();
  if (layer.plan == nullptr) {
    return SendGroup(lookup, layer, segments[0], 0, layer.ids.size());
  }
  ZeroMissing(*lookup, layer);
  for (size_t group = 0; group < segments.size(); ++group) {
    RETURN_IF_ERROR(SendGroup(lookup, layer, segments[group], layer.plan->group_begin[group],
                              layer.plan->group_begin[group + 1]));
  }
  return absl::OkStatus();
}

// Says which rows go where, unless all go to one segment as they stand.
absl::Status FanOut::Plan(LookupLayer& layer) {
  const uint64_t layer_rows = table_->geometry.layers()[layer.index].rows;
  const LayerSegments& segments = map_->layer(layer.index);
  if (segments.all().size() == 1 && AllAreRows(layer.ids, layer_rows)) return absl::OkStatus();
  if (spare_plans_.empty()) spare_plans_.push_back(std::make_unique<ShardPlan>());
  layer.plan = std::move(spare_plans_.back());
  spare_plans_.pop_back();
  const absl::Status status = PlanShards(layer.ids, layer_rows, segments, *layer.plan);
  if (!status.ok()) {
    return absl::Status(status.code(), absl::StrCat("layer ", layer.layer, ": ", status.message()));
  }
  return absl::OkStatus();
}

absl::StatusOr<size_t> FanOut::PickServer(LookupPriority priority, uint32_t layer,
                                          const Segment& segment) const {
  const Lane* best = nullptr;
  size_t server = 0;
  for (const size_t candidate : segment.servers) {
    const Lane& lane = LaneTo(candidate, priority);
    if (!lane.link->usable()) continue;
    if (best == nullptr || lane.bytes_in_flight < best->bytes_in_flight) {
      best = &lane;
      server = candidate;
    }
  }
  if (best != nullptr) return server;
  std::string message = absl::StrCat("no server is up that holds ",
                                     ToString(RowRange{layer, segment.begin, segment.end}));
  const char* separator = ": ";
  for (const size_t holder : segment.servers) {
    absl::StrAppend(&message, separator, LaneTo(holder, priority).link->status().message());
    separator = "; ";
  }
  return absl::UnavailableError(message);
}

// Rows [begin, end) of the plan, all held by the segment's servers, as requests to one of them.
absl::Status FanOut::SendGroup(const std::shared_ptr<Lookup>& lookup, LookupLayer& layer,
                               const Segment& segment, size_t begin, size_t end) {
  if (begin == end) return absl::OkStatus();
  ASSIGN_OR_RETURN(const size_t server, PickServer(lookup->priority, layer.layer, segment));
  Lane& lane = LaneTo(server, lookup->priority);
  const size_t step = std::min<uint64_t>(options_.rows_per_request, servers_[server].max_rows);
  for (; begin < end; begin += std::min(step, end - begin)) {
    lane.waiting.push_back(
        std::make_unique<Request>(lookup, layer, begin, std::min(begin + step, end)));
    ++layer.requests;
  }
  SendWaiting(lane);
  return absl::OkStatus();
}

// As far as the credit goes; one request is always let through.
void FanOut::SendWaiting(Lane& lane) {
  while (!lane.waiting.empty()) {
    const Request& next = *lane.waiting.front();
    const bool over = next.layer.done.load(std::memory_order_relaxed);
    if (!over && lane.bytes_in_flight != 0 &&
        lane.bytes_in_flight + next.scatter.bytes_left() > options_.credit_bytes) {
      return;
    }
    std::unique_ptr<Request> request = std::move(lane.waiting.front());
    lane.waiting.pop_front();
    if (over) {
      EndRequest(*request->lookup, request->layer);
    } else {
      SendRequest(lane, std::move(request));
    }
  }
}

void FanOut::SendRequest(Lane& lane, std::unique_ptr<Request> request) {
  const uint64_t id = next_request_id_++;
  const LookupLayer& layer = request->layer;
  const bool wide = table_->geometry.layers()[layer.index].rows >= kWideRows;
  const int64_t budget_us =
      std::max<int64_t>(1, absl::ToInt64Microseconds(request->lookup->deadline - absl::Now()));
  const size_t count = request->end - request->begin;
  uint8_t header[kMaxRequestHeader];
  const size_t header_bytes =
      EncodeRequestHeader(id, table_->digest, layer.layer, ToWire(request->lookup->priority),
                          static_cast<uint64_t>(budget_us), 0, count, wide, header);
  const size_t id_bytes = count * (wide ? sizeof(uint64_t) : sizeof(uint32_t));
  uint8_t* const message = AddMessage(lane, header_bytes + id_bytes).data();
  std::memcpy(message, header, header_bytes);
  const auto encode = [&](const auto* rows) {
    (wide ? EncodeIds<uint64_t, std::decay_t<decltype(*rows)>>
          : EncodeIds<uint32_t, std::decay_t<decltype(*rows)>>)(rows + request->begin, count,
                                                                message + header_bytes);
  };
  layer.plan == nullptr ? encode(layer.ids.data()) : encode(layer.plan->rows.data());
  lane.bytes_in_flight += request->scatter.bytes_left();
  lane.in_flight.emplace(id, std::move(request));
}

void FanOut::SendCancel(Lane& lane, uint64_t request_id) {
  const std::string cancel = EncodeCancel(request_id);
  std::memcpy(AddMessage(lane, cancel.size()).data(), cancel.data(), cancel.size());
}

std::span<uint8_t> FanOut::AddMessage(Lane& lane, size_t bytes) {
  if (!std::exchange(lane.unsent, true)) unsent_.push_back(&lane);
  return lane.link->AddMessage(bytes);
}

void FanOut::Flush() {
  while (!unsent_.empty()) {
    Lane& lane = *unsent_.back();
    unsent_.pop_back();
    lane.unsent = false;
    lane.link->Flush();
  }
}

// ---------------------------------------------------------------- answers

absl::Status FanOut::OnAnswer(size_t link, const StreamResponse& header) {
  Lane& lane = lanes_[link];
  lane.receiving = header.request_id;
  lane.receiving_last = header.last;
  if (header.kind != ResponseKind::kAnswer) return absl::OkStatus();  // A notice we do not know.
  const auto it = lane.in_flight.find(header.request_id);
  if (it == lane.in_flight.end()) {
    return absl::InternalError(absl::StrCat("answer to unknown request ", header.request_id));
  }
  Request& request = *it->second;
  if (header.code == 0) return CheckPiece(request, header);
  FailLayer(*request.lookup, request.layer,
            absl::Status(static_cast<absl::StatusCode>(header.code),
                         absl::StrCat("layer ", request.layer.layer, ": server ",
                                      lane.link->address(), ": ", header.message)));
  return absl::OkStatus();
}

absl::Status FanOut::CheckPiece(Request& request, const StreamResponse& header) const {
  const uint64_t left = request.scatter.bytes_left();
  if (header.piece != request.next_piece || !header.failures.empty() ||
      header.rows_bytes % table_->layout.row_bytes() != 0) {
    return absl::InternalError(absl::StrCat("piece ", header.piece, " of ", header.rows_bytes,
                                            " bytes, expected piece ", request.next_piece));
  }
  if (header.rows_bytes > left) return absl::InternalError("more rows than were asked for");
  if (header.last && header.rows_bytes != left) {
    return absl::InternalError(
        absl::StrCat("the last piece leaves ", left - header.rows_bytes, " bytes missing"));
  }
  ++request.next_piece;
  return absl::OkStatus();
}

absl::Status FanOut::OnRows(size_t link, std::span<const uint8_t> bytes) {
  Lane& lane = lanes_[link];
  const auto it = lane.in_flight.find(lane.receiving);
  if (it == lane.in_flight.end()) return absl::InternalError("rows without a request");
  Request& request = *it->second;
  // Of a layer that has been ended, the buffer is the caller's again.
  const bool wanted = !request.layer.done.load(std::memory_order_relaxed);
  const bool fits = wanted ? request.scatter.Append(bytes.data(), bytes.size())
                           : request.scatter.Skip(bytes.size());
  if (!fits) return absl::InternalError("more rows than were asked for");
  lane.bytes_in_flight -= bytes.size();
  return absl::OkStatus();
}

absl::Status FanOut::OnAnswerEnd(size_t link) {
  Lane& lane = lanes_[link];
  const auto it = lane.in_flight.find(lane.receiving);
  if (lane.receiving_last && it != lane.in_flight.end()) {
    const std::unique_ptr<Request> over = std::move(it->second);
    lane.in_flight.erase(it);
    lane.bytes_in_flight -= over->scatter.bytes_left();
    EndRequest(*over->lookup, over->layer);
    SendWaiting(lane);
  }
  CallBack();
  return absl::OkStatus();
}

void FanOut::EndRequest(Lookup& lookup, LookupLayer& layer) {
  if (--layer.requests != 0) return;
  if (layer.plan != nullptr) spare_plans_.push_back(std::move(layer.plan));
  if (!layer.done.load(std::memory_order_relaxed)) FinishLayer(lookup, layer, absl::OkStatus());
}

void FanOut::FinishLayer(Lookup& lookup, LookupLayer& layer, const absl::Status& status) {
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
  for (Lane& lane : lanes_) {
    if (!lane.link->usable()) continue;
    for (const auto& [id, request] : lane.in_flight) {
      if (&request->layer != &layer) continue;
      SendCancel(lane, id);
    }
  }
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
  for (Lane& lane : lanes_) lane.link->Tick(now);
  if (now >= next_deadline_) EndOverdue(now);
  next_tick_ = next_deadline_;
  for (const Lane& lane : lanes_) next_tick_ = std::min(next_tick_, lane.link->next_tick());
}

void FanOut::EndOverdue(absl::Time now) {
  next_deadline_ = absl::InfiniteFuture();
  for (const std::shared_ptr<Lookup>& lookup : std::vector(active_)) {
    if (lookup->deadline > now) {
      next_deadline_ = std::min(next_deadline_, lookup->deadline);
      continue;
    }
    for (LookupLayer& layer : lookup->layers()) {
      FailLayer(*lookup, layer,
                absl::DeadlineExceededError(absl::StrCat("rows of layer ", layer.layer,
                                                         " did not come within ",
                                                         absl::FormatDuration(lookup->timeout))));
    }
  }
  CallBack();
}

void FanOut::Shutdown() {
  shutdown_ = true;
  for (const std::shared_ptr<Lookup>& lookup : std::vector(active_)) {
    Cancel(*lookup, absl::CancelledError("the client is closing"));
  }
  for (Lane& lane : lanes_) lane.link->Shutdown();
}

// ---------------------------------------------------------------- servers

absl::Status FanOut::Accept(size_t link, ServerInfo info) {
  const std::string& address = lanes_[link].link->address();
  if (!table_.has_value()) {
    table_ =
        TableInfo{info.model, info.geometry, info.layout, info.token_map, info.digest, address};
  } else if (info.digest != table_->digest || info.layout != table_->layout ||
             info.geometry.params() != table_->geometry.params()) {
    const absl::Status conflict = absl::FailedPreconditionError(
        absl::StrCat("serves the table of digest ", ToHex(info.digest), ", but ", table_->source,
                     " serves that of ", ToHex(table_->digest)));
    MutexLock lock(&mutex_);
    connection_.conflict =
        absl::Status(conflict.code(), absl::StrCat(address, " ", conflict.message()));
    return conflict;
  }
  Server& server = servers_[link / kLanes];
  server.ranges = std::move(info.ranges);
  server.max_rows = info.max_rows_per_request;
  std::vector<std::vector<RowRange>> held;
  for (const Server& each : servers_) held.push_back(each.ranges);
  map_.emplace(table_->geometry, held);
  return absl::OkStatus();
}

void FanOut::OnChange(size_t link) {
  const size_t server = link / kLanes;
  next_tick_ = std::min(next_tick_, lanes_[link].link->next_tick());
  if (options_.log && StatusOf(server).ok()) {
    options_.log(absl::StrCat("server ", options_.servers[server], " is up"));
  }
  PublishConnection();
}

void FanOut::OnDown(size_t link, const absl::Status& why) {
  Lane& lane = lanes_[link];
  if (options_.log) options_.log(why.message());
  // Requests go with their stream: nothing of them can be trusted to come.
  const auto in_flight = std::exchange(lane.in_flight, {});
  const auto waiting = std::exchange(lane.waiting, {});
  lane.bytes_in_flight = 0;
  const auto end = [&](const Request& request) {
    FailLayer(*request.lookup, request.layer, why);
    EndRequest(*request.lookup, request.layer);
  };
  for (const auto& [id, request] : in_flight) end(*request);
  for (const auto& request : waiting) end(*request);
  CallBack();
}

std::vector<bool> FanOut::Usable() const {
  std::vector<bool> usable;
  for (size_t i = 0; i < servers_.size(); ++i) {
    usable.push_back(LaneTo(i, LookupPriority::kDecode).link->usable() &&
                     LaneTo(i, LookupPriority::kPrefill).link->usable());
  }
  return usable;
}

const absl::Status& FanOut::StatusOf(size_t server) const {
  const absl::Status& decode = LaneTo(server, LookupPriority::kDecode).link->status();
  return decode.ok() ? LaneTo(server, LookupPriority::kPrefill).link->status() : decode;
}

void FanOut::PublishConnection() {
  MutexLock lock(&mutex_);
  connection_.table = table_;
  if (map_.has_value()) connection_.missing = map_->Missing(Usable());
  connection_.servers.clear();
  for (size_t i = 0; i < servers_.size(); ++i) {
    connection_.servers.emplace_back(options_.servers[i], StatusOf(i));
  }
  connection_.all_tried = std::all_of(lanes_.begin(), lanes_.end(),
                                      [](const Lane& lane) { return lane.link->tried(); });
  connection_changed_.NotifyAll();
}

Connection FanOut::connection() const {
  MutexLock lock(&mutex_);
  return connection_;
}

}  // namespace engram
