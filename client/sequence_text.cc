#include "client/sequence_text.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace engram {
namespace {

uint32_t HashOf(uint32_t before, uint32_t last) {
  const uint64_t key = (uint64_t{before} << 32 | last) * 0x9E3779B97F4A7C15u;
  return static_cast<uint32_t>(key >> 32);
}

}  // namespace

SequenceText::SequenceText(uint32_t most)
    : most_(std::bit_ceil(std::clamp(most, 2u, uint32_t{1} << 30))) {
  const uint32_t size = std::min(most_, kFirst);
  for (std::vector<uint32_t>* all : {&ids_, &before_one_, &before_two_, &newest_one_, &newest_two_})
    all->assign(size, 0);
}

void SequenceText::Append(uint32_t id) {
  if (size_ == ids_.size() && size_ < most_) Grow();
  // Positions would come round: forget what lies so far back.
  if (size_ == UINT32_MAX - 1) *this = SequenceText(most_);
  ids_[Index(size_)] = id;
  Link(size_++);
}

uint32_t SequenceText::MatchAt(uint32_t position) const {
  uint32_t length = 0;
  while (length < kLongest && length <= position) {
    const uint32_t id = At(position - length);
    if (id == kNoToken || id != Last(length)) break;
    ++length;
  }
  return length;
}

void SequenceText::Link(uint32_t position) {
  const uint32_t last = ids_[Index(position)];
  const uint32_t before = position == 0 ? kNoToken : ids_[Index(position - 1)];
  before_one_[Index(position)] =
      std::exchange(newest_one_[Index(HashOf(kNoToken, last))], position + 1);
  before_two_[Index(position)] =
      std::exchange(newest_two_[Index(HashOf(before, last))], position + 1);
}

// Only while nothing has been forgotten yet.
void SequenceText::Grow() {
  const size_t size = 2 * ids_.size();
  ids_.resize(size);
  before_one_.resize(size);
  before_two_.resize(size);
  newest_one_.assign(size, 0);
  newest_two_.assign(size, 0);
  for (uint32_t position = 0; position < size_; ++position) Link(position);
}

}  // namespace engram
