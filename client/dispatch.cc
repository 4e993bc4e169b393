#include "client/dispatch.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/base/retry_after.h"
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

WirePriority ToWire(LookupPriority priority) {
  return priority == LookupPriority::kDecode ? WirePriority::kDecode : WirePriority::kPrefill;
}

// Requests that a server had no room for are sent to another at most so often per first one: where
// one has none, the others seldom have.
constexpr double kRefusedShare = 0.1;

// Whether another server may do better: not where the request itself is wrong, or was called off.
bool IsWorthAnother(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kCancelled:
      return false;
    default:
      return true;
  }
}

}  // namespace

Dispatch::Dispatch(const ClientOptions& options, const ServerLink::Shared& shared,
                   Resolver* resolver, Listener* listener)
    : options_(options),
      listener_(listener),
      hedge_budget_(options.hedge_share),
      refused_budget_(kRefusedShare),
      random_(std::random_device()()),
      servers_(options, {shared.loop, shared.scratch, shared.credentials, &stats_.wire}, resolver,
               this) {}

// ---------------------------------------------------------------- out

absl::Status Dispatch::Send(const std::shared_ptr<Lookup>& lookup, LookupLayer& layer,
                            const Segment& segment, size_t begin, size_t end) {
  if (begin == end) return absl::OkStatus();
  const RowRange rows{layer.layer, segment.begin, segment.end};
  const ServerSet::Holders holders(segment.servers.begin(), segment.servers.end());
  while (begin < end) {
    ASSIGN_OR_RETURN(const size_t server, servers_.Pick(lookup->priority, rows, holders, {}));
    const size_t step = std::min<uint64_t>(options_.rows_per_request, servers_.max_rows(server));
    const size_t part_end = std::min(begin + step, end);
    const auto part = std::make_shared<Part>(lookup, layer, rows, begin, part_end);
    part->replicated = holders.size() > 1;
    ++layer.requests;
    Ask(part, server, Attempt::Kind::kFirst);
    if (part->replicated && part->wanted()) {
      const std::optional<size_t> trial = servers_.PickTrial(lookup->priority, holders);
      if (trial.has_value() && *trial != server) Ask(part, *trial, Attempt::Kind::kTrial);
    }
    begin = part_end;
  }
  return absl::OkStatus();
}

void Dispatch::Ask(const std::shared_ptr<Part>& part, size_t server, Attempt::Kind kind) {
  ++part->attempts;
  part->tried.push_back(server);
  Lane& lane = servers_.LaneTo(server, part->lookup->priority);
  auto attempt = std::make_unique<Attempt>(part, server, kind, ScatterOf(*part));
  const uint64_t bytes = attempt->scatter.bytes_left();
  if (!lane.waiting.empty() || !HasRoom(lane, bytes)) {
    const absl::Status status = CheckTime(lane, *attempt, lane.bytes());
    if (!status.ok()) return EndAttempt(server, *attempt, status);
  }
  lane.waiting.push_back(std::move(attempt));
  lane.bytes_waiting += bytes;
  SendWaiting(lane);
}

absl::Status Dispatch::CheckTime(Lane& lane, const Attempt& attempt, uint64_t bytes_before) {
  const absl::Time now = absl::Now();
  const absl::Duration left = attempt.part->lookup->deadline - now;
  const absl::Duration missing =
      lane.shedding.Missing(bytes_before, attempt.scatter.bytes_left(), left, now);
  if (missing == absl::ZeroDuration()) return absl::OkStatus();
  StatsCounters::Add(stats_.shed, 1);
  return WithRetryAfter(
      absl::ResourceExhaustedError(absl::StrCat(
          "layer ", attempt.part->layer.layer, ": server ", lane.link->label(),
          " answers too late: it was not asked for ", ToString(attempt.part->segment), ", behind ",
          bytes_before, " other bytes and with ", absl::FormatDuration(left), " left")),
      missing);
}

