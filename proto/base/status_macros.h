// Early return on a failed absl::Status, which Abseil 20220623 has no macro for.
#ifndef ENGRAM_PROTO_BASE_STATUS_MACROS_H_
#define ENGRAM_PROTO_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define ENGRAM_STATUS_CONCAT_INNER(a, b) a##b
#define ENGRAM_STATUS_CONCAT(a, b) ENGRAM_STATUS_CONCAT_INNER(a, b)

// Returns from the calling function with the status of `expr` unless it is OK.
#define RETURN_IF_ERROR(expr)                                         \
  do {                                                                \
    if (absl::Status status_ = (expr); !status_.ok()) return status_; \
  } while (false)

// ASSIGN_OR_RETURN(auto x, StatusOrExpr()): assigns the value, or returns the status.
#define ASSIGN_OR_RETURN(lhs, expr) \
  ASSIGN_OR_RETURN_IMPL(ENGRAM_STATUS_CONCAT(status_or_, __LINE__), lhs, expr)
#define ASSIGN_OR_RETURN_IMPL(tmp, lhs, expr)    \
  auto tmp = (expr);                             \
  if (!tmp.ok()) return std::move(tmp).status(); \
  lhs = *std::move(tmp)

#endif  // ENGRAM_PROTO_BASE_STATUS_MACROS_H_
