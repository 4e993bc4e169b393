#include "client/python/client.h"

#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <vector>

#include "client/python/lookup.h"
#include "client/python/values.h"

namespace py = pybind11;

namespace engram::python {
namespace {

// `connect(log, user)` -> client::Result<client::Client>.
template <typename Connect>
std::shared_ptr<Client> Connected(py::handle log, Connect&& connect) {
  const std::shared_ptr<LogQueue> queue = StartLog(log);
  auto made = WithoutGil([&] { return connect(queue ? &LogQueue::Put : nullptr, queue.get()); });
  if (!made.ok()) {
    if (queue) queue->Close();
    Check(made.status());
  }
  auto client = std::make_shared<Client>();
  client->handle = std::make_shared<Handle>(std::move(*made), queue);
  client->table = TableOf(*client->handle);
  return client;
}

std::shared_ptr<Client> FromJson(const std::string& json, py::handle log) {
  return Connected(log, [&](engram_log_fn put, void* user) {
    return client::Client::ConnectJson(json, put, user);
  });
}

std::shared_ptr<Client> FromEnv(py::handle log) {
  return Connected(
      log, [](engram_log_fn put, void* user) { return client::Client::ConnectEnv(put, user); });
}

// One "host:port" or "unix:PATH", or several.
std::vector<std::string> ToServers(py::handle servers) {
  if (py::isinstance<py::str>(servers)) return {std::string(py::str(servers))};
  std::vector<std::string> names;
  for (const py::handle server : py::iter(servers)) {
    if (!py::isinstance<py::str>(server)) {
      throw py::type_error("servers[" + std::to_string(names.size()) + "] is a " +
                           Py_TYPE(server.ptr())->tp_name + ", not a str");
    }
    names.emplace_back(py::str(server));
  }
  return names;
}

std::shared_ptr<Client> FromSettings(py::handle servers, py::handle log,
                                     const py::kwargs& settings) {
  py::dict all(settings);
  all["servers"] = py::cast(ToServers(servers));
  return FromJson(std::string(py::str(py::module_::import("json").attr("dumps")(all))), log);
}

void SetServers(Client& client, py::handle servers) {
  const std::vector<std::string> names = ToServers(servers);
  std::vector<const char*> pointers;
  for (const std::string& name : names) pointers.push_back(name.c_str());
  client.handle->Call([&](client::Client& connected) { return connected.SetServers(pointers); });
}

py::list MissingRanges(const Client& client) {
  std::vector<std::tuple<uint32_t, uint64_t, uint64_t>> ranges;
  client.handle->Call([&](client::Client& connected) {
    return connected.VisitMissingRanges([&](uint32_t layer, uint64_t begin, uint64_t end) {
      ranges.emplace_back(layer, begin, end);
    });
  });
  return py::cast(ranges);
}

void SaveHotNgrams(const Client& client, py::handle path) {
  const std::string name =
      py::str(py::module_::import("os").attr("fsdecode")(py::reinterpret_borrow<py::object>(path)));
  client.handle->Call([&](client::Client& connected) { return connected.SaveHotNgrams(name); });
}

py::object TokenMap(Client& client) {
  if (!client.token_map) client.token_map = TokenMapOf(*client.handle);
  return client.token_map;
}

template <typename Class>
void BindLookups(Class& bound) {
  bound
      .def(
          "lookup",
          [](const Client& client, py::handle layer, py::handle ids, const py::kwargs& options) {
            return Lookup(client.handle, client.table, layer, ids, LookupOptions(options));
          },
          py::arg("layer"), py::arg("ids"),
          "Rows of `layer`: int64 or int32 global row ids of any shape, -1 for a row of zeros ->\n"
          "uint8 [*ids.shape, row_bytes].")
      .def(
          "lookup_into",
          [](const Client& client, py::handle layer, py::handle ids, py::handle out,
             const py::kwargs& options) {
            LookupInto(client.handle, client.table, layer, ids, out, LookupOptions(options));
          },
          py::arg("layer"), py::arg("ids"), py::arg("out"),
          "The same into `out`, C-contiguous. After an error it holds anything.")
      .def(
          "submit",
          [](const Client& client, const py::dict& requests, bool per_column,
             const py::kwargs& options) {
            return SubmitIds(client.handle, client.table, requests, per_column,
                             LookupOptions(options));
          },
          py::arg("requests"), py::arg("per_column") = false,
          "Starts a lookup of {layer: (ids, out)} and returns its Ticket in microseconds.\n"
          "`per_column`: ids [..., columns] count from their column's first row.")
      .def(
          "submit_tokens",
          [](const Client& client, py::handle tokens, const py::dict& outs, LookBack* look_back,
             py::handle dead, const py::kwargs& options) {
            return SubmitTokens(client.handle, client.table, tokens, outs, look_back, dead,
                                LookupOptions(options));
          },
          py::arg("tokens"), py::arg("outs"), py::arg("look_back") = py::none(),
          py::arg("dead") = py::none(),
          "The same by token ids, the next of a sequence: uint32, int32 or int64 [tokens], hashed "
          "by\n"
          "the library; {layer: out [tokens, columns, row_bytes]}. Moves `look_back` (None: a\n"
          "sequence of its own). `dead` [tokens]: positions that are not hashed and get zeros.");
}

}  // namespace

void BindClient(py::module_& module) {
  const auto none = py::none();
  py::class_<Client, std::shared_ptr<Client>> bound(
      module, "Client",
      "A connection to the servers of one table. Any number of threads. Its settings by keyword "
      "are\n"
      "those of engram_client_options.");
  bound.def(py::init(&FromSettings), py::arg("servers"), py::arg("log") = none)
      .def_static("from_json", &FromJson, py::arg("json"), py::arg("log") = none,
                  "Settings as one JSON object.")
      .def_static("from_env", &FromEnv, py::arg("log") = none,
                  "Settings from ENGRAM_CONFIG and ENGRAM_* variables.")
      .def_readonly("table", &Client::table)
      .def(
          "layer",
          [](const Client& client, py::handle layer) {
            return LayerOf(*client.handle, ToLayer(layer));
          },
          py::arg("layer"), "EngramError NOT_FOUND: it has no table.")
      .def_property_readonly("token_map", &TokenMap,
                             "Token id -> compressed id, uint32; None where no server has one.")
      .def("set_servers", &SetServers, py::arg("servers"), "The servers from now on.")
      .def("missing_ranges", &MissingRanges,
           "[(layer, begin, end)] of rows that no connected server holds.")
      .def("save_hot_ngrams", &SaveHotNgrams, py::arg("path"),
           "Writes the cache's n-grams to the file that `hot_ngrams` of another client takes.")
      .def("dequantize", &Dequantize, py::arg("rows"), py::arg("dtype") = "float32",
           py::arg("scales") = none,
           "uint8 [..., row_bytes] (or values with `scales` apart) -> float32 [..., values], or "
           "with\n"
           "\"bfloat16\" its bits as uint16.")
      .def("_metrics", &Metrics)
      .def(
          "close", [](Client& client) { client.handle->Close(); },
          "Outstanding lookups fail with CANCELLED; nothing touches their arrays afterwards.")
      .def("__enter__", [](py::object self) { return self; })
      .def("__exit__", [](Client& client, const py::args&) { client.handle->Close(); });
  BindLookups(bound);
}

}  // namespace engram::python
