// Headers of safetensors files: what is accepted lies within the file.
#include "storage/safetensors.h"
#include "tests/fuzz/memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace engram;
  const FuzzFile file(data, size);
  const auto header = ReadSafetensorsHeader(file.path());
  if (!header.ok()) return 0;
  for (const auto& [name, tensor] : header->tensors) {
    Require(tensor.file_offset <= size && tensor.bytes <= size - tensor.file_offset);
  }
  return 0;
}
