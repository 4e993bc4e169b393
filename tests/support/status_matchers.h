// GoogleTest matchers for absl::Status and absl::StatusOr, which Abseil 20220623 has none of.
#ifndef ENGRAM_TESTS_SUPPORT_STATUS_MATCHERS_H_
#define ENGRAM_TESTS_SUPPORT_STATUS_MATCHERS_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace engram {

// Codes that many tests expect.
inline constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;
inline constexpr absl::StatusCode kDataLoss = absl::StatusCode::kDataLoss;
inline constexpr absl::StatusCode kExhausted = absl::StatusCode::kResourceExhausted;

inline const absl::Status& StatusOf(const absl::Status& status) { return status; }
template <typename T>
const absl::Status& StatusOf(const absl::StatusOr<T>& status_or) {
  return status_or.status();
}

// The value is an OK Status or StatusOr.
MATCHER(IsOk, "is OK") {
  *result_listener << StatusOf(arg).ToString();
  return StatusOf(arg).ok();
}

// The value has exactly this code and a message that contains `text`.
MATCHER_P2(StatusIs, code, text, "") {
  const absl::Status& status = StatusOf(arg);
  *result_listener << status.ToString();
  return status.code() == code &&
         std::string(status.message()).find(std::string(text)) != std::string::npos;
}

// The value is an OK StatusOr that holds `value`.
MATCHER_P(IsOkAndHolds, value, "") {
  *result_listener << arg.status().ToString();
  return arg.ok() && *arg == value;
}

}  // namespace engram

#define ENGRAM_TEST_CONCAT_INNER(a, b) a##b
#define ENGRAM_TEST_CONCAT(a, b) ENGRAM_TEST_CONCAT_INNER(a, b)

// ASSERT_OK_AND_ASSIGN(auto x, StatusOrExpr()): the value, or a fatal failure with the status.
#define ASSERT_OK_AND_ASSIGN(lhs, expr) \
  ASSERT_OK_AND_ASSIGN_IMPL(ENGRAM_TEST_CONCAT(status_or_, __LINE__), lhs, expr)
#define ASSERT_OK_AND_ASSIGN_IMPL(tmp, lhs, expr) \
  auto tmp = (expr);                              \
  ASSERT_TRUE(tmp.ok()) << tmp.status();          \
  lhs = *std::move(tmp)

#endif  // ENGRAM_TESTS_SUPPORT_STATUS_MATCHERS_H_
