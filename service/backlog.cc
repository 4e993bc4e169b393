#include "service/backlog.h"

#include <algorithm>

namespace engram {
namespace {

// What is measured at once: a CPU quota stops a thread for up to a tenth of a second, and what has
// come is taken in before any of it is answered.
constexpr int64_t kMeasuredNs = 20'000'000;
constexpr uint64_t kMeasuredBytes = 4 << 20;
// A thread that has not answered anything for so long stood still.
constexpr int64_t kStandsStillNs = 250'000'000;
// A measure is worth something for so long.
constexpr int64_t kKeptNs = 1'000'000'000;
// A client that takes so long to read is waited for by nobody else.
constexpr int64_t kBlockedNs = 100'000'000;
// Who is refused comes again after so long at most: more would be left unasked when it is over.
// Where that is too soon for all, they come from half of it on, spread.
constexpr int64_t kMostNs = 2'000'000'000;
// Who comes again asks for more than one request, until it is refused again; and being refused is
// not free. So they come that much later, one after the other, than one answer takes.
constexpr int64_t kApart = 2;
// Of its time, what a request must have left when it is answered.
constexpr int64_t kSpareShare = 8;

}  // namespace

Backlog::Stream::Stream(Backlog& backlog) : backlog_(backlog) { backlog_.streams_.push_back(this); }

Backlog::Stream::~Stream() { std::erase(backlog_.streams_, this); }

uint64_t Backlog::Stream::Before(bool prefill, uint64_t behind, int64_t now_ns) const {
  if (writing_since_ns_ < now_ns - kBlockedNs) return 0;
  // Streams' prefill takes turns, piece by piece.
  return prefill ? bytes_[0] + std::min(bytes_[1], behind) : std::min(bytes_[0], behind);
}

int64_t Backlog::Stream::Refuse(WirePriority priority, uint64_t bytes, int64_t budget_ns,
                                int64_t now_ns) {
  if (now_ns > backlog_.known_until_ns_) return 0;
  const bool prefill = priority == WirePriority::kPrefill;
  const uint64_t own = Bytes(priority) + bytes;
  uint64_t all = bytes;
  for (const Stream* stream : backlog_.streams_) all += stream->Before(prefill, own, now_ns);
  const auto takes_ns = [&](uint64_t what) {
    return static_cast<int64_t>(backlog_.ns_per_byte_ * static_cast<double>(what));
  };
  const int64_t missing_ns = takes_ns(all) - (budget_ns - budget_ns / kSpareShare);
  if (missing_ns <= 0) return 0;
  int64_t& next_ns = backlog_.next_ns_;
  next_ns = std::max(next_ns, now_ns + missing_ns) + kApart * takes_ns(bytes);
  if (next_ns > now_ns + kMostNs) next_ns = now_ns + kMostNs / 2;
  return next_ns - now_ns;
}

void Backlog::OnIdle(int64_t now_ns) {
  if (now_ns < last_ns_) known_until_ns_ = 0;  // The clock was set back.
  measured_bytes_ = 0;
  since_ns_ = last_ns_ = now_ns;
}

void Backlog::OnAnswered(uint64_t bytes, int64_t now_ns) {
  if (now_ns < last_ns_ || now_ns > last_ns_ + kStandsStillNs) return OnIdle(now_ns);
  last_ns_ = now_ns;
  measured_bytes_ += bytes;
  const int64_t took_ns = now_ns - since_ns_;
  if (took_ns < kMeasuredNs || measured_bytes_ < kMeasuredBytes) return;
  const double sample = static_cast<double>(took_ns) / static_cast<double>(measured_bytes_);
  const bool known = now_ns <= known_until_ns_;
  ns_per_byte_ = known ? ns_per_byte_ + (sample - ns_per_byte_) / 4 : sample;
  known_until_ns_ = now_ns + kKeptNs;
  OnIdle(now_ns);
}

}  // namespace engram
