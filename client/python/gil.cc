#include "client/python/gil.h"

#include <unistd.h>

#include <cmath>
#include <string>

namespace py = pybind11;

namespace engram::python {

// The thread that holds the GIL of an ending interpreter is the one that ends it, and gets it back.
ReleasedGil::ReleasedGil() : ends_interpreter_(_Py_IsFinalizing()), state_(PyEval_SaveThread()) {}

ReleasedGil::~ReleasedGil() noexcept(false) {
  while (!ends_interpreter_ && _Py_IsFinalizing()) pause();
  PyEval_RestoreThread(state_);
}

int64_t ToMicroseconds(double seconds, const char* what) {
  // A timeout that no clock can count to.
  constexpr double kMost = 1e9;
  if (!(seconds >= 0) || seconds > kMost) {
    throw py::value_error(std::string(what) + " is " + std::to_string(seconds) +
                          " s, not a number of seconds from 0 to 1e9");
  }
  return std::max<int64_t>(1, std::llround(seconds * 1e6));
}

Until::Until(std::optional<double> seconds) {
  if (seconds) {
    end_ = Clock::now() +
           std::chrono::microseconds(*seconds == 0 ? 0 : ToMicroseconds(*seconds, "timeout"));
  }
}

int64_t Until::slice_us() const {
  using std::chrono::microseconds;
  const microseconds slice = kSlice;
  if (!end_) return slice.count();
  const auto left = std::chrono::ceil<microseconds>(*end_ - Clock::now());
  return std::clamp(left, microseconds(0), slice).count();
}

void CheckSignals() {
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

}  // namespace engram::python
