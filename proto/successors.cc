#include "proto/successors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "proto/geometry.h"

namespace engram {
namespace {

uint64_t Mix(uint32_t before, uint32_t last) {
  const uint64_t key = (uint64_t{before} << 32 | last) * 0x9E3779B97F4A7C15u;
  return key ^ key >> 32;
}

absl::Status Wrong(size_t context, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("context ", context, " ", what));
}

}  // namespace

absl::StatusOr<Successors> Successors::Create(const Sha256& token_map, Contexts contexts) {
  Successors made;
  made.token_map_ = token_map;
  made.contexts_ = std::move(contexts);
  RETURN_IF_ERROR(made.Check());
  made.Index();
  return made;
}

uint32_t Successors::Before(size_t context) const {
  const size_t singles = contexts_.singles.size();
  return context < singles ? kNoToken : contexts_.before[context - singles];
}

uint32_t Successors::Last(size_t context) const {
  const size_t singles = contexts_.singles.size();
  return context < singles ? contexts_.singles[context] : contexts_.last[context - singles];
}

absl::Status Successors::Check() {
  const Contexts& all = contexts_;
  const size_t singles = all.singles.size();
  if (all.before.size() != all.last.size() || all.sizes.size() != singles + all.before.size() ||
      all.totals.size() != all.sizes.size() || all.counts.size() != all.ids.size() ||
      all.ids.size() >= UINT32_MAX) {
    return absl::InvalidArgumentError("the arrays do not fit together");
  }
  size_t begin = 0;
  for (size_t i = 0; i < all.sizes.size(); begin += all.sizes[i++]) {
    if (i != 0 && i != singles &&
        std::pair(Before(i - 1), Last(i - 1)) >= std::pair(Before(i), Last(i))) {
      return Wrong(i, "is out of order");
    }
    const size_t size = all.sizes[i];
    if (size == 0 || size > kMost || size > all.ids.size() - begin) {
      return Wrong(i, absl::StrCat("has ", size, " successors"));
    }
    uint32_t left = all.totals[i];
    for (size_t k = begin; k < begin + size; ++k) {
      if (all.counts[k] == 0 || all.counts[k] > left ||
          (k > begin && all.counts[k] > all.counts[k - 1])) {
        return Wrong(i, "has counts that do not fit");
      }
      left -= all.counts[k];
      max_id_ = std::max(max_id_, all.ids[k]);
    }
    max_id_ = std::max({max_id_, Last(i), i < singles ? 0 : Before(i)});
    if (max_id_ >= kMaxVocab) return Wrong(i, "names an id beyond the largest vocabulary");
  }
  if (begin == all.ids.size()) return absl::OkStatus();
  return absl::InvalidArgumentError("the arrays do not fit together");
}

void Successors::Index() {
  const size_t contexts = contexts_.sizes.size();
  index_.assign(std::bit_ceil(2 * contexts + 1), kFree);
  uint32_t begin = 0;
  for (size_t i = 0; i < contexts; ++i) {
    begins_.push_back(begin);
    begin += contexts_.sizes[i];
    index_[Slot(Before(i), Last(i))] = static_cast<uint32_t>(i);
  }
}

size_t Successors::Slot(uint32_t before, uint32_t last) const {
  size_t slot = Mix(before, last) & (index_.size() - 1);
  while (index_[slot] != kFree && (Last(index_[slot]) != last || Before(index_[slot]) != before)) {
    slot = (slot + 1) & (index_.size() - 1);
  }
  return slot;
}

Successors::Found Successors::At(size_t slot) const {
  const uint32_t context = index_[slot];
  if (context == kFree) return {};
  const uint32_t begin = begins_[context], size = contexts_.sizes[context];
  return {std::span(contexts_.ids).subspan(begin, size),
          std::span(contexts_.counts).subspan(begin, size), contexts_.totals[context]};
}

}  // namespace engram
