#ifndef ENGRAM_DEPLOY_ENGRAMCTL_OUTPUT_H_
#define ENGRAM_DEPLOY_ENGRAMCTL_OUTPUT_H_

#include <vector>

#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"
#include "proto/geometry.h"

namespace engram {

using Json = nlohmann::ordered_json;

// One JSON object, and nothing else, on standard output.
void PrintJson(const Json& json);
// A line on standard error.
void PrintLog(absl::string_view line);

// What derives from a geometry: "primes" (per layer, in column order), "multipliers",
// "rows_per_layer".
Json DerivedJson(const Geometry& geometry);

}  // namespace engram

#endif  // ENGRAM_DEPLOY_ENGRAMCTL_OUTPUT_H_
