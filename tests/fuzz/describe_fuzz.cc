// A server's description of itself, as a client takes it.
#include "client/describe.h"
#include "engram/v1/engram.pb.h"
#include "tests/fuzz/memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace engram;
  v1::DescribeResponse response;
  if (!response.ParseFromArray(data, static_cast<int>(size))) return 0;
  // Geometries that take long to derive find nothing that small ones do not.
  const v1::Geometry& geometry = response.geometry();
  auto primes = static_cast<uint64_t>(geometry.layer_ids_size());
  primes *= uint64_t{geometry.max_ngram()} * geometry.heads();
  for (const uint64_t floor : geometry.bucket_floors()) {
    if (floor > (1 << 20)) return 0;
  }
  if (primes > 500) return 0;
  const auto info =
      ParseDescribe(std::string(reinterpret_cast<const char*>(data), size), std::nullopt);
  if (!info.ok()) return 0;
  for (const RowRange& range : info->ranges) {
    const auto layer = info->geometry.LayerIndex(range.layer);
    Require(layer.ok() && range.begin < range.end &&
            range.end <= info->geometry.layers()[*layer].rows);
  }
  return 0;
}
