#include "client/python/values.h"

#include <string>
#include <utility>
#include <vector>

#include "client/python/arrays.h"

namespace py = pybind11;

namespace engram::python {
namespace {

int32_t ToValueType(py::handle dtype) {
  const std::string name =
      py::isinstance<py::str>(dtype)
          ? std::string(py::str(dtype))
          : std::string(py::str(py::module_::import("numpy").attr("dtype")(dtype)));
  if (name == "float32") return ENGRAM_VALUE_F32;
  if (name == "bfloat16") return ENGRAM_VALUE_BF16;
  throw py::value_error("dtype is " + name + ", not float32 or bfloat16");
}

struct Sample {
  std::string name, help;
  int32_t kind;
  std::vector<std::pair<std::string, std::string>> labels;
  double value;
  std::vector<engram_metric_bucket> buckets;
  double sum;
};

}  // namespace

py::array Dequantize(const Client& client, py::handle rows, py::handle dtype, py::handle scales) {
  const int32_t type = ToValueType(dtype);
  const py::array packed = AsBytes(rows, "rows");
  const uint32_t width = scales.is_none() ? client.table.row_bytes : client.table.value_bytes;
  std::vector<py::ssize_t> shape = ShapeOf(packed);
  if (shape.empty() || shape.back() != py::ssize_t{width}) {
    throw py::value_error("rows has shape " + ShapeText(shape) + ", not (..., " +
                          std::to_string(width) + ")");
  }
  client::Array<uint8_t> apart;
  py::array scale_bytes = py::reinterpret_borrow<py::array>(py::handle());
  if (!scales.is_none()) {
    scale_bytes = AsBytes(scales, "scales");
    shape.back() = client.table.scales;
    CheckShape(scale_bytes, shape, "scales");
    apart = {BytesOf(scale_bytes), static_cast<size_t>(scale_bytes.size())};
  }
  shape.back() = client.table.values;
  const py::array out(type == ENGRAM_VALUE_F32 ? py::dtype::of<float>() : py::dtype::of<uint16_t>(),
                      shape);
  const auto bytes = static_cast<size_t>(packed.size());
  client.handle->Call([&](client::Client& connected) {
    return connected.DequantizeRows(bytes / width, {BytesOf(packed), bytes}, apart, type,
                                    BytesOf(out), static_cast<size_t>(out.nbytes()));
  });
  return out;
}

py::list Metrics(const Client& client) {
  std::vector<Sample> samples;
  client.handle->Call([&](client::Client& connected) {
    return connected.VisitMetrics([&](const engram_metric& metric) {
      Sample& sample = samples.emplace_back(
          Sample{metric.name, metric.help, metric.kind, {}, metric.value, {}, metric.sum});
      sample.buckets.assign(metric.buckets, metric.buckets + metric.bucket_count);
      for (size_t i = 0; i < metric.label_count; ++i) {
        sample.labels.emplace_back(metric.labels[i].name, metric.labels[i].value);
      }
    });
  });
  py::list metrics;
  for (const Sample& sample : samples) {
    py::dict labels;
    for (const auto& [name, value] : sample.labels) labels[py::str(name)] = value;
    py::tuple buckets(sample.buckets.size());
    for (size_t i = 0; i < sample.buckets.size(); ++i) {
      buckets[i] = py::make_tuple(sample.buckets[i].bound, sample.buckets[i].count);
    }
    const char* const kind = sample.kind == ENGRAM_METRIC_HISTOGRAM ? "histogram"
                             : sample.kind == ENGRAM_METRIC_COUNTER ? "counter"
                                                                    : "gauge";
    metrics.append(
        py::make_tuple(sample.name, sample.help, kind, labels, sample.value, buckets, sample.sum));
  }
  return metrics;
}

}  // namespace engram::python
