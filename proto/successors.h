// What follows what in text: counts of a corpus, for those who guess next tokens.
#ifndef ENGRAM_PROTO_SUCCESSORS_H_
#define ENGRAM_PROTO_SUCCESSORS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/sha256.h"
#include "proto/token_trace.h"

namespace engram {

// Contexts of one and of two tokens, and the tokens that came after each most often. All ids are
// compressed ones: rows depend on no others. Immutable: any number of threads may use it.
class Successors {
 public:
  // Of one context, at most.
  static constexpr size_t kMost = 16;

  // Empty where the table has no such context.
  struct Found {
    std::span<const uint32_t> ids;     // the most frequent first
    std::span<const uint16_t> counts;  // of each; of a frequent context all are divided alike
    uint32_t total = 0;                // of all that came after it, not of these alone
  };

  // What a table is made of, context after context: those of one token by their id, then those of
  // two by their ids.
  struct Contexts {
    std::vector<uint32_t> singles;       // [singles]
    std::vector<uint32_t> before, last;  // [pairs] each
    std::vector<uint16_t> totals;        // [singles + pairs]
    std::vector<uint8_t> sizes;          // [singles + pairs], 1 .. kMost
    std::vector<uint32_t> ids;           // [the sum of sizes]
    std::vector<uint16_t> counts;        // [the sum of sizes]
  };

  // InvalidArgument: contexts out of order, without successors or with too many, arrays that do
  // not fit together, counts that do not fall or exceed their total, an id beyond kMaxVocab (the
  // context is named).
  static absl::StatusOr<Successors> Create(const Sha256& token_map, Contexts contexts);

  Found Find(uint32_t last) const { return At(Slot(kNoToken, last)); }
  Found Find(uint32_t before, uint32_t last) const { return At(Slot(before, last)); }

  const Sha256& token_map() const { return token_map_; }  // that gave the compressed ids
  const Contexts& contexts() const { return contexts_; }
  uint32_t max_id() const { return max_id_; }  // of all that it names
  size_t size() const { return contexts_.sizes.size(); }

 private:
  static constexpr uint32_t kNoToken = UINT32_MAX;
  static constexpr uint32_t kFree = UINT32_MAX;

  Successors() = default;
  absl::Status Check();
  void Index();
  uint32_t Before(size_t context) const;
  uint32_t Last(size_t context) const;
  // A place in index_: the context's, or the free one where it would be.
  size_t Slot(uint32_t before, uint32_t last) const;
  Found At(size_t slot) const;

  Sha256 token_map_{};
  Contexts contexts_;
  uint32_t max_id_ = 0;
  std::vector<uint32_t> begins_;  // of each context, in ids and counts
  std::vector<uint32_t> index_;   // open addressing: context, or kFree
};

// Counts what follows in sequences of compressed ids, and keeps the contexts that foretell most a
// byte, in a file of at most `max_bytes`. InvalidArgument: an id beyond kMaxVocab.
absl::StatusOr<Successors> CountSuccessors(const TokenTrace& compressed, const Sha256& token_map,
                                           uint64_t max_bytes);

// A file of them, little-endian:
//   8 bytes "ENGRSUCC", u32 version 1, 32 token map, u32 singles, u32 pairs, u32 ids,
//   u32 CRC32C of all that; the arrays of Contexts in their order, u32 CRC32C of them
absl::Status WriteSuccessors(const std::string& path, const Successors& successors);
// InvalidArgument naming the file: no such file, another version, another length, or as Create.
// DataLoss: a checksum that does not fit. Else as ReadFile.
absl::StatusOr<Successors> ReadSuccessors(const std::string& path);

}  // namespace engram

#endif  // ENGRAM_PROTO_SUCCESSORS_H_
