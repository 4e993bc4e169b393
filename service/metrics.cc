#include "service/metrics.h"

namespace engram {

ErrorReason ReasonOf(const absl::Status& status, bool held, bool serving) {
  switch (status.code()) {
    case absl::StatusCode::kResourceExhausted:
      return ErrorReason::kOverload;
    case absl::StatusCode::kDeadlineExceeded:
      return ErrorReason::kDeadline;
    case absl::StatusCode::kFailedPrecondition:
      return held ? ErrorReason::kWrongShard : ErrorReason::kVersionMismatch;
    case absl::StatusCode::kOutOfRange:
      return ErrorReason::kOutOfRange;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
      return ErrorReason::kInvalid;
    case absl::StatusCode::kUnimplemented:
      return ErrorReason::kUnsupported;
    case absl::StatusCode::kUnavailable:  // or rows of a disk that cannot be read now
      return serving ? ErrorReason::kDataLoss : ErrorReason::kDraining;
    case absl::StatusCode::kDataLoss:
      return ErrorReason::kDataLoss;
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
      return ErrorReason::kDenied;
    case absl::StatusCode::kCancelled:
      return ErrorReason::kCancelled;
    default:
      return ErrorReason::kInternal;
  }
}

void UnaryCounters::Finish(const absl::Status& status, absl::Duration took) {
  const auto code = std::find(kCallCodes.begin(), kCallCodes.end(), status.code());
  constexpr size_t kUnknown = 1;
  durations[code == kCallCodes.end() ? kUnknown : static_cast<size_t>(code - kCallCodes.begin())]
      .Observe(took);
}

void ServerCounts::Add(const ServerCounters& counters) {
  for (size_t i = 0; i < requests.size(); ++i) requests[i] += counters.requests[i].value();
  for (size_t i = 0; i < errors.size(); ++i) errors[i] += counters.errors[i].value();
  counters.duration.AddTo(duration);
  counters.queue.AddTo(queue);
  counters.gather.AddTo(gather);
  counters.send.AddTo(send);
  counters.rows.AddTo(rows);
  sent_rows += counters.sent_rows.value();
  sent_row_bytes += counters.sent_row_bytes.value();
  lost_rows += counters.lost_rows.value();
  in_flight += counters.in_flight.value();
  in_flight_rows += counters.in_flight_rows.value();
  streams += counters.streams.value();
  for (size_t i = 0; i < unary.size(); ++i) {
    unary[i].started += counters.unary[i].started.value();
    for (size_t code = 0; code < kCallCodes.size(); ++code) {
      counters.unary[i].durations[code].AddTo(unary[i].durations[code]);
    }
  }
}

}  // namespace engram
