// What a client has done, counted.
#ifndef ENGRAM_CLIENT_STATS_H_
#define ENGRAM_CLIENT_STATS_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "proto/base/counters.h"

namespace engram {

// N-grams of one order and layer that were looked through for what need not be fetched.
struct NgramStats {
  uint32_t layer = 0;
  uint32_t order = 0;
  uint64_t looked_at = 0;
  uint64_t duplicates = 0;  // of an earlier one in their lookup
  uint64_t cached = 0;      // served from the client's cache
};

// What callers have waited for rows of one layer. Histograms of time are in nanoseconds, with
// kLatencyBounds.
struct LayerStats {
  uint32_t layer = 0;
  HistogramCounts stall;  // held in a Wait of a ticket or slot; 0 where the rows were there
  HistogramCounts word;   // of slots: from a step's submit to its layer's word
};

// What a server has answered to a request, in the classes that metrics have.
enum class Answer {
  kOk,
  kOverload,
  kDeadline,
  kMismatch,  // it has not that generation, or those rows
  kUnavailable,
  kDataLoss,
  kCancelled,
  kOther,
};
inline constexpr std::array<const char*, 8> kAnswers = {
    "ok", "overload", "deadline", "mismatch", "unavailable", "data_loss", "cancelled", "other"};
inline Answer AnswerOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return Answer::kOk;
    case absl::StatusCode::kResourceExhausted:
      return Answer::kOverload;
    case absl::StatusCode::kDeadlineExceeded:
      return Answer::kDeadline;
    case absl::StatusCode::kFailedPrecondition:
      return Answer::kMismatch;
    case absl::StatusCode::kUnavailable:
      return Answer::kUnavailable;
    case absl::StatusCode::kDataLoss:
      return Answer::kDataLoss;
    case absl::StatusCode::kCancelled:
      return Answer::kCancelled;
    default:
      return Answer::kOther;
  }
}

// Since the client was made, all of its I/O threads together.
struct ClientStats {
  uint64_t lookups = 0;         // that are over
  uint64_t failed_lookups = 0;  // of those, with an error; called off ones are none
  uint64_t masked_rows = 0;     // "no row" among the ids asked for
  uint64_t rows = 0;            // received
  uint64_t sent_bytes = 0;      // of connections
  uint64_t received_bytes = 0;
  HistogramCounts fetch;                                 // lookups, prefetches apart
  std::array<HistogramCounts, kAnswers.size()> answers;  // requests, by Answer
  HistogramCounts
      straggler_gap;  // layers in several parts: from the first that is over to the last
  std::vector<LayerStats> layers;
  // Servers now, as the first I/O thread sees them.
  uint64_t connected_servers = 0;
  uint64_t ejected_servers = 0;  // connected, and put aside
  uint64_t gone_servers = 0;     // not connected
  uint64_t requests = 0;         // sent to servers, second ones included
  uint64_t retries = 0;          // sent to another server because one has failed
  uint64_t hedges = 0;           // sent to another server because one was slow
  uint64_t hedges_won = 0;       // of those, answered first
  uint64_t ejections = 0;        // servers put aside for being slow or failing
  uint64_t shed = 0;             // requests that were not sent: no answer would have come in time
  uint64_t degraded_tokens = 0;  // tokens, a layer each, that got zeros instead of rows
  uint64_t verified_rows = 0;    // held against their checksums
  uint64_t checksum_failures = 0;
  uint64_t row_bytes = 0;          // received
  std::vector<NgramStats> ngrams;  // [layers, orders]
  uint64_t cache_bytes = 0;        // memory of the cache, keys and all
  // Of guesses (client/guesses.h).
  uint64_t guess_steps = 0;         // for which some were fetched
  uint64_t guess_steps_spared = 0;  // of those, all of whose rows were there when they were wanted
  uint64_t guess_tokens = 0;        // for which some were fetched
  uint64_t guess_hits = 0;          // of those, whose token was among them
  uint64_t guess_late = 0;          // of those, whose rows had not come yet, or had failed
  uint64_t guess_bytes = 0;         // of rows, asked for
  uint64_t guess_stops = 0;         // of the controller
  uint64_t guess_starts = 0;
};

