// Rows to values, and what a client counts.
#ifndef ENGRAM_CLIENT_PYTHON_VALUES_H_
#define ENGRAM_CLIENT_PYTHON_VALUES_H_

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "client/python/client.h"

namespace engram::python {

// uint8 [..., row_bytes] (value_bytes, with `scales` [..., scales] beside it) -> float32 [...,
// values], or bf16's bits as uint16.
pybind11::array Dequantize(const Client& client, pybind11::handle rows, pybind11::handle dtype,
                           pybind11::handle scales);

// [(name, help, kind, {label: value}, value)], samples of one name one behind the other.
pybind11::list Metrics(const Client& client);

}  // namespace engram::python

#endif  // ENGRAM_CLIENT_PYTHON_VALUES_H_
