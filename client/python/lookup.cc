#include "client/python/lookup.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "client/python/arrays.h"

namespace py = pybind11;

namespace engram::python {
namespace {

// What one layer is asked.
struct Request {
  uint32_t layer = 0;
  std::string ids_name, out_name;
  py::array ids, out;
};

py::tuple PairOf(py::handle pair, const std::string& where) {
  if (py::isinstance<py::tuple>(pair) || py::isinstance<py::list>(pair)) {
    const py::tuple both(py::reinterpret_borrow<py::object>(pair));
    if (both.size() == 2) return both;
  }
  throw py::type_error(where + " is no pair (ids, out)");
}

Request MakeRequest(const Table& table, py::handle layer, py::handle ids, py::handle out) {
  const uint32_t id = ToLayer(layer);
  const std::string of = " of layer " + std::to_string(id);
  Request request{id, "ids" + of, "out" + of, AsIds(ids, "ids" + of), AsOutput(out, "out" + of)};
  std::vector<py::ssize_t> shape = ShapeOf(request.ids);
  shape.push_back(table.row_bytes);
  CheckShape(request.out, shape, request.out_name);
  return request;
}

bool IsOfTokens(const Request& request, const Table& table) {
  const py::array& ids = request.ids;
  return ids.ndim() >= 2 && ids.shape(ids.ndim() - 1) == py::ssize_t{table.columns};
}

// All of one number of tokens.
bool AreOfTokens(const std::vector<Request>& requests, const Table& table) {
  return std::all_of(requests.begin(), requests.end(), [&](const Request& request) {
    return IsOfTokens(request, table) && request.ids.size() == requests[0].ids.size();
  });
}

// [tokens, columns]: axes before the last become one.
void Flatten(py::array& ids, uint32_t columns) {
  const bool negative = std::any_of(ids.strides(), ids.strides() + ids.ndim(),
                                    [](py::ssize_t stride) { return stride < 0; });
  if (negative) ids = DenseIds(ids);
  if (ids.ndim() != 2) {
    const py::ssize_t tokens = ids.size() / py::ssize_t{columns};
    ids = py::array(ids.attr("reshape")(tokens, py::ssize_t{columns}));
  }
}

class IdsLookup {
 public:
  IdsLookup(const Table& table, std::vector<Request> requests, bool per_column,
            const LookupOptions& options)
      : options_(options), requests_(std::move(requests)) {
    if (requests_.empty()) throw py::value_error("requests names no layer");
    by_tokens_ = AreOfTokens(requests_, table);
    if (per_column && !by_tokens_) {
      throw py::value_error("per_column ids need shape (tokens, " + std::to_string(table.columns) +
                            "), the same of all layers; " + requests_[0].ids_name + " has " +
                            ShapeText(ShapeOf(requests_[0].ids)));
    }
    step_.per_column = per_column ? 1 : 0;
    MemoryUse use;
    for (Request& request : requests_) Add(request, table, use);
    use.Writes(options.degraded(), "degraded");
    use.Check();
    step_.layers = layer_ids_.data();
    step_.layer_count = layer_ids_.size();
  }

  void Submit(Handle& handle, Ticket& ticket) const {
    handle.Call([&](client::Client& client) {
      return by_tokens_ ? client.SubmitIds(step_, outputs_, ticket.ticket(), options_.get())
                        : client.SubmitRows(rows_, ticket.ticket(), options_.get());
    });
    std::vector<uint32_t> layers;
    std::vector<py::object> borrowed{options_.degraded()};
    for (const Request& request : requests_) {
      layers.push_back(request.layer);
      borrowed.push_back(request.ids);
      borrowed.push_back(request.out);
    }
    ticket.Hold(std::move(layers), std::move(borrowed));
  }

 private:
  void Add(Request& request, const Table& table, MemoryUse& use) {
    uint8_t* const out = BytesOf(request.out);
    const auto out_bytes = static_cast<size_t>(request.out.size());
    if (by_tokens_) {
      Flatten(request.ids, table.columns);
      step_.tokens = static_cast<uint32_t>(request.ids.shape(0));
      layer_ids_.push_back(ToLayerIds(request.ids, table.columns, request.ids_name));
      outputs_.push_back({request.layer, 0, out, out_bytes});
    } else {
      request.ids = DenseIds(request.ids);
      rows_.push_back({request.layer, 0, static_cast<const int64_t*>(request.ids.data()),
                       static_cast<size_t>(request.ids.size()), out, out_bytes});
    }
    use.Reads(request.ids, request.ids_name);
    use.Writes(request.out, request.out_name);
  }

