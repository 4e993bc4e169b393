// What every function of the C ABI shares: statuses, the border that nothing is thrown across, and
// arguments that must not be null.
#ifndef ENGRAM_CLIENT_C_STATUS_H_
#define ENGRAM_CLIENT_C_STATUS_H_

#include <exception>
#include <new>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "client/c/engram_client.h"

struct engram_status {
  engram_code code = ENGRAM_UNKNOWN;
  std::string message;
  int64_t retry_after_us = 0;
};

namespace engram {

// Null for OK. The caller's of the C ABI.
engram_status* NewStatus(const absl::Status& status) noexcept;
// There is no memory for anything else. Never freed.
engram_status* OutOfMemory() noexcept;

// Runs `body`, which returns an absl::Status, and says what it says.
template <typename Body>
engram_status* Call(Body&& body) noexcept {
  try {
    const absl::Status status = std::forward<Body>(body)();
    return status.ok() ? nullptr : NewStatus(status);
  } catch (const std::bad_alloc&) {
    return OutOfMemory();
  } catch (const std::exception& error) {
    return NewStatus(absl::InternalError(error.what()));
  } catch (...) {
    return NewStatus(absl::InternalError("something that is no std::exception was thrown"));
  }
}

// InvalidArgument naming the argument.
absl::Status CheckNotNull(const void* argument, const char* name);
// InvalidArgument: null although there are elements, or more of them than `max`.
absl::Status CheckArray(const void* array, size_t count, size_t max, const char* name);

}  // namespace engram

#endif  // ENGRAM_CLIENT_C_STATUS_H_
