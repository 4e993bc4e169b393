// engram_client._engram_client: the C ABI as Python's objects. Arguments are checked and named
// here; what a lookup does is libengram_client.so's.
#include "client/python/client.h"
#include "client/python/errors.h"
#include "client/python/look_back.h"
#include "client/python/prefetch.h"
#include "client/python/slot.h"
#include "client/python/ticket.h"

namespace engram::python {

PYBIND11_MODULE(_engram_client, module) {
  WatchForks();
  module.doc() = "Rows of Engram tables from memory servers.";
  module.attr("__version__") = engram_version();
  BindErrors(module);
  BindTable(module);
  BindLookBack(module);
  BindTicket(module);
  BindClient(module);
  BindPrefetch(module);
  BindSlot(module);
}

}  // namespace engram::python
