// Lookups of one client into arrays of Python's.
#ifndef ENGRAM_CLIENT_PYTHON_LOOKUP_H_
#define ENGRAM_CLIENT_PYTHON_LOOKUP_H_

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <memory>

#include "client/python/handle.h"
#include "client/python/look_back.h"
#include "client/python/options.h"
#include "client/python/table.h"
#include "client/python/ticket.h"

namespace engram::python {

// Starts a lookup by row ids: `requests` {layer: (ids, out)}; ids int32 or int64 of any shape, -1
// for a row of zeros; out uint8 [*ids.shape, row_bytes]. Ids whose last axis is the table's columns
// go as tokens' (as they lie, if they have two axes); `per_column` ids, which count from their
// column's first row, must.
std::shared_ptr<Ticket> SubmitIds(const std::shared_ptr<Handle>& handle, const Table& table,
                                  const pybind11::dict& requests, bool per_column,
                                  const LookupOptions& options);

// The same of one layer, to its end. Keeps no ticket.
void LookupInto(const std::shared_ptr<Handle>& handle, const Table& table, pybind11::handle layer,
                pybind11::handle ids, pybind11::handle out, const LookupOptions& options);
// Makes the output too: uint8 [*ids.shape, row_bytes].
pybind11::array Lookup(const std::shared_ptr<Handle>& handle, const Table& table,
                       pybind11::handle layer, pybind11::handle ids, const LookupOptions& options);

// Starts a lookup of a sequence's next tokens: `outs` {layer: uint8 [tokens, columns, row_bytes]};
// `dead` None or flags; `look_back` None or the state, which is moved.
std::shared_ptr<Ticket> SubmitTokens(const std::shared_ptr<Handle>& handle, const Table& table,
                                     pybind11::handle tokens, const pybind11::dict& outs,
                                     LookBack* look_back, pybind11::handle dead,
                                     const LookupOptions& options);

// Row ids of tokens as the C ABI takes them; `ids` of AsIds. ValueError naming `name`: not of shape
// (tokens, columns), or negative strides.
engram_layer_ids ToLayerIds(const pybind11::array& ids, uint32_t columns, const std::string& name);

}  // namespace engram::python

#endif  // ENGRAM_CLIENT_PYTHON_LOOKUP_H_