RowScatter Dispatch::ScatterOf(const Part& part) {
  const LookupLayer& layer = part.layer;
  if (layer.plan == nullptr) return RowScatter(nullptr, part.begin, part.rows(), layer.target);
  RowScatter scatter(layer.plan->positions.data() + part.begin, part.begin, part.rows(),
                     layer.target);
  scatter.SetCopies(CopiesOf(*layer.plan, part.begin, part.end), layer.cache_rows);
  return scatter;
}

// As far as the credit goes; one request is always let through.
void Dispatch::SendWaiting(Lane& lane) {
  while (!lane.waiting.empty() && lane.link->connected()) {
    const uint64_t bytes = lane.waiting.front()->scatter.bytes_left();
    const bool wanted = lane.waiting.front()->part->wanted();
    if (wanted && !HasRoom(lane, bytes)) return;
    std::unique_ptr<Attempt> attempt = std::move(lane.waiting.front());
    lane.waiting.pop_front();
    lane.bytes_waiting -= bytes;
    absl::Status status = absl::CancelledError("not wanted any more");
    if (wanted) status = CheckTime(lane, *attempt, lane.bytes_in_flight);
    if (status.ok()) {
      SendRequest(lane, std::move(attempt));
    } else {
      EndAttempt(servers_.ServerOf(lane), *attempt, status);
    }
  }
}

void Dispatch::SendRequest(Lane& lane, std::unique_ptr<Attempt> attempt) {
  const uint64_t id = next_request_id_++;
  const Part& part = *attempt->part;
  const LookupLayer& layer = part.layer;
  const TableInfo& table = *servers_.table();
  const bool wide = table.geometry.layers()[layer.index].rows >= kWideRows;
  attempt->sent = absl::Now();
  attempt->checked = options_.verify_share > 0 &&
                     std::uniform_real_distribution<double>()(random_) < options_.verify_share;
  const int64_t budget_us =
      std::max<int64_t>(1, absl::ToInt64Microseconds(part.lookup->deadline - attempt->sent));
  uint8_t header[kMaxRequestHeader];
  const size_t header_bytes =
      EncodeRequestHeader(id, table.digest, layer.layer, ToWire(part.lookup->priority),
                          static_cast<uint64_t>(budget_us), attempt->checked ? kFlagChecksums : 0,
                          part.rows(), wide, header);
  const size_t id_bytes = part.rows() * (wide ? sizeof(uint64_t) : sizeof(uint32_t));
  uint8_t* const message = AddMessage(lane, header_bytes + id_bytes).data();
  std::memcpy(message, header, header_bytes);
  const auto encode = [&](const auto* rows) {
    using Row = std::decay_t<decltype(*rows)>;
    (wide ? EncodeIds<uint64_t, Row> : EncodeIds<uint32_t, Row>)(rows + part.begin, part.rows(),
                                                                 message + header_bytes);
  };
  layer.plan == nullptr ? encode(layer.ids.data()) : encode(layer.plan->rows.data());
  StatsCounters::Add(stats_.requests, 1);
  if (attempt->kind == Attempt::Kind::kRetry) StatsCounters::Add(stats_.retries, 1);
  if (attempt->kind == Attempt::Kind::kHedge) StatsCounters::Add(stats_.hedges, 1);
  if (attempt->kind == Attempt::Kind::kFirst || attempt->kind == Attempt::Kind::kRetry) {
    hedge_budget_.OnRequest();
    refused_budget_.OnRequest();
    if (part.replicated && !part.hedged && options_.hedge_share > 0) {
      const absl::Duration after = HedgeAfter(part, attempt->sent);
      due_.push({attempt->sent + after, after, attempt->part});
    }
  }
  lane.bytes_in_flight += attempt->scatter.bytes_left();
  attempt->bytes_outstanding = lane.bytes_in_flight;
  lane.in_flight.emplace(id, std::move(attempt));
}

void Dispatch::SendCancel(Lane& lane, uint64_t request_id) {
  if (!lane.link->connected()) return;
  const std::string cancel = EncodeCancel(request_id);
  std::memcpy(AddMessage(lane, cancel.size()).data(), cancel.data(), cancel.size());
}

