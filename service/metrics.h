// What a server counts: per serving thread, by that thread, read by any.
#ifndef ENGRAM_SERVICE_METRICS_H_
#define ENGRAM_SERVICE_METRICS_H_

#include <array>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "proto/base/counters.h"
#include "proto/wire.h"

namespace engram {

// Why a request was answered by an error. Names: deploy/metrics.md.
enum class ErrorReason {
  kOverload,
  kDeadline,
  kVersionMismatch,
  kWrongShard,
  kOutOfRange,
  kInvalid,
  kUnsupported,
  kDraining,
  kDataLoss,
  kDenied,
  kCancelled,
  kInternal,
};
inline constexpr std::array<const char*, 12> kErrorReasons = {
    "overload",    "deadline", "version_mismatch", "wrong_shard", "out_of_range", "invalid",
    "unsupported", "draining", "data_loss",        "denied",      "cancelled",    "internal"};

// Of a status that is not OK. `held`: the request's generation is held, which tells a stale map
// from another table. `serving`: the server takes requests.
ErrorReason ReasonOf(const absl::Status& status, bool held, bool serving);

// Unary calls, by their names in the service.
enum class UnaryMethod { kDescribe, kGather, kPublish, kActivate, kRetire };
inline constexpr std::array<const char*, 5> kUnaryMethods = {"Describe", "Gather", "Publish",
                                                             "Activate", "Retire"};
// Codes that calls are counted by; others are counted as the first but one (UNKNOWN).
inline constexpr std::array<absl::StatusCode, 13> kCallCodes = {
    absl::StatusCode::kOk,
    absl::StatusCode::kUnknown,
    absl::StatusCode::kInvalidArgument,
    absl::StatusCode::kNotFound,
    absl::StatusCode::kPermissionDenied,
    absl::StatusCode::kUnauthenticated,
    absl::StatusCode::kResourceExhausted,
    absl::StatusCode::kFailedPrecondition,
    absl::StatusCode::kOutOfRange,
    absl::StatusCode::kUnimplemented,
    absl::StatusCode::kInternal,
    absl::StatusCode::kUnavailable,
    absl::StatusCode::kDataLoss};

struct UnaryCounters {
  Count started;
  std::array<CallHistogram, kCallCodes.size()> durations;  // by code

  void Finish(const absl::Status& status, absl::Duration took);
};

// Written by the thread that owns it. Beside other threads' counters it keeps its cache lines.
struct alignas(128) ServerCounters {
  // Requests for rows, of streams and unary ones.
  std::array<Count, 2> requests;  // by WirePriority, refused ones too
  std::array<Count, kErrorReasons.size()> errors;
  LatencyHistogram duration;
  LatencyHistogram queue, gather, send;  // parts of it, of a stream's requests
  RowHistogram rows;                     // of those that were taken
  Count sent_rows, sent_row_bytes, lost_rows;
  Count in_flight;       // requests of streams: taken, and not answered to their end
  Count in_flight_rows;  // that those are still to get
  Count streams;         // open ones
  std::array<UnaryCounters, kUnaryMethods.size()> unary;

  void Request(WirePriority priority) { requests[priority == WirePriority::kPrefill].Add(1); }
  void Error(ErrorReason reason) { errors[static_cast<size_t>(reason)].Add(1); }
};

// Those of all threads together.
struct ServerCounts {
  std::array<uint64_t, 2> requests{};
  std::array<uint64_t, kErrorReasons.size()> errors{};
  HistogramCounts duration, queue, gather, send, rows;
  uint64_t sent_rows = 0, sent_row_bytes = 0, lost_rows = 0;
  uint64_t in_flight = 0, in_flight_rows = 0, streams = 0;
  struct Unary {
    uint64_t started = 0;
    std::array<HistogramCounts, kCallCodes.size()> durations;
  };
  std::array<Unary, kUnaryMethods.size()> unary;

  void Add(const ServerCounters& counters);
};

}  // namespace engram

#endif  // ENGRAM_SERVICE_METRICS_H_
