// Options of lookups and choices of rows as Python's keyword arguments.
#ifndef ENGRAM_CLIENT_PYTHON_OPTIONS_H_
#define ENGRAM_CLIENT_PYTHON_OPTIONS_H_

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <vector>

#include "client/c/engram_client.h"

namespace engram::python {

// What every lookup takes by keyword: `timeout` (seconds; then what has not come fails),
// `priority` ("decode", "prefill"), `missing_rows` ("fail", "zeros"), `degraded` (uint8 or bool
// [tokens], set where a token got zeros; borrowed until the lookup is done).
class LookupOptions {
 public:
  // TypeError: an unknown keyword. ValueError: a value that is none of the choices.
  explicit LookupOptions(const pybind11::kwargs& keywords);

  const engram_lookup_options* get() const { return &options_; }
  // Null handle without flags.
  const pybind11::array& degraded() const { return degraded_; }

 private:
  engram_lookup_options options_ = ENGRAM_LOOKUP_OPTIONS_INIT;
  pybind11::array degraded_ = pybind11::reinterpret_borrow<pybind11::array>(pybind11::handle());
};

// ValueError: no choice. None is the default.
int32_t ToPriority(pybind11::handle priority);
// None: all, else (begin, end).
engram_columns ToColumns(pybind11::handle columns);
// A layer's id. TypeError: no integer from 0 to 2^32 - 1.
uint32_t ToLayer(pybind11::handle layer);
// None: all (empty).
std::vector<uint32_t> ToLayers(pybind11::handle layers);

}  // namespace engram::python

#endif  // ENGRAM_CLIENT_PYTHON_OPTIONS_H_
