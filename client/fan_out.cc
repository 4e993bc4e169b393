#include "client/fan_out.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

// Layers of so many rows have ids that do not fit into 32 bits beside "no row".
constexpr uint64_t kWideRows = UINT32_MAX;

// A whole request message in one slice: header, then the ids.
template <typename Id>
grpc::ByteBuffer EncodeRequest(const uint8_t* header, size_t header_bytes,
                               const std::vector<uint64_t>& rows) {
  grpc::Slice slice(header_bytes + rows.size() * sizeof(Id));
  auto* out = const_cast<uint8_t*>(slice.begin());  // Ours alone until it is sent.
  std::memcpy(out, header, header_bytes);
  out += header_bytes;
  for (const uint64_t row : rows) {
    const Id id = static_cast<Id>(row);
    std::memcpy(out, &id, sizeof(id));
    out += sizeof(id);
  }
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace

FanOut::FanOut(const ClientOptions& options, grpc::CompletionQueue* queue) : options_(options) {
  servers_.resize(options.servers.size());
  for (size_t i = 0; i < servers_.size(); ++i) {
    servers_[i].link =
        std::make_unique<ServerLink>(i, options.servers[i], options.expect_digest, queue, this);
  }
}

// ---------------------------------------------------------------- lookups

void FanOut::Start(std::shared_ptr<Lookup> lookup) {
  active_.push_back(lookup);
  next_deadline_ = std::min(next_deadline_, lookup->deadline);
  for (LookupLayer& layer : lookup->layers()) {
    if (shutdown_) {
      FailLayer(*lookup, layer, absl::CancelledError("the client is closing"));
    } else {
      StartLayer(lookup, layer);
    }
  }
  DropFinished();
}

void FanOut::StartLayer(const std::shared_ptr<Lookup>& lookup, LookupLayer& layer) {
  const uint64_t layer_rows = table_->geometry.layers()[layer.index].rows;
  const LayerSegments& segments = map_->layer(layer.index);
  Hash(*lookup, layer);
  absl::Status status = PlanShards(layer.ids, layer_rows, segments, plan_);
  if (!status.ok()) {
    return FailLayer(
        *lookup, layer,
        absl::Status(status.code(), absl::StrCat("layer ", layer.layer, ": ", status.message())));
  }
  const size_t row_bytes = table_->layout.row_bytes();
  for (const uint32_t position : plan_.none) {
    std::memset(layer.out.data() + position * row_bytes, 0, row_bytes);
  }
  for (size_t group = 0; group < segments.all().size() && status.ok(); ++group) {
    status = SendGroup(lookup, layer, segments.all()[group], plan_.group_begin[group],
                       plan_.group_begin[group + 1]);
  }
  if (!status.ok()) return FailLayer(*lookup, layer, status);
  if (layer.requests_left == 0) lookup->Finish(layer, absl::OkStatus());
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

absl::StatusOr<size_t> FanOut::PickServer(const LookupLayer& layer, const Segment& segment) const {
  std::optional<size_t> best;
  std::string holders;
  for (const size_t candidate : segment.servers) {
    const Server& server = servers_[candidate];
    absl::StrAppend(&holders, holders.empty() ? "" : "; ", server.link->status().message());
    if (!server.link->usable()) continue;
    if (!best.has_value() || server.bytes_in_flight < servers_[*best].bytes_in_flight) {
      best = candidate;
    }
  }
  if (best.has_value()) return *best;
  return absl::UnavailableError(absl::StrCat(
      "no server is up that holds ", ToString(RowRange{layer.layer, segment.begin, segment.end}),
      holders.empty() ? "" : ": ", holders));
}

// Rows [begin, end) of the plan, all held by the segment's servers, as requests to one of them.
absl::Status FanOut::SendGroup(const std::shared_ptr<Lookup>& lookup, LookupLayer& layer,
                               const Segment& segment, size_t begin, size_t end) {
  if (begin == end) return absl::OkStatus();
  ASSIGN_OR_RETURN(const size_t index, PickServer(layer, segment));
  Server& server = servers_[index];
  const size_t step = std::min<uint64_t>(options_.rows_per_request, server.max_rows);
  const int priority = lookup->priority == LookupPriority::kDecode ? 0 : 1;
  for (; begin < end; begin += std::min(step, end - begin)) {
    const auto from = static_cast<ptrdiff_t>(begin);
    const auto to = static_cast<ptrdiff_t>(std::min(begin + step, end));
    server.waiting[priority].push_back(
        {lookup, &layer, std::vector<uint64_t>(plan_.rows.begin() + from, plan_.rows.begin() + to),
         RowScatter(
             std::vector<uint32_t>(plan_.positions.begin() + from, plan_.positions.begin() + to),
             table_->layout.row_bytes(), layer.out.data())});
    ++layer.requests_left;
  }
  SendWaiting(server);
  return absl::OkStatus();
}

// Decode before prefill, as far as the credit goes; one request is always let through.
void FanOut::SendWaiting(Server& server) {
  for (std::deque<Request>& waiting : server.waiting) {
    while (!waiting.empty()) {
      if (waiting.front().layer->done.load(std::memory_order_relaxed)) {
        waiting.pop_front();
        continue;
      }
      const uint64_t bytes = waiting.front().scatter.bytes_left();
      if (server.bytes_in_flight != 0 && server.bytes_in_flight + bytes > options_.credit_bytes) {
        return;
      }
      Request request = std::move(waiting.front());
      waiting.pop_front();
      SendRequest(server, std::move(request));
    }
  }
}

void FanOut::SendRequest(Server& server, Request request) {
  const uint64_t id = next_request_id_++;
  const bool wide = table_->geometry.layers()[request.layer->index].rows >= kWideRows;
  const int64_t budget_us =
      std::max<int64_t>(1, absl::ToInt64Microseconds(request.lookup->deadline - absl::Now()));
  uint8_t header[kMaxRequestHeader];
  const size_t header_bytes = EncodeRequestHeader(
      id, table_->digest, request.layer->layer,
      request.lookup->priority == LookupPriority::kDecode ? WirePriority::kDecode
                                                          : WirePriority::kPrefill,
      static_cast<uint64_t>(budget_us), 0, request.rows.size(), wide, header);
  server.link->Send(wide ? EncodeRequest<uint64_t>(header, header_bytes, request.rows)
                         : EncodeRequest<uint32_t>(header, header_bytes, request.rows));
  request.rows = {};
  server.bytes_in_flight += request.scatter.bytes_left();
  server.in_flight.emplace(id, std::move(request));
}

absl::Status FanOut::OnResponse(size_t index, const StreamResponse& response,
                                const grpc::ByteBuffer& message) {
  if (response.kind != ResponseKind::kAnswer) return absl::OkStatus();  // A notice we do not know.
  Server& server = servers_[index];
  const auto it = server.in_flight.find(response.request_id);
  if (it == server.in_flight.end()) {
    return absl::InternalError(absl::StrCat("answer to unknown request ", response.request_id));
  }
  Request& request = it->second;
  const uint64_t bytes_before = request.scatter.bytes_left();
  if (response.code != 0) {
    FailLayer(*request.lookup, *request.layer,
              absl::Status(static_cast<absl::StatusCode>(response.code),
                           absl::StrCat("layer ", request.layer->layer, ": server ",
                                        server.link->address(), ": ", response.message)));
  } else if (!request.layer->done.load(std::memory_order_relaxed)) {
    RETURN_IF_ERROR(ScatterPiece(request, response, message));
    server.bytes_in_flight -= bytes_before - request.scatter.bytes_left();
  }
  if (response.last) {
    server.bytes_in_flight -= request.scatter.bytes_left();
    FinishRequest(request);
    server.in_flight.erase(it);
    DropFinished();
    SendWaiting(server);
  }
  return absl::OkStatus();
}

absl::Status FanOut::ScatterPiece(Request& request, const StreamResponse& response,
                                  const grpc::ByteBuffer& message) const {
  if (response.piece != request.next_piece || !response.failures.empty() ||
      response.rows_bytes % table_->layout.row_bytes() != 0) {
    return absl::InternalError(absl::StrCat("piece ", response.piece, " of ", response.rows_bytes,
                                            " bytes, expected piece ", request.next_piece));
  }
  ++request.next_piece;
  std::vector<grpc::Slice> slices;
  if (!message.Dump(&slices).ok()) return absl::InternalError("unreadable message");
  uint64_t skip = response.rows_offset;
  uint64_t left = response.rows_bytes;
  for (const grpc::Slice& slice : slices) {
    const uint64_t skipped = std::min<uint64_t>(skip, slice.size());
    const uint64_t take = std::min<uint64_t>(left, slice.size() - skipped);
    if (!request.scatter.Append(slice.begin() + skipped, take)) {
      return absl::InternalError("more rows than were asked for");
    }
    skip -= skipped;
    left -= take;
  }
  if (response.last && request.scatter.bytes_left() != 0) {
    return absl::InternalError(
        absl::StrCat("the last piece leaves ", request.scatter.bytes_left(), " bytes missing"));
  }
  return absl::OkStatus();
}

void FanOut::FinishRequest(Request& request) {
  if (--request.layer->requests_left == 0) request.lookup->Finish(*request.layer, absl::OkStatus());
}

// Ends a layer at once. Its requests that wait are skipped when their turn comes; those in flight
// are cancelled, and what still comes of them is dropped.
void FanOut::FailLayer(Lookup& lookup, LookupLayer& layer, const absl::Status& why) {
  if (layer.done.load(std::memory_order_relaxed)) return;
  lookup.Finish(layer, why);
  for (Server& server : servers_) {
    if (!server.link->usable()) continue;
    for (const auto& [id, request] : server.in_flight) {
      if (request.layer != &layer) continue;
      grpc::Slice slice(EncodeCancel(id));
      server.link->Send(grpc::ByteBuffer(&slice, 1));
    }
  }
}

void FanOut::Cancel(Lookup& lookup, const absl::Status& why) {
  for (LookupLayer& layer : lookup.layers()) FailLayer(lookup, layer, why);
  DropFinished();
}

void FanOut::DropFinished() {
  std::erase_if(active_, [](const auto& lookup) { return lookup->AllDone(); });
}

// ---------------------------------------------------------------- time

void FanOut::Tick(absl::Time now) {
  bool ticked = false;
  for (Server& server : servers_) {
    if (server.link->next_tick() <= now) {
      server.link->Tick(now);
      ticked = true;
    }
  }
  if (ticked) PublishConnection();
  if (now < next_deadline_) return;
  next_deadline_ = absl::InfiniteFuture();
  for (const std::shared_ptr<Lookup>& lookup : active_) {
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
  DropFinished();
}

absl::Time FanOut::NextTick() const {
  absl::Time next = next_deadline_;
  for (const Server& server : servers_) next = std::min(next, server.link->next_tick());
  return next;
}

void FanOut::Shutdown() {
  shutdown_ = true;
  const std::vector<std::shared_ptr<Lookup>> active = active_;
  for (const auto& lookup : active) {
    Cancel(*lookup, absl::CancelledError("the client is closing"));
  }
  for (Server& server : servers_) server.link->Shutdown();
}

bool FanOut::idle() const {
  return std::all_of(servers_.begin(), servers_.end(),
                     [](const Server& server) { return server.link->idle(); });
}

// ---------------------------------------------------------------- servers

absl::Status FanOut::Accept(size_t index, ServerInfo info) {
  const std::string& address = servers_[index].link->address();
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
  servers_[index].ranges = std::move(info.ranges);
  servers_[index].max_rows = info.max_rows_per_request;
  std::vector<std::vector<RowRange>> held;
  for (const Server& server : servers_) held.push_back(server.ranges);
  map_.emplace(table_->geometry, held);
  return absl::OkStatus();
}

void FanOut::OnUp(size_t index) {
  if (options_.log) options_.log(absl::StrCat("server ", options_.servers[index], " is up"));
  PublishConnection();
}

void FanOut::OnDown(size_t index, const absl::Status& why) {
  Server& server = servers_[index];
  if (options_.log) options_.log(why.message());
  // Requests go with their stream: nothing of them can be trusted to come.
  const auto in_flight = std::exchange(server.in_flight, {});
  const auto decode = std::exchange(server.waiting[0], {});
  const auto prefill = std::exchange(server.waiting[1], {});
  server.bytes_in_flight = 0;
  for (const auto& [id, request] : in_flight) FailLayer(*request.lookup, *request.layer, why);
  for (const Request& request : decode) FailLayer(*request.lookup, *request.layer, why);
  for (const Request& request : prefill) FailLayer(*request.lookup, *request.layer, why);
  DropFinished();
  PublishConnection();
}

std::vector<bool> FanOut::Usable() const {
  std::vector<bool> usable;
  for (const Server& server : servers_) usable.push_back(server.link->usable());
  return usable;
}

void FanOut::PublishConnection() {
  MutexLock lock(&mutex_);
  connection_.table = table_;
  if (map_.has_value()) connection_.missing = map_->Missing(Usable());
  connection_.servers.clear();
  connection_.all_tried = true;
  for (const Server& server : servers_) {
    connection_.servers.emplace_back(server.link->address(), server.link->status());
    connection_.all_tried = connection_.all_tried && server.link->tried();
  }
  connection_changed_.NotifyAll();
}

Connection FanOut::connection() const {
  MutexLock lock(&mutex_);
  return connection_;
}

}  // namespace engram
