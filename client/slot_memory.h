// The buffers and words of a slot, the caller's or its own.
#ifndef ENGRAM_CLIENT_SLOT_MEMORY_H_
#define ENGRAM_CLIENT_SLOT_MEMORY_H_

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"

namespace engram {

// One layer's buffers.
struct LayerMemory {
  std::span<uint8_t> rows;  // [max_tokens, columns, row_bytes]; value_bytes with scales apart
  std::span<uint8_t> scales = {};  // [max_tokens, columns, scales], where they are apart
};

// Bytes that a layer's buffers must have.
struct LayerMemoryBytes {
  uint64_t rows = 0;
  uint64_t scales = 0;
};

// Immutable; owns what the caller did not bring. Movable.
class SlotMemory {
 public:
  // What Create allocates for so many layers.
  static uint64_t OwnBytes(size_t layers, LayerMemoryBytes bytes, bool own_rows, bool own_words);

  // InvalidArgument: given memory that is not one for each layer, null or too small; words that are
  // not one for each layer, null or not 8-byte aligned. ResourceExhausted: no memory.
  static absl::StatusOr<SlotMemory> Create(size_t layers, LayerMemoryBytes bytes,
                                           std::vector<LayerMemory> given,
                                           std::span<uint64_t> words);

  const std::vector<LayerMemory>& layers() const { return layers_; }
  std::span<uint64_t> words() const { return words_; }

 private:
  struct Free {
    void operator()(uint8_t* block) const { std::free(block); }
  };

  std::unique_ptr<uint8_t, Free> block_;
  std::vector<LayerMemory> layers_;  // as long as they must be
  std::span<uint64_t> words_;
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_SLOT_MEMORY_H_
