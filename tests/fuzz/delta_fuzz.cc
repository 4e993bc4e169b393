// Delta files, and catalogues. Checksums would keep a fuzzer out of what is behind them, so an
// input whose first byte is odd has those of its header and rows put right.
#include <algorithm>
#include <cstring>

#include "proto/crc32c.h"
#include "storage/catalogue.h"
#include "storage/delta_file.h"
#include "tests/fuzz/memory_file.h"

namespace {

using namespace engram;

void PutChecksum(std::string& bytes, size_t begin, size_t size) {
  if (begin + size + sizeof(uint32_t) > bytes.size()) return;
  const uint32_t checksum = Crc32c(bytes.data() + begin, size);
  std::memcpy(bytes.data() + begin + size, &checksum, sizeof(checksum));
}

// Of the header, then of rows as long as the header says they are.
void PutChecksums(std::string& bytes) {
  uint32_t header_bytes = 0;
  if (bytes.size() < 16) return;
  std::memcpy(&header_bytes, bytes.data() + 12, sizeof(header_bytes));
  if (header_bytes < 20 || header_bytes > bytes.size()) return;
  PutChecksum(bytes, 0, header_bytes - sizeof(uint32_t));
  size_t ignored = 0;
  const auto header = DecodeDeltaHeader(bytes, "input", ignored);
  if (!header.ok()) return;
  for (size_t at = header_bytes; at + header->record_bytes() <= bytes.size();
       at += header->record_bytes()) {
    const uint32_t checksum = Crc32c(bytes.data() + at + 32, header->row_bytes);
    std::memcpy(bytes.data() + at + 24, &checksum, sizeof(checksum));
    PutChecksum(bytes, at, 28);
  }
}

void ReadAll(const std::string& path) {
  const auto reader = DeltaReader::Open(path);
  if (!reader.ok()) return;
  DeltaRow last;
  for (uint64_t taken = 0;; ++taken) {
    const auto row = (*reader)->Next();
    if (!row.ok()) return;
    const DeltaHeader& header = (*reader)->header();
    if (!row->has_value()) {
      Require(taken == header.changed());
      return;
    }
    Require((*row)->layer_index < header.layers.size());
    Require((*row)->row < header.layers[(*row)->layer_index].rows);
    Require(taken == 0 || last.layer_index < (*row)->layer_index || last.row < (*row)->row);
    last = **row;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 2 == 1) PutChecksums(bytes);
  const FuzzFile file(bytes.data(), bytes.size());
  ReadAll(file.path());
  const auto catalogue = ReadCatalogue(file.path());
  if (catalogue.ok()) Require(catalogue->active().state == KeptState::kActive);
  return 0;
}
