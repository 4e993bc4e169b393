// Python's arrays as the C ABI takes them: whose memory is shared is used where it lies.
#ifndef ENGRAM_CLIENT_PYTHON_ARRAYS_H_
#define ENGRAM_CLIENT_PYTHON_ARRAYS_H_

#include <pybind11/numpy.h>

#include <cstdint>
#include <string>
#include <vector>

namespace engram::python {

// `object` as a numpy array over the same memory: a numpy array, whatever has the buffer protocol,
// or a torch tensor on the CPU. TypeError naming `name` for anything else, ValueError for a tensor
// that is elsewhere.
pybind11::array AsArray(pybind11::handle object, const std::string& name);

// Row ids: int32 or int64 of any shape and stride, aligned. TypeError: another dtype.
pybind11::array AsIds(pybind11::handle object, const std::string& name);

// Ids as dense int64 in their shape; itself where it is that already.
pybind11::array DenseIds(const pybind11::array& ids);

// Token ids: uint32 [n], dense; itself where it is that already. int32 and int64 are taken too.
// TypeError: another dtype. ValueError: not of one dimension, or an id that is below 0 or no
// uint32.
pybind11::array AsTokens(pybind11::handle object, const std::string& name);

// Flags, one a token: uint8 or bool [n], dense; None gives an empty handle.
// `writable`: to be written to. TypeError and ValueError as above.
pybind11::array AsFlags(pybind11::handle object, const std::string& name, bool writable);

// Bytes: uint8, C-contiguous, of any shape. TypeError: another dtype. ValueError: other strides.
pybind11::array AsBytes(pybind11::handle object, const std::string& name);

// Bytes that may be written to. ValueError: read-only.
pybind11::array AsOutput(pybind11::handle object, const std::string& name);

std::vector<pybind11::ssize_t> ShapeOf(const pybind11::array& array);
// "(2, 24)"
std::string ShapeText(const std::vector<pybind11::ssize_t>& shape);
// ValueError: `array` has another shape.
void CheckShape(const pybind11::array& array, const std::vector<pybind11::ssize_t>& shape,
                const std::string& name);

inline uint8_t* BytesOf(const pybind11::array& array) {
  return static_cast<uint8_t*>(const_cast<void*>(array.data()));
}

// Memory that a lookup reads or writes, by name.
class MemoryUse {
 public:
  void Reads(const pybind11::array& array, const std::string& name) { Add(array, name, false); }
  void Writes(const pybind11::array& array, const std::string& name) { Add(array, name, true); }
  // ValueError: what is written overlaps something else.
  void Check();

 private:
  struct Range {
    const uint8_t* begin;
    const uint8_t* end;
    bool written;
    std::string name;
  };
  void Add(const pybind11::array& array, const std::string& name, bool written);

  std::vector<Range> ranges_;
};

}  // namespace engram::python

#endif  // ENGRAM_CLIENT_PYTHON_ARRAYS_H_
