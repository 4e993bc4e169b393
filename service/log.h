// What a server says while it runs, on standard error.
#ifndef ENGRAM_SERVICE_LOG_H_
#define ENGRAM_SERVICE_LOG_H_

#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "proto/base/mutex.h"

namespace engram {

enum class LogLevel { kInfo, kError };

// A line as it is written, without its end: "TIME LEVEL MESSAGE", or one JSON object with those
// three. Bytes that would break the line (or are no UTF-8, in JSON) are escaped (or replaced).
std::string FormatLogLine(bool json, absl::Time time, LogLevel level, absl::string_view message);

// Writes whole lines, at most kLinesPerSecond of them; how many were left out is said before the
// next. Any thread.
class Log {
 public:
  static constexpr int kLinesPerSecond = 50;

  explicit Log(bool json) : json_(json) {}
  void Write(LogLevel level, absl::string_view message);

  // From now on gRPC's errors come here; once a process, which this object outlives.
  void TakeGrpcErrors();

 private:
  const bool json_;
  Mutex mutex_;
  absl::Time second_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();  // that lines are counted in
  int lines_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace engram

#endif  // ENGRAM_SERVICE_LOG_H_
