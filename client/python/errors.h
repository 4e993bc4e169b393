// EngramError: a status of the client library as a Python exception.
#ifndef ENGRAM_CLIENT_PYTHON_ERRORS_H_
#define ENGRAM_CLIENT_PYTHON_ERRORS_H_

#include <pybind11/pybind11.h>

#include <chrono>
#include <string>

#include "client/c/engram_client.hpp"

namespace engram::python {

void BindErrors(pybind11::module_& module);

// Throws EngramError with `.code` the code's name and `.retry_after` in seconds. With the GIL.
[[noreturn]] void Raise(engram_code code, const std::string& message,
                        std::chrono::microseconds retry_after = {});

// Nothing where the status is OK, else Raise. With the GIL.
inline void Check(const client::Status& status) {
  if (!status.ok()) Raise(status.code(), status.message(), status.retry_after());
}

}  // namespace engram::python

#endif  // ENGRAM_CLIENT_PYTHON_ERRORS_H_
