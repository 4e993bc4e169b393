// The state of a sequence between its chunks.
#ifndef ENGRAM_CLIENT_PYTHON_LOOK_BACK_H_
#define ENGRAM_CLIENT_PYTHON_LOOK_BACK_H_

#include <pybind11/pybind11.h>

#include "client/c/engram_client.h"

namespace engram::python {

struct LookBack {
  engram_lookback state{};
};

void BindLookBack(pybind11::module_& module);

}  // namespace engram::python

#endif  // ENGRAM_CLIENT_PYTHON_LOOK_BACK_H_
