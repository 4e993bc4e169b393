// A sequence's own text as far as it is remembered, and where its last tokens stood before.
#ifndef ENGRAM_CLIENT_SEQUENCE_TEXT_H_
#define ENGRAM_CLIENT_SEQUENCE_TEXT_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace engram {

// Compressed ids of the newest tokens, each linked to the one before it that ended the same one or
// two tokens. 20 bytes a token; memory doubles as the text grows, up to its bound. Not thread-safe.
class SequenceText {
 public:
  // Stands for a position whose token is unknown or dead: it ends no context and is no successor.
  static constexpr uint32_t kNoToken = UINT32_MAX;
  // Tokens before a place that are compared with the text's last ones.
  static constexpr uint32_t kLongest = 4;

  // Remembers the newest `most` tokens, at least 2, rounded up to a power of two.
  explicit SequenceText(uint32_t most);

  void Append(uint32_t id);

  // The text's end: 0 is the last token. kNoToken beyond what is remembered.
  uint32_t Last(uint32_t back) const { return back < size_ ? At(size_ - 1 - back) : kNoToken; }

  // Calls visit(next, length) for earlier places, the newest first, where the last `order` (1 or 2)
  // tokens stood: what came after them, and how many tokens before that are as the text's last
  // ones, `order` to kLongest. Until it says false, or kMostVisited places were looked at.
  template <typename Visit>
  void ForEachMatch(uint32_t order, Visit visit) const {
    if (size_ == 0 || Last(0) == kNoToken || Last(order - 1) == kNoToken) return;
    const std::vector<uint32_t>& before = order == 1 ? before_one_ : before_two_;
    uint32_t place = before[Index(size_ - 1)];
    for (uint32_t looked = 0; looked < kMostVisited && Remembered(place); ++looked) {
      const uint32_t position = place - 1, next = At(position + 1);
      const uint32_t length = MatchAt(position);
      // Others are in the list that only hash alike.
      if (length >= order && next != kNoToken && !visit(next, length)) return;
      place = before[Index(position)];
    }
  }

  uint64_t bytes() const { return uint64_t{5} * sizeof(uint32_t) * ids_.size(); }

 private:
  static constexpr uint32_t kMostVisited = 32;
  static constexpr uint32_t kFirst = 64;

  uint32_t Index(uint32_t position) const {
    return position & (static_cast<uint32_t>(ids_.size()) - 1);
  }
  uint32_t At(uint32_t position) const {
    return size_ - position <= ids_.size() ? ids_[Index(position)] : kNoToken;
  }
  // Places are positions plus one: 0 is none.
  bool Remembered(uint32_t place) const { return place != 0 && size_ - (place - 1) <= ids_.size(); }
  uint32_t MatchAt(uint32_t position) const;
  void Link(uint32_t position);
  void Grow();

  uint32_t most_;
  uint32_t size_ = 0;  // of the text, remembered or not
  std::vector<uint32_t> ids_;
  // By position: the place before it with the same end, as far as the hash tells.
  std::vector<uint32_t> before_one_, before_two_;
  std::vector<uint32_t> newest_one_, newest_two_;  // by hash
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_SEQUENCE_TEXT_H_
