// The generations of a table that a server holds at one time.
#ifndef ENGRAM_STORAGE_GENERATION_SET_H_
#define ENGRAM_STORAGE_GENERATION_SET_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "proto/sha256.h"
#include "storage/row_store.h"

namespace engram {

// Immutable. Who gathers from it keeps it: it may be retired meanwhile.
struct HeldGeneration {
  Sha256 digest{};
  std::optional<Sha256> base;  // of the generation that it was published on; none: not known
  std::shared_ptr<const RowStore> rows;
  uint64_t changed_rows = 0;  // of its delta, here; 0: it has none
};

// Immutable: a change is another set.
class GenerationSet {
 public:
  // The base of one comes before it.
  GenerationSet(std::vector<std::shared_ptr<const HeldGeneration>> held, size_t active)
      : held_(std::move(held)), active_(active) {}

  const std::vector<std::shared_ptr<const HeldGeneration>>& held() const { return held_; }
  bool IsActive(size_t index) const { return index == active_; }
  const HeldGeneration& active() const { return *held_[active_]; }

  // null: it is not held.
  std::shared_ptr<const HeldGeneration> Find(const Sha256& digest) const {
    const auto it = std::find_if(held_.begin(), held_.end(),
                                 [&](const auto& each) { return each->digest == digest; });
    return it == held_.end() ? nullptr : *it;
  }

 private:
  const std::vector<std::shared_ptr<const HeldGeneration>> held_;
  const size_t active_;
};

}  // namespace engram

#endif  // ENGRAM_STORAGE_GENERATION_SET_H_
