#include "storage/warm_up.h"

#include <algorithm>
#include <numeric>
#include <span>
#include <vector>

namespace engram {
namespace {

constexpr uint64_t kRowsAtOnce = 1 << 14;

}  // namespace

absl::Status WarmUp(const RowStore& store, const ParallelOptions& parallel) {
  std::vector<RowRange> blocks;
  for (const RowRange& range : store.ranges()) {
    for (uint64_t begin = range.begin; begin < range.end; begin += kRowsAtOnce) {
      blocks.push_back(range);
      blocks.back().begin = begin;
      blocks.back().end = std::min(range.end, begin + kRowsAtOnce);
    }
  }
  return ForEachInParallel(
      blocks.size(), store.bytes(), parallel, [&](uint64_t i, uint64_t& bytes) {
        std::vector<uint64_t> rows(blocks[i].rows());
        std::iota(rows.begin(), rows.end(), blocks[i].begin);
        std::vector<uint8_t> out(rows.size() * store.layout().row_bytes());
        bytes = out.size();
        return store.Gather(blocks[i].layer, std::span<const uint64_t>(rows), out.data(), nullptr);
      });
}

}  // namespace engram
