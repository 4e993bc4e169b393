// Headers of arena files. Checksums would keep a fuzzer out, so an input whose first byte is odd is
// framed rightly, the rest of it being the payload.
#include "storage/arena_header.h"
#include "storage/file_frame.h"
#include "tests/fuzz/memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace engram;
  std::string bytes(reinterpret_cast<const char*>(data), size);
  if (size > 0 && data[0] % 2 == 1) bytes = Frame({"ENGRARNA", 1, ""}, bytes.substr(1));
  const auto header = ArenaHeader::Parse(bytes, "fuzz");
  if (!header.ok()) return 0;
  const uint64_t row_bytes = TotalRows(header->contents.ranges) * header->contents.row_bytes;
  Require(header->rows_offset >= kFrameBytes);
  Require(header->rows_offset + row_bytes <= header->checksums_offset);
  Require(header->checksums_offset <= header->end());
  return 0;
}
