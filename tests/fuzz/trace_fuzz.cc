// Token traces and token maps: little-endian u32 of one form or another.
#include "proto/token_map.h"
#include "proto/token_trace.h"
#include "tests/fuzz/memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace engram;
  const absl::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (const auto map = TokenMap::Parse(bytes); map.ok()) Require(map->Serialize() == bytes);
  const FuzzFile file(data, size);
  const auto trace = ReadTokenTrace(file.path());
  if (!trace.ok()) return 0;
  size_t words = 0;
  for (const auto& sequence : *trace) words += 1 + sequence.size();
  Require(words * sizeof(uint32_t) == size);
  return 0;
}
