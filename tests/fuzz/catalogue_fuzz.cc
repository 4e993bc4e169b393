// Catalogues. Checksums would keep a fuzzer out, so an input whose first byte is odd is framed
// rightly, the rest of it being the payload.
#include "storage/catalogue.h"
#include "storage/file_frame.h"
#include "tests/fuzz/memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace engram;
  std::string bytes(reinterpret_cast<const char*>(data), size);
  if (size > 0 && data[0] % 2 == 1) bytes = Frame({"ENGRCATA", 1, ""}, bytes.substr(1));
  const FuzzFile file(bytes.data(), bytes.size());
  absl::StatusOr<Catalogue> catalogue = ReadCatalogue(file.path());
  if (!catalogue.ok()) return 0;
  int active = 0;
  for (size_t i = 0; i < catalogue->generations.size(); ++i) {
    const KeptGeneration& each = catalogue->generations[i];
    active += each.state == KeptState::kActive ? 1 : 0;
    Require(each.id != 0 && each.id < catalogue->next_id());
    Require((i == 0) == (each.parent == 0));
    Require(catalogue->Find(each.id) == &each);
    // What it is built on stands before it.
    if (i > 0) Require(catalogue->Find(each.parent) < &each);
  }
  Require(active == 1);
  Require(catalogue->FindServed(catalogue->active().digest) == &catalogue->active());
  catalogue->Prune();
  Require(catalogue->active().state == KeptState::kActive);
  return 0;
}
