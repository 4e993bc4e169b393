#include "client/python/ticket.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <utility>

namespace py = pybind11;

namespace engram::python {

Ticket::~Ticket() {
  WithoutGil([this] { const client::Ticket ended = std::move(ticket_); });
}

void Ticket::Hold(std::vector<uint32_t> layers, std::vector<py::object> borrowed) {
  layers_ = std::move(layers);
  borrowed_ = std::move(borrowed);
}

bool Ticket::IsDone(std::optional<uint32_t> layer) const {
  if (layer) return ticket_.Done(*layer);
  return std::all_of(layers_.begin(), layers_.end(),
                     [this](uint32_t each) { return ticket_.Done(each); });
}

void Ticket::Wait(std::optional<uint32_t> layer, const Until& until) {
  const auto wait = [&](int64_t slice_us) {
    const std::lock_guard lock(mutex_);
    const client::Timeout slice(slice_us);
    return layer ? ticket_.Wait(*layer, slice) : ticket_.WaitAll(slice);
  };
  const auto done = [&] {
    const std::lock_guard lock(mutex_);
    return IsDone(layer);
  };
  WaitInSlices(until, wait, done);
  if (!layer) borrowed_.clear();
}

bool Ticket::Done(std::optional<uint32_t> layer) {
  return WithoutGil([&] {
    const std::lock_guard lock(mutex_);
    return IsDone(layer);
  });
}

void BindTicket(py::module_& module) {
  py::class_<Ticket, std::shared_ptr<Ticket>>(
      module, "Ticket",
      "A submitted lookup. It keeps the arrays that it borrows, and the client, until it is done "
      "or\n"
      "gone; one that is dropped calls its lookup off. Any thread.")
      .def(
          "wait",
          [](Ticket& ticket, std::optional<uint32_t> layer, std::optional<double> timeout) {
            ticket.Wait(layer, Until(timeout));
          },
          py::arg("layer") = py::none(), py::arg("timeout") = py::none(),
          "Returns when the rows of `layer`, or of all layers, are in place. Raises EngramError "
          "where\n"
          "they will never be (the outputs then hold anything), or DEADLINE_EXCEEDED after "
          "`timeout`\n"
          "seconds, which leaves the lookup running.")
      .def(
          "done", [](Ticket& ticket, std::optional<uint32_t> layer) { return ticket.Done(layer); },
          py::arg("layer") = py::none(), "Whether such a wait would return at once.");
}

}  // namespace engram::python
