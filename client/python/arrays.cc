#include "client/python/arrays.h"

#include <algorithm>

namespace py = pybind11;

namespace engram::python {
namespace {

std::string TypeName(py::handle object) { return Py_TYPE(object.ptr())->tp_name; }

// torch.Tensor, where torch is loaded.
bool IsTensor(py::handle object) {
  const py::dict modules = py::module_::import("sys").attr("modules");
  if (!modules.contains("torch")) return false;
  const py::object torch = modules["torch"];
  return py::hasattr(torch, "Tensor") && py::isinstance(object, torch.attr("Tensor"));
}

py::array OfTensor(py::handle tensor, const std::string& name) {
  const std::string device = py::str(tensor.attr("device").attr("type"));
  if (device != "cpu") {
    throw py::value_error(name + " is a tensor on " + std::string(py::str(tensor.attr("device"))) +
                          ", not on the CPU");
  }
  return py::array(tensor.attr("detach")().attr("numpy")());
}

std::string DtypeText(const py::array& array) { return std::string(py::str(array.dtype())); }

// Of the machine's byte order.
bool Is(const py::array& array, char kind, py::ssize_t bytes) {
  const py::dtype dtype = array.dtype();
  return dtype.kind() == kind && dtype.itemsize() == bytes && dtype.byteorder() != '>';
}

bool IsAligned(const py::array& array) {
  return (array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) != 0;
}

bool IsDense(const py::array& array) {
  return (array.flags() & py::array::c_style) != 0 && IsAligned(array);
}

template <typename T>
py::array Dense(const py::array& array) {
  auto dense = py::array_t<T, py::array::c_style | py::array::forcecast>::ensure(array);
  if (!dense) throw py::error_already_set();
  return dense;
}

void CheckOneDimension(const py::array& array, const std::string& name) {
  if (array.ndim() != 1) {
    throw py::value_error(name + " has shape " + ShapeText(ShapeOf(array)) + ", not (n,)");
  }
}

void CheckDense(const py::array& array, const std::string& name) {
  if ((array.flags() & py::array::c_style) == 0) {
    throw py::value_error(name + " is not C-contiguous");
  }
}

void CheckWritable(const py::array& array, const std::string& name) {
  if (!array.writeable()) throw py::value_error(name + " is read-only");
}

}  // namespace

py::array AsArray(py::handle object, const std::string& name) {
  if (py::isinstance<py::array>(object)) return py::reinterpret_borrow<py::array>(object);
  if (PyObject_CheckBuffer(object.ptr()) != 0) {
    const auto view = py::reinterpret_steal<py::object>(PyMemoryView_FromObject(object.ptr()));
    if (!view) throw py::error_already_set();
    return py::array(py::module_::import("numpy").attr("asarray")(view));
  }
  if (IsTensor(object)) return OfTensor(object, name);
  throw py::type_error(name + " is a " + TypeName(object) +
                       ", not a numpy array, a buffer or a torch tensor");
}

py::array AsIds(py::handle object, const std::string& name) {
  py::array ids = AsArray(object, name);
  if (!Is(ids, 'i', 8) && !Is(ids, 'i', 4)) {
    throw py::type_error(name + " is of " + DtypeText(ids) + ", not of int64 or int32");
  }
  return IsAligned(ids) ? ids : DenseIds(ids);
}

py::array DenseIds(const py::array& ids) {
  return Is(ids, 'i', 8) && IsDense(ids) ? ids : Dense<int64_t>(ids);
}

py::array AsTokens(py::handle object, const std::string& name) {
  const py::array tokens = AsArray(object, name);
  CheckOneDimension(tokens, name);
  if (Is(tokens, 'u', 4)) return IsDense(tokens) ? tokens : Dense<uint32_t>(tokens);
  if (!Is(tokens, 'i', 8) && !Is(tokens, 'i', 4)) {
    throw py::type_error(name + " is of " + DtypeText(tokens) + ", not of uint32, int32 or int64");
  }
  const auto wide = py::array_t<int64_t>(DenseIds(tokens));
  py::array_t<uint32_t> narrow(wide.size());
  uint32_t* const to = narrow.mutable_data();
  for (py::ssize_t i = 0; i < wide.size(); ++i) {
    const int64_t token = wide.data()[i];
    if (token < 0 || token > int64_t{UINT32_MAX}) {
      throw py::value_error(name + "[" + std::to_string(i) + "] is " + std::to_string(token) +
                            ", which is no token id");
    }
    to[i] = static_cast<uint32_t>(token);
  }
  return narrow;
}

py::array AsFlags(py::handle object, const std::string& name, bool writable) {
  if (object.is_none()) return py::reinterpret_borrow<py::array>(py::handle());
  py::array flags = AsArray(object, name);
  if (!Is(flags, 'u', 1) && !Is(flags, 'b', 1)) {
    throw py::type_error(name + " is of " + DtypeText(flags) + ", not of uint8 or bool");
  }
  CheckOneDimension(flags, name);
  CheckDense(flags, name);
  if (writable) CheckWritable(flags, name);
  return flags;
}

py::array AsBytes(py::handle object, const std::string& name) {
  py::array bytes = AsArray(object, name);
  if (!Is(bytes, 'u', 1)) {
    throw py::type_error(name + " is of " + DtypeText(bytes) + ", not of uint8");
  }
  CheckDense(bytes, name);
  return bytes;
}

py::array AsOutput(py::handle object, const std::string& name) {
  py::array out = AsBytes(object, name);
  CheckWritable(out, name);
  return out;
}

std::vector<py::ssize_t> ShapeOf(const py::array& array) {
  return {array.shape(), array.shape() + array.ndim()};
}

std::string ShapeText(const std::vector<py::ssize_t>& shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return text + (shape.size() == 1 ? ",)" : ")");
}

void CheckShape(const py::array& array, const std::vector<py::ssize_t>& shape,
                const std::string& name) {
  if (!std::equal(shape.begin(), shape.end(), array.shape(), array.shape() + array.ndim())) {
    throw py::value_error(name + " has shape " + ShapeText(ShapeOf(array)) + ", not " +
                          ShapeText(shape));
  }
}

void MemoryUse::Add(const py::array& array, const std::string& name, bool written) {
  if (!array || array.size() == 0) return;
  const uint8_t* begin = BytesOf(array);
  const uint8_t* end = begin + array.itemsize();
  for (py::ssize_t i = 0; i < array.ndim(); ++i) {
    const py::ssize_t reach = (array.shape(i) - 1) * array.strides(i);
    (reach < 0 ? begin : end) += reach;
  }
  ranges_.push_back({begin, end, written, name});
}

void MemoryUse::Check() {
  std::sort(ranges_.begin(), ranges_.end(),
            [](const Range& a, const Range& b) { return a.begin < b.begin; });
  // The furthest end so far, of what is written and of all.
  const Range* furthest[2] = {nullptr, nullptr};
  for (const Range& range : ranges_) {
    const Range* const before = furthest[range.written ? 1 : 0];
    if (before != nullptr && range.begin < before->end) {
      throw py::value_error(before->name + " and " + range.name + " overlap");
    }
    for (const bool all : {false, true}) {
      if (!all && !range.written) continue;
      const Range*& far = furthest[all ? 1 : 0];
      if (far == nullptr || range.end > far->end) far = &range;
    }
  }
}

}  // namespace engram::python
