// The client as Python sees it.
#ifndef ENGRAM_CLIENT_PYTHON_CLIENT_H_
#define ENGRAM_CLIENT_PYTHON_CLIENT_H_

#include <pybind11/pybind11.h>

#include <memory>

#include "client/python/handle.h"
#include "client/python/table.h"

namespace engram::python {

struct Client {
  std::shared_ptr<Handle> handle;
  Table table;
  pybind11::object token_map;  // none yet: null
};

void BindClient(pybind11::module_& module);

}  // namespace engram::python

#endif  // ENGRAM_CLIENT_PYTHON_CLIENT_H_
