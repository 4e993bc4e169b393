// Sidecar files. Checksums would keep a fuzzer out, so an input whose first byte is odd is framed
// rightly, the rest of it being the payload.
#include "proto/crc32c.h"
#include "storage/sidecar.h"
#include "tests/fuzz/memory_file.h"

namespace {

std::string Frame(const std::string& payload) {
  std::string bytes = "ENGRSIDE";
  const auto append = [&bytes](auto value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
  };
  append(uint32_t{1});
  append(engram::Crc32c(payload.data(), payload.size()));
  append(uint64_t{payload.size()});
  append(engram::Crc32c(bytes.data(), bytes.size()));
  return bytes + payload;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace engram;
  std::string bytes(reinterpret_cast<const char*>(data), size);
  if (size > 0 && data[0] % 2 == 1) bytes = Frame(bytes.substr(1));
  const FuzzFile file(bytes.data(), bytes.size());
  const auto sidecar = ReadSidecar(file.path());
  if (!sidecar.ok()) return 0;
  for (const LayerSums& layer : sidecar->layers) {
    Require(layer.blocks.size() == (layer.rows + kBlockRows - 1) / kBlockRows);
  }
  return 0;
}
