// What peers have in common about rows: the order that stores like, and what can be wrong.
#ifndef ENGRAM_TESTS_BENCH_PEERS_PEER_ROWS_H_
#define ENGRAM_TESTS_BENCH_PEERS_PEER_ROWS_H_

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "storage/synth_rows.h"

namespace engram::bench {

// NotFound: a peer was filled with every row, so this is a wrong answer.
inline absl::Status MissingRow(absl::string_view peer, int64_t row) {
  return absl::NotFoundError(absl::StrCat(peer, ": row ", row, " is missing"));
}

// DataLoss.
inline absl::Status WrongSize(absl::string_view peer, int64_t row, size_t bytes) {
  return absl::DataLossError(
      absl::StrCat(peer, ": row ", row, " has ", bytes, " bytes instead of ", kSynthRowBytes));
}

struct RowAt {
  uint64_t row = 0;
  uint32_t position = 0;  // within its batch
};

// The rows of a batch, ascending: ordered stores meet the same pages and nodes again and again
// then.
inline void SortRows(std::span<const int64_t> ids, std::vector<RowAt>& sorted) {
  sorted.resize(ids.size());
  for (uint32_t i = 0; i < ids.size(); ++i) sorted[i] = {static_cast<uint64_t>(ids[i]), i};
  std::sort(sorted.begin(), sorted.end(),
            [](const RowAt& a, const RowAt& b) { return a.row < b.row; });
}

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_PEERS_PEER_ROWS_H_
