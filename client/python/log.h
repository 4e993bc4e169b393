// The client's log lines on their way to a Python callable.
#ifndef ENGRAM_CLIENT_PYTHON_LOG_H_
#define ENGRAM_CLIENT_PYTHON_LOG_H_

#include <pybind11/pybind11.h>

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

namespace engram::python {

// Lines are put here by I/O threads, which never wait for the GIL, and taken by a daemon thread of
// Python's. Any thread.
class LogQueue {
 public:
  // As engram_log_fn; `user` is a LogQueue. Drops the line where nobody takes what is there.
  static void Put(void* user, const char* line);
  // The next line; none when it is closed and empty. Without the GIL.
  std::optional<std::string> Take();
  // No more lines will be put.
  void Close();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> lines_;
  bool closed_ = false;
};

// Null for None. Starts the thread that calls `log` with each line until the queue is closed; what
// it raises goes to sys.unraisablehook. TypeError: `log` cannot be called.
std::shared_ptr<LogQueue> StartLog(pybind11::handle log);

}  // namespace engram::python

#endif  // ENGRAM_CLIENT_PYTHON_LOG_H_
