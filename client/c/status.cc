#include "client/c/status.h"

#include "absl/strings/str_cat.h"
#include "proto/base/retry_after.h"
#include "proto/version.h"

namespace engram {

engram_status* NewStatus(const absl::Status& status) noexcept {
  if (status.ok()) return nullptr;
  try {
    return new engram_status{static_cast<engram_code>(status.code()), std::string(status.message()),
                             absl::ToInt64Microseconds(RetryAfter(status))};
  } catch (const std::bad_alloc&) {
    return OutOfMemory();
  }
}

engram_status* OutOfMemory() noexcept {
  // The text fits into the string itself.
  static engram_status* const status = [] {
    alignas(engram_status) static char place[sizeof(engram_status)];
    return new (place) engram_status{ENGRAM_RESOURCE_EXHAUSTED, "out of memory"};
  }();
  return status;
}

absl::Status CheckNotNull(const void* argument, const char* name) {
  if (argument != nullptr) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("argument `", name, "` is NULL"));
}

absl::Status CheckArray(const void* array, size_t count, size_t max, const char* name) {
  if (count > max) {
    return absl::InvalidArgumentError(
        absl::StrCat("argument `", name, "` has ", count, " elements, more than ", max));
  }
  return count == 0 ? absl::OkStatus() : CheckNotNull(array, name);
}

}  // namespace engram

uint32_t engram_abi_version(void) { return ENGRAM_ABI_VERSION; }
const char* engram_version(void) { return engram::kVersion; }

engram_code engram_status_code(const engram_status* status) {
  return status == nullptr ? ENGRAM_OK : status->code;
}

const char* engram_status_message(const engram_status* status) {
  return status == nullptr ? "" : status->message.c_str();
}

int64_t engram_status_retry_after_us(const engram_status* status) {
  return status == nullptr ? 0 : status->retry_after_us;
}

void engram_status_free(engram_status* status) {
  if (status != engram::OutOfMemory()) delete status;
}

const char* engram_code_name(engram_code code) {
  static constexpr const char* kNames[] = {"OK",
                                           "CANCELLED",
                                           "UNKNOWN",
                                           "INVALID_ARGUMENT",
                                           "DEADLINE_EXCEEDED",
                                           "NOT_FOUND",
                                           "ALREADY_EXISTS",
                                           "PERMISSION_DENIED",
                                           "RESOURCE_EXHAUSTED",
                                           "FAILED_PRECONDITION",
                                           "ABORTED",
                                           "OUT_OF_RANGE",
                                           "UNIMPLEMENTED",
                                           "INTERNAL",
                                           "UNAVAILABLE",
                                           "DATA_LOSS",
                                           "UNAUTHENTICATED"};
  const bool known = code >= ENGRAM_OK && code <= ENGRAM_UNAUTHENTICATED;
  return kNames[known ? code : ENGRAM_UNKNOWN];
}