  const LookupOptions& options_;
  std::vector<Request> requests_;
  bool by_tokens_ = false;
  engram_step_ids step_ = ENGRAM_STEP_IDS_INIT;
  std::vector<engram_layer_ids> layer_ids_;
  std::vector<engram_buffer> outputs_;
  std::vector<engram_rows> rows_;
};

}  // namespace

engram_layer_ids ToLayerIds(const py::array& ids, uint32_t columns, const std::string& name) {
  if (ids.ndim() != 2 || ids.shape(1) != py::ssize_t{columns}) {
    throw py::value_error(name + " has shape " + ShapeText(ShapeOf(ids)) + ", not (tokens, " +
                          std::to_string(columns) + ")");
  }
  if (ids.shape(0) > py::ssize_t{UINT32_MAX}) throw py::value_error(name + " has too many tokens");
  if (ids.strides(0) < 0 || ids.strides(1) < 0 || ids.strides(0) % ids.itemsize() != 0 ||
      ids.strides(1) % ids.itemsize() != 0) {
    throw py::value_error(name + " has strides that are negative or no whole ids");
  }
  return {ids.data(), static_cast<int32_t>(ids.itemsize()), 0,
          static_cast<size_t>(ids.strides(0) / ids.itemsize()),
          static_cast<size_t>(ids.strides(1) / ids.itemsize())};
}

std::shared_ptr<Ticket> SubmitIds(const std::shared_ptr<Handle>& handle, const Table& table,
                                  const py::dict& requests, bool per_column,
                                  const LookupOptions& options) {
  std::vector<Request> made;
  for (const auto& [layer, pair] : requests) {
    const py::tuple both = PairOf(pair, "requests[" + std::string(py::repr(layer)) + "]");
    made.push_back(MakeRequest(table, layer, both[0], both[1]));
  }
  const IdsLookup lookup(table, std::move(made), per_column, options);
  auto ticket = std::make_shared<Ticket>(handle);
  lookup.Submit(*handle, *ticket);
  return ticket;
}

void LookupInto(const std::shared_ptr<Handle>& handle, const Table& table, py::handle layer,
                py::handle ids, py::handle out, const LookupOptions& options) {
  const IdsLookup lookup(table, {MakeRequest(table, layer, ids, out)}, false, options);
  Ticket ticket(handle);
  lookup.Submit(*handle, ticket);
  ticket.Wait(std::nullopt, Until(std::nullopt));
}

py::array Lookup(const std::shared_ptr<Handle>& handle, const Table& table, py::handle layer,
                 py::handle ids, const LookupOptions& options) {
  const py::array given = AsIds(ids, "ids of layer " + std::to_string(ToLayer(layer)));
  std::vector<py::ssize_t> shape = ShapeOf(given);
  shape.push_back(table.row_bytes);
  py::array out(py::dtype::of<uint8_t>(), shape);
  LookupInto(handle, table, layer, given, out, options);
  return out;
}

std::shared_ptr<Ticket> SubmitTokens(const std::shared_ptr<Handle>& handle, const Table& table,
                                     py::handle tokens, const py::dict& outs, LookBack* look_back,
                                     py::handle dead, const LookupOptions& options) {
  const py::array ids = AsTokens(tokens, "tokens");
  const py::array flags = AsFlags(dead, "dead", false);
  if (flags) CheckShape(flags, {ids.shape(0)}, "dead");
  MemoryUse use;
  use.Reads(ids, "tokens");
  use.Reads(flags, "dead");
  use.Writes(options.degraded(), "degraded");
  std::vector<uint32_t> layers;
  std::vector<engram_buffer> buffers;
  std::vector<py::object> borrowed{ids, flags, options.degraded()};
  for (const auto& [layer, given] : outs) {
    layers.push_back(ToLayer(layer));
    const std::string name = "out of layer " + std::to_string(layers.back());
    const py::array out = AsOutput(given, name);
    CheckShape(out, {ids.shape(0), table.columns, table.row_bytes}, name);
    use.Writes(out, name);
    buffers.push_back({layers.back(), 0, BytesOf(out), static_cast<size_t>(out.size())});
    borrowed.push_back(out);
  }
  use.Check();
  LookBack start;
  engram_lookback& state = (look_back != nullptr ? look_back : &start)->state;
  const client::Array<uint32_t> array(static_cast<const uint32_t*>(ids.data()),
                                      static_cast<size_t>(ids.size()));
  auto ticket = std::make_shared<Ticket>(handle);
  handle->Call([&](client::Client& client) {
    return client.SubmitTokens(array, flags ? BytesOf(flags) : nullptr, state, buffers,
                               ticket->ticket(), options.get());
  });
  ticket->Hold(std::move(layers), std::move(borrowed));
  return ticket;
}

}  // namespace engram::python
