// A submitted lookup as a Python object.
#ifndef ENGRAM_CLIENT_PYTHON_TICKET_H_
#define ENGRAM_CLIENT_PYTHON_TICKET_H_

#include <pybind11/pybind11.h>

#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "client/python/handle.h"

namespace engram::python {

// Waits in slices for one layer, or all, of a ticket or a slot, with the GIL let go and signals
// looked for in between. `wait(slice_us)` -> client::Status and `done()` run without the GIL.
template <typename Wait, typename Done>
void WaitInSlices(const Until& until, Wait&& wait, Done&& done) {
  while (true) {
    client::Status said;
    const bool over = WithoutGil([&] {
      said = wait(until.slice_us());
      if (said.code() != ENGRAM_DEADLINE_EXCEEDED) return true;
      if (!done()) return until.passed();
      said = wait(0);  // done in between, or by its own timeout: what it says now is its end
      return true;
    });
    if (over) return Check(said);
    CheckSignals();
  }
}

// Destroying it calls off what is outstanding, without the GIL, before what it borrows is let go.
// Python's threads may use it at once.
class Ticket {
 public:
  explicit Ticket(std::shared_ptr<Handle> handle) : handle_(std::move(handle)) {}
  ~Ticket();

  // For the submit alone, before anybody waits.
  client::Ticket& ticket() { return ticket_; }
  // Keeps `borrowed` until every layer is done.
  void Hold(std::vector<uint32_t> layers, std::vector<pybind11::object> borrowed);

  // Of `layer`, or of all.
  void Wait(std::optional<uint32_t> layer, const Until& until);
  bool Done(std::optional<uint32_t> layer);

 private:
  bool IsDone(std::optional<uint32_t> layer) const;  // under mutex_

  const std::shared_ptr<Handle> handle_;  // what it waits for needs the client
  ForkedMutex<std::mutex> mutex_;         // a ticket is for one thread at a time
  client::Ticket ticket_;
  std::vector<uint32_t> layers_;
  std::vector<pybind11::object> borrowed_;
};

void BindTicket(pybind11::module_& module);

}  // namespace engram::python

#endif  // ENGRAM_CLIENT_PYTHON_TICKET_H_
