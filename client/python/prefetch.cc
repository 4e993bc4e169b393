#include "client/python/prefetch.h"

#include <pybind11/stl.h>

#include <chrono>

#include "client/python/arrays.h"
#include "client/python/client.h"
#include "client/python/options.h"

namespace py = pybind11;

namespace engram::python {
namespace {

constexpr int64_t kTimeoutUs = 60'000'000;  // engram_prefetch_options' 0

}  // namespace

Prefetch::Prefetch(std::shared_ptr<Handle> handle, py::handle tokens, LookBack& look_back,
                   py::handle dead, py::handle layers, py::handle columns, py::handle priority,
                   std::optional<double> timeout)
    : handle_(std::move(handle)) {
  const py::array ids = AsTokens(tokens, "tokens");
  const py::array flags = AsFlags(dead, "dead", false);
  if (flags) CheckShape(flags, {ids.shape(0)}, "dead");
  const std::vector<uint32_t> layer_ids = ToLayers(layers);
  engram_prefetch_options options = ENGRAM_PREFETCH_OPTIONS_INIT;
  options.layers = layer_ids.data();
  options.layer_count = layer_ids.size();
  options.columns = ToColumns(columns);
  options.priority = ToPriority(priority);
  options.timeout_us = timeout ? ToMicroseconds(*timeout, "timeout") : kTimeoutUs;
  const client::Array<uint32_t> array(static_cast<const uint32_t*>(ids.data()),
                                      static_cast<size_t>(ids.size()));
  handle_->Call([&](client::Client& client) -> client::Status {
    auto started =
        client.StartPrefetch(array, flags ? BytesOf(flags) : nullptr, look_back.state, &options);
    if (!started.ok()) return started.status();
    prefetch_ = std::move(*started);
    return {};
  });
  over_ = Until::Clock::now() + std::chrono::microseconds(options.timeout_us);
}

Prefetch::~Prefetch() {
  WithoutGil([this] { const client::Prefetch ended = std::move(prefetch_); });
}

void Prefetch::Wait(const Until& until) {
  while (true) {
    const client::Status said = WithoutGil([&] {
      const std::lock_guard lock(mutex_);
      // It cannot be asked whether it is done: past its own timeout it is.
      const bool over = Until::Clock::now() >= over_;
      return prefetch_.Wait(client::Timeout(over ? 0 : until.slice_us()));
    });
    if (said.code() != ENGRAM_DEADLINE_EXCEEDED || until.passed() || Until::Clock::now() >= over_) {
      return Check(said);
    }
    CheckSignals();
  }
}

LookBack Prefetch::StateAt(size_t tokens) {
  LookBack state;
  Check(WithoutGil([&]() -> client::Status {
    const std::lock_guard lock(mutex_);
    const auto found = prefetch_.StateAt(tokens);
    if (!found.ok()) return found.status();
    state.state = *found;
    return {};
  }));
  return state;
}

std::pair<size_t, uint64_t> Prefetch::Size() {
  std::pair<size_t, uint64_t> size;
  Check(WithoutGil([&] {
    const std::lock_guard lock(mutex_);
    return client::Status(engram_prefetch_size(prefetch_.get(), &size.first, &size.second));
  }));
  return size;
}

void BindPrefetch(py::module_& module) {
  py::class_<Prefetch, std::shared_ptr<Prefetch>>(
      module, "Prefetch",
      "Rows of a chunk of a sequence, fetched into memory that it owns, ahead of the steps that "
      "take\n"
      "them (Slot.submit_tokens). Moves `look_back` past the chunk. Dropping it never waits.")
      .def(py::init([](const Client& client, py::handle tokens, LookBack& look_back,
                       py::handle dead, py::handle layers, py::handle columns, py::handle priority,
                       std::optional<double> timeout) {
             return std::make_shared<Prefetch>(client.handle, tokens, look_back, dead, layers,
                                               columns, priority, timeout);
           }),
           py::arg("client"), py::arg("tokens"), py::arg("look_back").none(false), py::kw_only(),
           py::arg("dead") = py::none(), py::arg("layers") = py::none(),
           py::arg("columns") = py::none(), py::arg("priority") = py::none(),
           py::arg("timeout") = py::none())
      .def(
          "wait",
          [](Prefetch& prefetch, std::optional<double> timeout) { prefetch.Wait(Until(timeout)); },
          py::arg("timeout") = py::none(),
          "Until every layer is in place or has failed: raises the first failure. No step needs "
          "it.")
      .def("state_at", &Prefetch::StateAt, py::arg("tokens"),
           "The sequence's state behind its first `tokens` tokens: of a draft, the accepted ones.")
      .def_property_readonly("tokens", [](Prefetch& prefetch) { return prefetch.Size().first; })
      .def_property_readonly(
          "bytes", [](Prefetch& prefetch) { return prefetch.Size().second; },
          "memory of its rows, which counts in the client's max_prefetch_bytes");
}

}  // namespace engram::python
