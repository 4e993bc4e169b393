// The catalogue: which generations a server holds, kept in its data directory.
//
// File: framed (storage/file_frame.h) with the magic "ENGRCATA", version 1, around an
// engram.storage.v1.Catalogue message.
#ifndef ENGRAM_STORAGE_CATALOGUE_H_
#define ENGRAM_STORAGE_CATALOGUE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/range_map.h"
#include "proto/sha256.h"

namespace engram {

enum class KeptState : uint8_t {
  kPrepared,
  kActive,
  kRetired,  // served no more; kept for what is built on it
};

struct KeptGeneration {
  uint64_t id = 0;      // not 0, each has its own; its delta is the file "delta-ID"
  uint64_t parent = 0;  // the generation that the delta is on; 0: the checkpoint's own
  Sha256 digest{};
  KeptState state = KeptState::kPrepared;
  bool operator==(const KeptGeneration&) const = default;
};

struct Catalogue {
  std::vector<RowRange> ranges;
  // A generation comes behind the one that it is built on; the first is the checkpoint's. One is
  // active; digests are repeated by retired ones alone.
  std::vector<KeptGeneration> generations;

  const KeptGeneration* Find(uint64_t id) const;  // null: none
  // The one of the digest that is not retired; null: none.
  const KeptGeneration* FindServed(const Sha256& digest) const;
  const KeptGeneration& active() const;
  uint64_t next_id() const;
  // Takes out what is retired and nothing is built on, but the checkpoint's; their ids.
  std::vector<uint64_t> Prune();

  bool operator==(const Catalogue&) const = default;
};

// NotFound: no file. InvalidArgument: not a catalogue, or of another format version. DataLoss: cut
// off, damaged, or contradicting itself. Messages name the file.
absl::StatusOr<Catalogue> ReadCatalogue(const std::string& path);

// Replaces the file whole; durable when it returns OK. The system's code where that fails.
absl::Status WriteCatalogue(const std::string& path, const Catalogue& catalogue);

}  // namespace engram

#endif  // ENGRAM_STORAGE_CATALOGUE_H_
