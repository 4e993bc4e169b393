#include "client/python/options.h"

#include "client/python/arrays.h"
#include "client/python/gil.h"

namespace py = pybind11;

namespace engram::python {
namespace {

std::string Text(py::handle object) { return py::str(py::repr(object)); }

engram_missing_rows ToMissingRows(py::handle missing) {
  if (missing.is_none()) return ENGRAM_MISSING_DEFAULT;
  if (missing.equal(py::str("fail"))) return ENGRAM_MISSING_FAIL;
  if (missing.equal(py::str("zeros"))) return ENGRAM_MISSING_ZEROS;
  throw py::value_error("missing_rows is " + Text(missing) + ", not \"fail\" or \"zeros\"");
}

// A whole number from 0 to 2^32 - 1, numpy's too.
uint32_t ToUint32(py::handle number, const std::string& what) {
  const auto index = py::reinterpret_steal<py::object>(PyNumber_Index(number.ptr()));
  if (index) {
    const unsigned long long value = PyLong_AsUnsignedLongLong(index.ptr());
    if (PyErr_Occurred() == nullptr && value <= UINT32_MAX) return static_cast<uint32_t>(value);
  }
  PyErr_Clear();
  throw py::type_error(what + " is " + Text(number) + ", not an integer from 0 to 2^32 - 1");
}

}  // namespace

LookupOptions::LookupOptions(const py::kwargs& keywords) {
  for (const auto& [key, value] : keywords) {
    const std::string name = py::str(key);
    if (name == "timeout") {
      if (value.is_none()) continue;
      const double seconds = PyFloat_AsDouble(value.ptr());
      if (PyErr_Occurred() != nullptr) throw py::error_already_set();
      options_.timeout_us = ToMicroseconds(seconds, "timeout");
    } else if (name == "priority") {
      options_.priority = ToPriority(value);
    } else if (name == "missing_rows") {
      options_.missing = ToMissingRows(value);
    } else if (name == "degraded") {
      degraded_ = AsFlags(value, "degraded", true);
    } else {
      throw py::type_error("unknown keyword `" + name +
                           "` (timeout, priority, missing_rows, degraded)");
    }
  }
  if (degraded_) {
    options_.degraded = BytesOf(degraded_);
    options_.degraded_count = static_cast<size_t>(degraded_.size());
  }
}

int32_t ToPriority(py::handle priority) {
  if (priority.is_none()) return ENGRAM_PRIORITY_DEFAULT;
  if (priority.equal(py::str("decode"))) return ENGRAM_PRIORITY_DECODE;
  if (priority.equal(py::str("prefill"))) return ENGRAM_PRIORITY_PREFILL;
  throw py::value_error("priority is " + Text(priority) + ", not \"decode\" or \"prefill\"");
}

engram_columns ToColumns(py::handle columns) {
  if (columns.is_none()) return {0, 0};
  const auto pair = py::reinterpret_steal<py::object>(PySequence_Tuple(columns.ptr()));
  PyErr_Clear();
  if (!pair || py::len(pair) != 2) {
    throw py::type_error("columns is " + Text(columns) + ", not (begin, end)");
  }
  const auto tuple = py::reinterpret_borrow<py::tuple>(pair);
  return {ToUint32(tuple[0], "columns[0]"), ToUint32(tuple[1], "columns[1]")};
}

uint32_t ToLayer(py::handle layer) { return ToUint32(layer, "layer"); }

std::vector<uint32_t> ToLayers(py::handle layers) {
  std::vector<uint32_t> ids;
  if (layers.is_none()) return ids;
  for (const py::handle layer : py::iter(layers)) ids.push_back(ToLayer(layer));
  if (ids.empty()) throw py::value_error("layers names no layer");
  return ids;
}

}  // namespace engram::python
