#include "deploy/engramctl/output.h"

#include <iostream>

namespace engram {

void PrintJson(const Json& json) { std::cout << json.dump() << std::endl; }

void PrintLog(absl::string_view line) { std::cerr << line << std::endl; }

Json DerivedJson(const Geometry& geometry) {
  Json primes = Json::array(), multipliers = Json::array(), rows = Json::array();
  for (const LayerGeometry& layer : geometry.layers()) {
    Json layer_primes = Json::array();
    for (const HashColumn& column : layer.columns) layer_primes.push_back(column.prime);
    primes.push_back(std::move(layer_primes));
    multipliers.push_back(layer.multipliers);
    rows.push_back(layer.rows);
  }
  return {{"primes", std::move(primes)},
          {"multipliers", std::move(multipliers)},
          {"rows_per_layer", std::move(rows)}};
}

}  // namespace engram