std::span<uint8_t> Dispatch::AddMessage(Lane& lane, size_t bytes) {
  if (!std::exchange(lane.unsent, true)) unsent_.push_back(&lane);
  return lane.link->AddMessage(bytes);
}

void Dispatch::Flush() {
  while (!unsent_.empty()) {
    Lane& lane = *unsent_.back();
    unsent_.pop_back();
    lane.unsent = false;
    lane.link->Flush();
  }
}

void Dispatch::Cancel(const LookupLayer& layer) {
  servers_.ForEachLane([&](Lane& lane) {
    for (const auto& [id, attempt] : lane.in_flight) {
      if (&attempt->part->layer == &layer) SendCancel(lane, id);
    }
  });
}

// ---------------------------------------------------------------- ends

void Dispatch::EndAttempt(size_t server, Attempt& attempt, const absl::Status& status) {
  const std::shared_ptr<Part> part = attempt.part;
  ended_at_ = absl::Now();
  Shedding& shedding = servers_.LaneTo(server, part->lookup->priority).shedding;
  // A server that has much to do does not begin what would be late.
  const bool late = ended_at_ > part->lookup->deadline || absl::IsDeadlineExceeded(status);
  if (attempt.sent == absl::Time()) {  // It has not left.
    if (late) shedding.OnMiss(ended_at_);
  } else {
    const absl::Duration took = ended_at_ - attempt.sent;
    stats_.answers[static_cast<size_t>(AnswerOf(status))].Observe(took);
    const uint64_t bytes = part->rows() * servers_.table()->layout.row_bytes();
    if (late) {
      // A server that stood still may have ended it long after its time.
      const absl::Duration least = std::min(took, part->lookup->deadline - attempt.sent);
      shedding.OnMiss(attempt.bytes_outstanding - bytes, bytes, least, ended_at_);
    } else if (status.ok()) {
      shedding.OnAnswer(attempt.bytes_outstanding, took);
    } else if (absl::IsResourceExhausted(status)) {
      shedding.OnRefused(RetryAfter(status), ended_at_);
    }
  }
  --part->attempts;
  if (part->writer == &attempt) part->writer = nullptr;
  const bool won = status.ok() && !part->done && !attempt.overtaken;
  Judge(server, attempt, won, status);
  if (part->done) return;
  if (won && !attempt.lost.empty() && part->wanted()) AskForLost(server, attempt);
  if (won || part->layer.done.load(std::memory_order_relaxed)) {
    // What has come of a layer that was finished before is dropped, and nobody is asked again.
    if (won || part->attempts == 0) FinishPart(part);
    return;
  }
  if (!attempt.overtaken) part->error = status;
  const bool sent = attempt.sent != absl::Time();
  if (!sent && part->attempts != 0) return;  // What never left beside another is not missed.
  if (MayRetry(attempt, status) &&
      AskAnother(part, sent ? Attempt::Kind::kRetry : Attempt::Kind::kFirst)) {
    return;
  }
  if (part->attempts != 0) return;  // another may still bring them
  listener_->OnPartFailed(*part, part->error);
  FinishPart(part);
}

bool Dispatch::MayRetry(const Attempt& attempt, const absl::Status& status) {
  if (attempt.overtaken) return attempt.part->attempts == 0;  // the one that overtook it has failed
  if (!IsWorthAnother(status)) return false;
  const bool refused = absl::IsResourceExhausted(status) && attempt.sent != absl::Time();
  return !refused || refused_budget_.Spend();
}

