// What the caches of a client hold, to a file.
#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/client_core.h"
#include "proto/base/status_macros.h"
#include "proto/hot_keys.h"

namespace engram {
namespace {

// Of the layer's columns the one that has the row.
uint32_t ColumnOf(const LayerGeometry& layer, uint64_t row) {
  const auto behind =
      std::upper_bound(layer.columns.begin(), layer.columns.end(), row,
                       [](uint64_t id, const HashColumn& column) { return id < column.offset; });
  return static_cast<uint32_t>(behind - layer.columns.begin()) - 1;
}

}  // namespace

absl::Status ClientCore::SaveHotNgrams(const std::string& path) const {
  RETURN_IF_ERROR(CheckProcess());
  if (options_.cache_bytes == 0) {
    return absl::FailedPreconditionError("the client has no cache: option `cache_bytes` is 0");
  }
  const std::vector<LayerGeometry>& layers = table_->geometry.layers();
  std::vector<HotKeys> parts(io_threads_.size());
  for (size_t thread = 0; thread < io_threads_.size(); ++thread) {
    HotKeys& part = parts[thread];
    const auto collect = [&] {
      part.digest = io_threads_[thread]->fan_out().servers().table()->digest;
      io_threads_[thread]->fan_out().folder().cache()->ForEach(
          [&](size_t layer, const std::vector<uint64_t>& rows, uint32_t count) {
            part.keys.push_back(
                {layers[layer].layer_id, ColumnOf(layers[layer], rows[0]), count, rows});
          });
    };
    if (!io_threads_[thread]->Call(collect)) {
      return absl::CancelledError("the client is closed");
    }
  }
  ASSIGN_OR_RETURN(const HotKeys merged, MergeHotKeys(parts, std::numeric_limits<size_t>::max()));
  return WriteHotKeys(path, merged);
}

}  // namespace engram
