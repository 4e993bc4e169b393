#include "client/python/errors.h"

namespace py = pybind11;

namespace engram::python {
namespace {

// The interpreter's, and as long as it.
PyObject* engram_error = nullptr;

}  // namespace

void BindErrors(py::module_& module) {
  py::dict attributes;
  attributes["code"] = "UNKNOWN";
  attributes["retry_after"] = py::none();
  engram_error = PyErr_NewExceptionWithDoc(
      "engram_client.EngramError",
      "A lookup or connection has failed. `code`: the status code's name, \"UNAVAILABLE\". "
      "`retry_after`: of RESOURCE_EXHAUSTED, the seconds after which trying again may help; None "
      "where that is not known.",
      PyExc_Exception, attributes.ptr());
  if (engram_error == nullptr) throw py::error_already_set();
  module.attr("EngramError") = py::handle(engram_error);
}

void Raise(engram_code code, const std::string& message, std::chrono::microseconds retry_after) {
  const std::string name = engram_code_name(code);
  // Messages hold what servers and files say: whatever is no UTF-8 is replaced.
  const std::string text = name + ": " + message;
  const auto said = py::reinterpret_steal<py::object>(
      PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace"));
  if (!said) throw py::error_already_set();
  const py::object error = py::handle(engram_error)(said);
  error.attr("code") = name;
  if (retry_after.count() > 0) {
    error.attr("retry_after") = std::chrono::duration<double>(retry_after).count();
  }
  PyErr_SetObject(engram_error, error.ptr());
  throw py::error_already_set();
}

}  // namespace engram::python
