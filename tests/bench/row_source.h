// Which rows a benchmark asks for.
#ifndef ENGRAM_TESTS_BENCH_ROW_SOURCE_H_
#define ENGRAM_TESTS_BENCH_ROW_SOURCE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/client.h"

namespace engram::bench {

// Draws row ids of `layer` by `kind`: "uniform", "zipf" (exponent 0.99, hot rows spread over the
// layer) or "trace:FILE" (the row ids of real text in its order, hashed with the client's token
// map). At least `min_ids`, about 4 Mi at most; a short trace is repeated. The same arguments give
// the same ids.
// InvalidArgument: an unknown kind, or token ids beyond the token map. FailedPrecondition: a trace,
// and the servers have no token map. NotFound: no such layer, no such file.
absl::StatusOr<std::vector<int64_t>> DrawRows(const Client& client, uint32_t layer,
                                              const std::string& kind, size_t min_ids);

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_ROW_SOURCE_H_
