// Letting go of the GIL, and waiting without it.
#ifndef ENGRAM_CLIENT_PYTHON_GIL_H_
#define ENGRAM_CLIENT_PYTHON_GIL_H_

#include <pybind11/pybind11.h>

#include <algorithm>
#include <chrono>
#include <optional>

namespace engram::python {

// The GIL is let go while it lives. A daemon thread that would take it back from an interpreter
// that is ending stays here for ever: CPython 3.11 would unwind it through our frames instead.
class ReleasedGil {
 public:
  ReleasedGil();
  ~ReleasedGil() noexcept(false);
  ReleasedGil(const ReleasedGil&) = delete;
  ReleasedGil& operator=(const ReleasedGil&) = delete;

 private:
  const bool ends_interpreter_;
  PyThreadState* const state_;
};

// What `body` returns, run without the GIL.
template <typename Body>
auto WithoutGil(Body&& body) {
  const ReleasedGil released;
  return body();
}

// How often a wait looks for signals.
inline constexpr std::chrono::milliseconds kSlice{50};

// Until when a Python caller waits.
class Until {
 public:
  using Clock = std::chrono::steady_clock;

  // `seconds`: none waits for ever. ValueError naming `timeout`: negative or no number.
  explicit Until(std::optional<double> seconds);

  bool passed() const { return end_ && Clock::now() >= *end_; }
  // The next slice of the wait, microseconds.
  int64_t slice_us() const;

 private:
  std::optional<Clock::time_point> end_;
};

// Seconds as microseconds, at least 1. ValueError naming `what`.
int64_t ToMicroseconds(double seconds, const char* what);

// Raises what a signal's handler has raised.
void CheckSignals();

}  // namespace engram::python

#endif  // ENGRAM_CLIENT_PYTHON_GIL_H_