// Of connections; written by one I/O thread.
struct WireBytes {
  Count sent, received;
};

// Of one layer; written by any thread.
struct LayerWaits {
  SharedLatencyHistogram stall, word;
};

// The same while they are counted: written by one I/O thread, read by any.
struct StatsCounters {
  std::atomic<uint64_t> requests{0};
  std::atomic<uint64_t> retries{0};
  std::atomic<uint64_t> hedges{0};
  std::atomic<uint64_t> hedges_won{0};
  std::atomic<uint64_t> ejections{0};
  std::atomic<uint64_t> shed{0};
  std::atomic<uint64_t> degraded_tokens{0};
  std::atomic<uint64_t> verified_rows{0};
  std::atomic<uint64_t> checksum_failures{0};
  std::atomic<uint64_t> row_bytes{0};
  Count lookups, failed_lookups, masked_rows;
  LatencyHistogram fetch, straggler_gap;
  std::array<LatencyHistogram, kAnswers.size()> answers;
  WireBytes wire;

  // By the thread that writes.
  static void Add(std::atomic<uint64_t>& counter, uint64_t count) {
    counter.store(counter.load(std::memory_order_relaxed) + count, std::memory_order_relaxed);
  }
  void AddTo(ClientStats& stats) const {
    stats.requests += requests.load(std::memory_order_relaxed);
    stats.retries += retries.load(std::memory_order_relaxed);
    stats.hedges += hedges.load(std::memory_order_relaxed);
    stats.hedges_won += hedges_won.load(std::memory_order_relaxed);
    stats.ejections += ejections.load(std::memory_order_relaxed);
    stats.shed += shed.load(std::memory_order_relaxed);
    stats.degraded_tokens += degraded_tokens.load(std::memory_order_relaxed);
    stats.verified_rows += verified_rows.load(std::memory_order_relaxed);
    stats.checksum_failures += checksum_failures.load(std::memory_order_relaxed);
    stats.row_bytes += row_bytes.load(std::memory_order_relaxed);
    stats.lookups += lookups.value();
    stats.failed_lookups += failed_lookups.value();
    stats.masked_rows += masked_rows.value();
    stats.sent_bytes += wire.sent.value();
    stats.received_bytes += wire.received.value();
    fetch.AddTo(stats.fetch);
    straggler_gap.AddTo(stats.straggler_gap);
    for (size_t i = 0; i < answers.size(); ++i) answers[i].AddTo(stats.answers[i]);
  }
};

// The same of guesses; written by any thread.
struct GuessCounters {
  std::atomic<uint64_t> steps{0};
  std::atomic<uint64_t> steps_spared{0};
  std::atomic<uint64_t> tokens{0};
  std::atomic<uint64_t> hits{0};
  std::atomic<uint64_t> late{0};
  std::atomic<uint64_t> bytes{0};
  std::atomic<uint64_t> stops{0};
  std::atomic<uint64_t> starts{0};

  static void Add(std::atomic<uint64_t>& counter, uint64_t count) {
    counter.fetch_add(count, std::memory_order_relaxed);
  }
  void AddTo(ClientStats& stats) const {
    stats.guess_steps += steps.load(std::memory_order_relaxed);
    stats.guess_steps_spared += steps_spared.load(std::memory_order_relaxed);
    stats.guess_tokens += tokens.load(std::memory_order_relaxed);
    stats.guess_hits += hits.load(std::memory_order_relaxed);
    stats.guess_late += late.load(std::memory_order_relaxed);
    stats.guess_bytes += bytes.load(std::memory_order_relaxed);
    stats.guess_stops += stops.load(std::memory_order_relaxed);
    stats.guess_starts += starts.load(std::memory_order_relaxed);
  }
};

// The same of n-grams. [layers, orders]
struct NgramCounters {
  struct Order {
    std::atomic<uint64_t> looked_at{0};
    std::atomic<uint64_t> duplicates{0};
    std::atomic<uint64_t> cached{0};
  };
  explicit NgramCounters(size_t count) : orders(count) {}
  std::vector<Order> orders;
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_STATS_H_
