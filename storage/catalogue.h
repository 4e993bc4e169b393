// The catalogue: which generations a server holds, kept in its data directory.
//
// File: framed (storage/file_frame.h) with the magic "ENGRCATA", version 1, around an
// engram.storage.v1.Catalogue message.
#ifndef ENGRAM_STORAGE_CATALOGUE_H_
#define ENGRAM_STORAGE_CATALOGUE_H_

#include <cstdint>
#include <optional>
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
  uint64_t parent = 0;  // the generation that the delta is on; 0: the table as loaded
  Sha256 digest{};
  KeptState state = KeptState::kPrepared;
  bool operator==(const KeptGeneration&) const = default;
};

struct Catalogue {
  std::vector<RowRange> ranges;
  // A generation comes behind the one that it is built on; the first is the table as loaded. One is
  // active; digests are repeated by retired ones alone.
  std::vector<KeptGeneration> generations;
  std::optional<Sha256> base = {};  // that the first was published on; none: not known

  const KeptGeneration* Find(uint64_t id) const;  // null: none
  // The one of the digest that is not retired; null: none.
  const KeptGeneration* FindServed(const Sha256& digest) const;
  const KeptGeneration& active() const;
  uint64_t next_id() const;
  // Takes out what is retired and nothing is built on, but the first; their ids.
  std::vector<uint64_t> Prune();
  // The first, and behind each that is retired the one that is built on it, where it is one: every
  // generation that is served is the last of them, or is built on that.
  std::vector<KeptGeneration> Trunk() const;
  // Makes the last of the trunk's that has the digest the first: the table has its rows. False,
  // and nothing else: none has it.
  bool BeginAt(const Sha256& digest);

  bool operator==(const Catalogue&) const = default;
};

// NotFound: no file. InvalidArgument: not a catalogue, or of another format version. DataLoss: cut
// off, damaged, or contradicting itself. Messages name the file.
absl::StatusOr<Catalogue> ReadCatalogue(const std::string& path);

// Replaces the file whole; durable when it returns OK. The system's code where that fails.
absl::Status WriteCatalogue(const std::string& path, const Catalogue& catalogue);

}  // namespace engram

#endif  // ENGRAM_STORAGE_CATALOGUE_H_
