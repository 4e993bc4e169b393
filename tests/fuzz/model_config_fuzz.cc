// config.json, and the geometry that it asks for.
#include "proto/model_config.h"
#include "tests/fuzz/memory_file.h"

namespace {

// Deriving a geometry near the bounds takes a second or more, and finds nothing a small one does
// not.
bool IsSmall(const engram::GeometryParams& params) {
  return params.layer_ids.size() * params.columns() <= 200 && params.orders() != 0 &&
         params.bucket_floors.front() < (1 << 20);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace engram;
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const auto config = ParseModelConfig(text, "config.json");
  if (!config.ok() || !IsSmall(config->params)) return 0;
  const auto geometry = ResolveGeometry(*config, std::nullopt);
  if (!geometry.ok()) return 0;
  for (const LayerGeometry& layer : geometry->layers()) {
    const HashColumn& last = layer.columns.back();
    Require(layer.columns.size() == geometry->columns() && layer.rows >= last.offset + last.prime);
  }
  return 0;
}
