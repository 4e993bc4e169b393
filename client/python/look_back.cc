#include "client/python/look_back.h"

#include <cstring>
#include <string>

namespace py = pybind11;

namespace engram::python {
namespace {

LookBack FromBytes(const std::string& bytes) {
  LookBack state;
  if (bytes.size() != sizeof(state.state)) {
    throw py::value_error("a look-back state has " + std::to_string(sizeof(state.state)) +
                          " bytes, not " + std::to_string(bytes.size()));
  }
  std::memcpy(&state.state, bytes.data(), bytes.size());
  return state;
}

py::bytes ToBytes(const LookBack& state) {
  return {reinterpret_cast<const char*>(&state.state), sizeof(state.state)};
}

bool Equal(const LookBack& a, const LookBack& b) {
  return std::memcmp(&a.state, &b.state, sizeof(a.state)) == 0;
}

}  // namespace

void BindLookBack(py::module_& module) {
  py::class_<LookBack>(
      module, "LookBack",
      "What a sequence's next chunk needs to know of the positions before it; a new one stands at "
      "the\n"
      "start. Submitting moves it past the chunk. A copy is an independent branch (drafts).")
      .def(py::init<>())
      .def_property_readonly(
          "depth", [](const LookBack& state) { return state.state.depth; },
          "positions that it knows")
      .def("copy", [](const LookBack& state) { return state; })
      .def("__copy__", [](const LookBack& state) { return state; })
      .def("to_bytes", &ToBytes, "32 bytes, good for the same table")
      .def_static("from_bytes", &FromBytes, py::arg("bytes"))
      .def("__eq__", &Equal, py::is_operator())
      .def(py::pickle(&ToBytes, [](const py::bytes& bytes) { return FromBytes(bytes); }));
}

}  // namespace engram::python
