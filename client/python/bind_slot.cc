// Slot's names in Python.
#include <pybind11/stl.h>

#include "client/python/slot.h"

namespace py = pybind11;

namespace engram::python {
namespace {

std::shared_ptr<Slot> MakeSlot(const Client& client, uint32_t max_tokens, py::object layers,
                               py::object columns, py::object order, bool split_scales,
                               py::object memory, py::object words, bool caller_resets_words) {
  return std::make_shared<Slot>(
      client, SlotArgs{max_tokens, std::move(layers), std::move(columns), std::move(order),
                       std::move(memory), std::move(words), split_scales, caller_resets_words});
}

// A list in the slot's order, or a dict by layer.
std::vector<py::object> InOrder(const Slot& slot, py::handle ids) {
  std::vector<py::object> arrays;
  if (!py::isinstance<py::dict>(ids)) {
    for (const py::handle each : py::iter(ids)) {
      arrays.push_back(py::reinterpret_borrow<py::object>(each));
    }
    return arrays;
  }
  const auto by_layer = py::reinterpret_borrow<py::dict>(ids);
  for (const uint32_t layer : slot.layers()) {
    if (!by_layer.contains(py::int_(layer))) {
      throw py::value_error("ids have none for layer " + std::to_string(layer));
    }
    arrays.push_back(by_layer[py::int_(layer)]);
  }
  if (by_layer.size() != arrays.size())
    throw py::value_error("ids of a layer that the slot has not");
  return arrays;
}

}  // namespace

void BindSlot(py::module_& module) {
  module.attr("WORD_PENDING") = ENGRAM_WORD_PENDING;
  module.attr("WORD_READY") = ENGRAM_WORD_READY;
  module.attr("WORD_ERROR") = ENGRAM_WORD_ERROR;
  const auto none = py::none();
  py::class_<Slot, std::shared_ptr<Slot>>(
      module, "Slot",
      "A step's rows at addresses that never change. Its views and the arrays that a step borrows\n"
      "live as long as they are needed. Any thread; one step at a time.")
      .def(py::init(&MakeSlot), py::arg("client"), py::arg("max_tokens"), py::kw_only(),
           py::arg("layers") = none, py::arg("columns") = none, py::arg("order") = "token",
           py::arg("split_scales") = false, py::arg("memory") = none, py::arg("words") = none,
           py::arg("caller_resets_words") = false)
      .def(
          "submit_ids",
          [](Slot& slot, py::handle ids, py::handle mask, bool per_column, bool own_columns,
             const py::kwargs& options) {
            slot.SubmitIds(InOrder(slot, ids), mask, per_column, own_columns,
                           LookupOptions(options));
          },
          py::arg("ids"), py::arg("mask") = none, py::arg("per_column") = false,
          py::arg("own_columns") = false,
          "Starts a step: int32 or int64 [tokens, columns] for each layer, -1 for a row of zeros.\n"
          "`mask` [tokens]: tokens that get zeros. `per_column`: ids count from their column's "
          "first\n"
          "row. `own_columns`: the arrays hold the slot's columns alone.")
      .def(
          "submit_tokens",
          [](Slot& slot, py::handle chunks, const py::kwargs& options) {
            slot.SubmitTokens(chunks, LookupOptions(options));
          },
          py::arg("chunks"),
          "Starts a step of chunks, each (tokens, look_back), (tokens, look_back, dead) or\n"
          "(prefetch, first, count).")
      .def(
          "wait",
          [](Slot& slot, std::optional<uint32_t> layer, std::optional<double> timeout) {
            slot.Wait(layer, Until(timeout));
          },
          py::arg("layer") = none, py::arg("timeout") = none,
          "As Ticket.wait; a failed layer's rows are zeros.")
      .def("done", &Slot::Done, py::arg("layer") = none)
      .def("cancel", &Slot::Cancel, "Asks for the end of the step and does not wait for it.")
      .def(
          "rows",
          [](const py::object& self, uint32_t layer, std::optional<uint32_t> tokens) {
            return self.cast<const Slot&>().Rows(self, layer, tokens);
          },
          py::arg("layer"), py::arg("tokens") = none,
          "uint8 [tokens, columns, row_bytes (value_bytes with split_scales)], or heads first; of "
          "a\n"
          "step of so many tokens (None: max_tokens). A view that never moves.")
      .def(
          "scales",
          [](const py::object& self, uint32_t layer, std::optional<uint32_t> tokens) {
            return self.cast<const Slot&>().Scales(self, layer, tokens);
          },
          py::arg("layer"), py::arg("tokens") = none,
          "uint8 [tokens, columns, scales] with split_scales, else None.")
      .def_property_readonly(
          "words", [](const py::object& self) { return self.cast<const Slot&>().Words(self); },
          "uint64 [layers]: WORD_PENDING, WORD_READY or WORD_ERROR. A view.")
      .def_property_readonly("layers",
                             [](const Slot& slot) { return py::tuple(py::cast(slot.layers())); })
      .def_property_readonly("columns", &Slot::columns, "(begin, end)")
      .def_property_readonly("max_tokens", &Slot::max_tokens);
}

}  // namespace engram::python