// Rows that lie together are asked for together, of any other server that holds them. What was
// written to their places meanwhile are zeros.
void Dispatch::AskForLost(size_t server, const Attempt& attempt) {
  const Part& whole = *attempt.part;
  for (size_t i = 0; i < attempt.lost.size() && whole.wanted();) {
    size_t end = i + 1;
    while (end < attempt.lost.size() && attempt.lost[end] == attempt.lost[end - 1] + 1) ++end;
    const auto part = std::make_shared<Part>(whole.lookup, whole.layer, whole.segment,
                                             whole.begin + attempt.lost[i],
                                             whole.begin + attempt.lost[end - 1] + 1);
    part->replicated = whole.replicated;
    part->tried = whole.lost_by;
    part->tried.push_back(server);
    part->lost_by = part->tried;
    part->error = attempt.lost_why;
    ++whole.layer.requests;
    if (!AskAnother(part, Attempt::Kind::kRetry)) {
      listener_->OnPartFailed(*part, part->error);
      FinishPart(part);
    }
    i = end;
  }
}

void Dispatch::FinishPart(const std::shared_ptr<Part>& part) {
  part->done = true;
  LookupLayer& layer = part->layer;
  --layer.requests;
  if (layer.parts_over++ == 0) layer.first_over = ended_at_;
  layer.last_over = ended_at_;
  if (part->attempts != 0) {
    servers_.ForEachLane([&](Lane& lane) {
      for (const auto& [id, other] : lane.in_flight) {
        if (other->part == part && other->kind != Attempt::Kind::kTrial) SendCancel(lane, id);
      }
    });
  }
  listener_->OnPartOver(*part);
}

// What the end of an attempt says of its server.
void Dispatch::Judge(size_t server, const Attempt& attempt, bool won, const absl::Status& status) {
  const Part& part = *attempt.part;
  if (attempt.sent == absl::Time()) return;  // What never left says nothing.
  if (!status.ok()) {
    if (absl::IsResourceExhausted(status)) return;  // Whoever is busy is not ill.
    if (IsWorthAnother(status) || attempt.kind == Attempt::Kind::kTrial) Strike(server);
    return;
  }
  if (!won && attempt.kind != Attempt::Kind::kTrial) return;
  const absl::Time now = ended_at_;
  const absl::Duration took = now - attempt.sent;
  // By the others' measure: a server that is always slow is no less late for that.
  if (part.replicated && took > LateAfter(part, server)) {
    Strike(server);
  } else {
    ServerHealth& health = servers_.health(server);
    const bool was_healthy = health.healthy();
    health.OnSuccess(now);
    if (health.healthy() != was_healthy) servers_.ShowHealth();
  }
  if (!won) return;
  servers_.answer_times(server).OnAnswer(part.rows(), took);
  if (attempt.kind != Attempt::Kind::kHedge) return;
  StatsCounters::Add(stats_.hedges_won, 1);
  // Whoever was asked first has been slower by more than the delay.
  for (const size_t other : part.tried) {
    if (other != server) Strike(other);
  }
}

bool Dispatch::AskAnother(const std::shared_ptr<Part>& part, Attempt::Kind kind) {
  const absl::StatusOr<size_t> server = servers_.Pick(
      part->lookup->priority, part->segment, servers_.HoldersOf(part->segment), part->tried);
  if (!server.ok()) return false;
  Ask(part, *server, kind);
  return true;
}

// Requests go with their stream: nothing of them can be trusted to come.
void Dispatch::OnDown(Lane& lane, const absl::Status& why) {
  const size_t server = servers_.ServerOf(lane);
  auto in_flight = std::exchange(lane.in_flight, {});
  auto waiting = std::exchange(lane.waiting, {});
  lane.bytes_in_flight = 0;
  lane.bytes_waiting = 0;
  const auto end = [&](Attempt& attempt) {
    const Part& part = *attempt.part;
    EndAttempt(server, attempt,
               absl::Status(why.code(), absl::StrCat("no answer for ", ToString(part.segment), ": ",
                                                     why.message())));
  };
  for (auto& [id, attempt] : in_flight) end(*attempt);
  for (auto& attempt : waiting) end(*attempt);
  listener_->OnAnswered();
}

void Dispatch::Shutdown() {
  servers_.Shutdown();
  due_ = {};
}

absl::Time Dispatch::next_tick() const {
  const absl::Time next = servers_.next_tick();
  return due_.empty() ? next : std::min(next, due_.top().at);
}

}  // namespace engram
