// What a client's servers hold, as Python sees it.
#ifndef ENGRAM_CLIENT_PYTHON_TABLE_H_
#define ENGRAM_CLIENT_PYTHON_TABLE_H_

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <vector>

#include "client/python/handle.h"

namespace engram::python {

// Copied from the client: good after it is closed.
struct Table {
  std::string model, digest;
  std::vector<uint32_t> layers;
  uint64_t total_rows = 0;
  uint32_t columns = 0, max_ngram = 0, heads = 0, row_bytes = 0;
  std::string value_type, scale_type, hash_rule;
  uint32_t values = 0, value_bytes = 0, scales = 0;
  uint32_t pad_token = 0, compressed_vocab = 0, token_map_tokens = 0;
  uint64_t seed = 0;
};

struct TableLayer {
  uint32_t layer = 0;
  uint64_t rows = 0;
  pybind11::object column_first, column_rows, multipliers;  // read-only numpy arrays
};

Table TableOf(Handle& handle);
TableLayer LayerOf(Handle& handle, uint32_t layer);
// Read-only numpy array; None where no server has one.
pybind11::object TokenMapOf(Handle& handle);

void BindTable(pybind11::module_& module);

}  // namespace engram::python

#endif  // ENGRAM_CLIENT_PYTHON_TABLE_H_
