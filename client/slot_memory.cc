#include "client/slot_memory.h"

#include <atomic>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

constexpr uint64_t kPageBytes = 4096;

uint64_t Pages(uint64_t bytes) { return (bytes + kPageBytes - 1) / kPageBytes * kPageBytes; }

absl::Status Check(absl::string_view what, std::span<uint8_t> given, uint64_t bytes) {
  if (given.size() >= bytes && (bytes == 0 || given.data() != nullptr)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("slot option `memory`: ", what,
                   given.data() == nullptr ? " are null" : absl::StrCat(" have ", given.size()),
                   ", ", bytes, " bytes are needed"));
}

absl::Status CheckWords(std::span<uint64_t> words, size_t layers) {
  const bool aligned =
      reinterpret_cast<uintptr_t>(words.data()) % std::atomic_ref<uint64_t>::required_alignment ==
      0;
  if (words.size() == layers && words.data() != nullptr && aligned) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("slot option `words` must be ", layers, " words, aligned to 8 bytes"));
}

}  // namespace

uint64_t SlotMemory::OwnBytes(size_t layers, LayerMemoryBytes bytes, bool own_rows,
                              bool own_words) {
  return (own_rows ? layers * (Pages(bytes.rows) + Pages(bytes.scales)) : 0) +
         (own_words ? Pages(layers * sizeof(uint64_t)) : 0);
}

absl::StatusOr<SlotMemory> SlotMemory::Create(size_t layers, LayerMemoryBytes bytes,
                                              std::vector<LayerMemory> given,
                                              std::span<uint64_t> words) {
  const bool own_rows = given.empty();
  const bool own_words = words.empty();
  if (!own_words) RETURN_IF_ERROR(CheckWords(words, layers));
  if (!own_rows && given.size() != layers) {
    return absl::InvalidArgumentError(absl::StrCat("slot option `memory` is of ", given.size(),
                                                   " layers, the slot has ", layers));
  }
  for (const LayerMemory& layer : given) {
    RETURN_IF_ERROR(Check("rows", layer.rows, bytes.rows));
    RETURN_IF_ERROR(Check("scales", layer.scales, bytes.scales));
  }
  SlotMemory memory;
  const uint64_t own = OwnBytes(layers, bytes, own_rows, own_words);
  uint8_t* next = nullptr;
  if (own > 0) {
    next = static_cast<uint8_t*>(std::aligned_alloc(kPageBytes, own));
    if (next == nullptr) {
      return absl::ResourceExhaustedError(absl::StrCat("no memory for a slot of ", own, " bytes"));
    }
    memory.block_.reset(next);
    std::memset(next, 0, own);  // The pages are there before the first step.
  }
  const auto take = [&](uint64_t size) {
    return std::span(std::exchange(next, next + Pages(size)), size);
  };
  for (size_t i = 0; i < layers; ++i) {
    memory.layers_.push_back(own_rows ? LayerMemory{take(bytes.rows), take(bytes.scales)}
                                      : LayerMemory{given[i].rows.first(bytes.rows),
                                                    given[i].scales.first(bytes.scales)});
  }
  memory.words_ = own_words ? std::span(reinterpret_cast<uint64_t*>(next), layers) : words;
  return memory;
}

}  // namespace engram
