// Lookups of random rows, and what must come of them.
#ifndef ENGRAM_TESTS_CLUSTER_LOOKUP_HELPERS_H_
#define ENGRAM_TESTS_CLUSTER_LOOKUP_HELPERS_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "client/client.h"
#include "storage/synth_rows.h"

namespace engram {

// Fails the test at the first row that is not the synthetic one (of row bytes seed 0).
inline void ExpectRows(uint32_t layer, const std::vector<int64_t>& ids,
                       const std::vector<uint8_t>& out) {
  uint8_t expected[kSynthRowBytes];
  for (size_t i = 0; i < ids.size(); ++i) {
    std::fill_n(expected, kSynthRowBytes, uint8_t{0});
    if (ids[i] != kNoRow) SynthRow(0, layer, static_cast<uint64_t>(ids[i]), expected);
    ASSERT_TRUE(std::equal(expected, expected + kSynthRowBytes, out.data() + i * kSynthRowBytes))
        << "layer " << layer << " position " << i << " row " << ids[i];
  }
}

inline std::vector<int64_t> RandomIds(const Client& client, size_t layer, size_t count) {
  static std::mt19937_64 random(20261124);
  std::vector<int64_t> ids(count);
  for (int64_t& id : ids) {
    id = static_cast<int64_t>(random() % (client.geometry().layers()[layer].rows + 1)) - 1;
  }
  return ids;
}

inline absl::Status LookUp(Client& client, uint32_t layer, const std::vector<int64_t>& ids,
                           std::vector<uint8_t>& out) {
  out.assign(ids.size() * client.layout().row_bytes(), 0xA5);
  auto ticket = client.SubmitRows({{layer, ids, out}}, {.timeout = absl::Seconds(5)});
  if (!ticket.ok()) return ticket.status();
  return ticket->WaitAll();
}

}  // namespace engram

#endif  // ENGRAM_TESTS_CLUSTER_LOOKUP_HELPERS_H_
