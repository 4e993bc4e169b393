// When what was refused for want of room is worth asking for again.
#ifndef ENGRAM_PROTO_BASE_RETRY_AFTER_H_
#define ENGRAM_PROTO_BASE_RETRY_AFTER_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace engram {

inline constexpr char kRetryAfterPayload[] = "engram/retry_after_us";

// The status, with the time after which trying again may help, in whole microseconds. Zero: that is
// not known.
inline absl::Status WithRetryAfter(absl::Status status, absl::Duration after) {
  const int64_t us = absl::ToInt64Microseconds(absl::Ceil(after, absl::Microseconds(1)));
  if (us > 0) status.SetPayload(kRetryAfterPayload, absl::Cord(absl::StrCat(us)));
  return status;
}

// Zero: it does not say.
inline absl::Duration RetryAfter(const absl::Status& status) {
  const auto payload = status.GetPayload(kRetryAfterPayload);
  int64_t us = 0;
  if (!payload.has_value() || !absl::SimpleAtoi(std::string(*payload), &us)) us = 0;
  return absl::Microseconds(us);
}

}  // namespace engram

#endif  // ENGRAM_PROTO_BASE_RETRY_AFTER_H_
