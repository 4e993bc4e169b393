// tokenizer.json.
#include "storage/tokenizer.h"
#include "tests/fuzz/memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace engram;
  const FuzzFile file(data, size);
  const auto map = BuildTokenMap(file.path());
  Require(!map.ok() || (map->compressed_count() > 0 && map->compressed_count() <= map->tokens()));
  return 0;
}
