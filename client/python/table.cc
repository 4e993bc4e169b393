#include "client/python/table.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

namespace py = pybind11;

namespace engram::python {
namespace {

const char* ValueTypeName(int32_t type) {
  switch (type) {
    case ENGRAM_VALUE_FP8_E4M3:
      return "fp8_e4m3";
    case ENGRAM_VALUE_BF16:
      return "bf16";
    case ENGRAM_VALUE_F16:
      return "f16";
    case ENGRAM_VALUE_F32:
      return "f32";
    default:
      return "unknown";
  }
}

template <typename T>
py::object ReadOnly(const std::vector<T>& values) {
  const py::array_t<T> copy(static_cast<py::ssize_t>(values.size()), values.data());
  copy.attr("flags").attr("writeable") = false;
  return copy;
}

}  // namespace

Table TableOf(Handle& handle) {
  Table table;
  handle.Call([&](client::Client& client) -> client::Status {
    const auto info = client.Table();
    if (!info.ok()) return info.status();
    const engram_table_info& from = *info;
    table = {from.model,
             from.digest,
             {from.layers, from.layers + from.layer_count},
             from.total_rows,
             from.columns,
             from.max_ngram,
             from.heads,
             from.row_bytes,
             ValueTypeName(from.value_type),
             from.scale_type == ENGRAM_SCALE_UE8M0 ? "ue8m0" : "none",
             from.hash_rule == ENGRAM_HASH_PLE ? "ple" : "engram",
             from.values,
             from.value_bytes,
             from.scales,
             from.pad_token,
             from.compressed_vocab,
             from.token_map_tokens,
             from.seed};
    return {};
  });
  return table;
}

TableLayer LayerOf(Handle& handle, uint32_t layer) {
  std::vector<uint64_t> first, rows;
  std::vector<int64_t> multipliers;
  TableLayer found;
  handle.Call([&](client::Client& client) -> client::Status {
    const auto info = client.Layer(layer);
    if (!info.ok()) return info.status();
    const engram_layer_info& from = *info;
    found.layer = from.layer;
    found.rows = from.rows;
    first.assign(from.column_first, from.column_first + from.column_count);
    rows.assign(from.column_rows, from.column_rows + from.column_count);
    multipliers.assign(from.multipliers, from.multipliers + from.multiplier_count);
    return {};
  });
  found.column_first = ReadOnly(first);
  found.column_rows = ReadOnly(rows);
  found.multipliers = ReadOnly(multipliers);
  return found;
}

py::object TokenMapOf(Handle& handle) {
  std::vector<uint32_t> map;
  bool none = false;
  handle.Call([&](client::Client& client) -> client::Status {
    const auto found = client.TokenMap();
    if (!found.ok()) {
      none = found.status().code() == ENGRAM_NOT_FOUND;
      return none ? client::Status() : found.status();
    }
    map.assign((*found).data, (*found).data + (*found).size);
    return {};
  });
  return none ? py::none() : ReadOnly(map);
}

void BindTable(py::module_& module) {
  py::class_<Table>(module, "Table", "What the servers hold. Immutable; good after close().")
      .def_readonly("model", &Table::model)
      .def_readonly("digest", &Table::digest, "64 hex digits")
      .def_property_readonly(
          "layers", [](const Table& table) { return py::tuple(py::cast(table.layers)); },
          "ids of the layers that have a table, in the model's order")
      .def_readonly("total_rows", &Table::total_rows, "of all layers")
      .def_readonly("columns", &Table::columns, "rows looked up per token and layer")
      .def_readonly("max_ngram", &Table::max_ngram)
      .def_readonly("heads", &Table::heads, "per order")
      .def_readonly("row_bytes", &Table::row_bytes, "value_bytes + scales")
      .def_readonly("value_type", &Table::value_type, "\"fp8_e4m3\", \"bf16\", \"f16\", \"f32\"")
      .def_readonly("values", &Table::values, "per row, the scales behind them")
      .def_readonly("value_bytes", &Table::value_bytes)
      .def_readonly("scale_type", &Table::scale_type, "\"none\", \"ue8m0\"")
      .def_readonly("scales", &Table::scales, "per row, one byte each")
      .def_readonly("hash_rule", &Table::hash_rule, "\"engram\", \"ple\"")
      .def_readonly("pad_token", &Table::pad_token)
      .def_readonly("compressed_vocab", &Table::compressed_vocab)
      .def_readonly("token_map_tokens", &Table::token_map_tokens, "0: no token map")
      .def_readonly("seed", &Table::seed)
      .def("__repr__", [](const Table& table) {
        return "<Table " + table.model + ", " + std::to_string(table.total_rows) + " rows of " +
               std::to_string(table.row_bytes) + " bytes>";
      });
  py::class_<TableLayer>(module, "TableLayer", "One layer of the table. Immutable.")
      .def_readonly("layer", &TableLayer::layer)
      .def_readonly("rows", &TableLayer::rows, "global row ids are 0 .. rows - 1")
      .def_readonly("column_first", &TableLayer::column_first,
                    "uint64 [columns]: global id of each column's first row")
      .def_readonly("column_rows", &TableLayer::column_rows, "uint64 [columns]: its rows")
      .def_readonly("multipliers", &TableLayer::multipliers,
                    "int64 [max_ngram]: of the n-gram hash");
}

}  // namespace engram::python
