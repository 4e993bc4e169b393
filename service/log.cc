#include "service/log.h"

#include <grpc/support/log.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace engram {
namespace {

std::atomic<Log*> grpc_errors{nullptr};

void WriteAll(const std::string& text) {
  for (size_t at = 0; at < text.size();) {
    const ssize_t count = write(STDERR_FILENO, text.data() + at, text.size() - at);
    if (count <= 0) return;  // There is nobody to tell.
    at += static_cast<size_t>(count);
  }
}

}  // namespace

std::string FormatLogLine(bool json, absl::Time time, LogLevel level, absl::string_view message) {
  const std::string at = absl::FormatTime("%Y-%m-%dT%H:%M:%E6SZ", time, absl::UTCTimeZone());
  const char* const name = level == LogLevel::kError ? "error" : "info";
  if (json) {
    return nlohmann::ordered_json{{"time", at}, {"level", name}, {"message", std::string(message)}}
        .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }
  return absl::StrCat(at, " ", name, " ", absl::Utf8SafeCEscape(message));
}

void Log::Write(LogLevel level, absl::string_view message) {
  const absl::Time now = absl::Now();
  std::string text;
  MutexLock lock(&mutex_);
  if (now - second_ >= absl::Seconds(1) || now < second_) {
    const int left_out = std::max(0, lines_ - kLinesPerSecond);
    if (left_out > 0) {
      text = absl::StrCat(
          FormatLogLine(json_, now, LogLevel::kInfo,
                        absl::StrCat(left_out, " lines were left out: too many in a second")),
          "\n");
    }
    second_ = now;
    lines_ = 0;
  }
  if (++lines_ > kLinesPerSecond) return;
  absl::StrAppend(&text, FormatLogLine(json_, now, level, message), "\n");
  WriteAll(text);
}

void Log::TakeGrpcErrors() {
  grpc_errors = this;
  gpr_set_log_function([](gpr_log_func_args* args) {
    if (args->severity != GPR_LOG_SEVERITY_ERROR) return;
    grpc_errors.load()->Write(LogLevel::kError, absl::StrCat("gRPC: ", args->message));
  });
}

}  // namespace engram
