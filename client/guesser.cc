#include "client/guesser.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace engram {
namespace {

// What tells one kind of evidence from another.
constexpr uint32_t kRanks = 4;     // of the sequence's own: met first, second ...
constexpr uint32_t kTimes = 3;     // met once, twice, more often
constexpr uint32_t kSupports = 3;  // what the corpus says of an own guess: nothing, little, much
constexpr uint32_t kShares = 8;    // of what followed a context of the corpus: halves, quarters ...
constexpr uint32_t kTotals = 3;    // a context of the corpus was hardly, at times, often seen
constexpr uint32_t kOwns = 3;      // the own text has met nothing, the last token, the last two
constexpr uint32_t kOwnKinds = SequenceText::kLongest * kRanks * kTimes * kSupports;
constexpr uint32_t kKinds = kOwnKinds + 2 * kShares * kTotals * kOwns;

// So many tries each kind is taken to have had before the first, with a share of hits that is no
// more than a start: what is learned outweighs it soon.
constexpr float kPriorTries = 4;
constexpr std::array<float, SequenceText::kLongest> kOwnPrior = {0.15f, 0.50f, 0.60f, 0.70f};
// Then older ones count half: text changes.
constexpr float kMostTries = 4096;

uint16_t OwnKind(uint32_t length, size_t rank, uint32_t times, uint32_t support) {
  const auto of_rank = static_cast<uint32_t>(std::min<size_t>(rank, kRanks - 1));
  const uint32_t of_times = std::min(times, kTimes) - 1;
  return static_cast<uint16_t>((((length - 1) * kRanks + of_rank) * kTimes + of_times) * kSupports +
                               support);
}

uint32_t ShareOf(uint32_t count, uint32_t total) {
  uint32_t share = 0;
  while (share + 1 < kShares && count << (share + 1) <= total) ++share;
  return share;
}

uint16_t CountedKind(uint32_t order, uint32_t count, uint32_t total, uint32_t own) {
  const uint32_t seen = total < 3 ? 0 : total < 24 ? 1 : 2;
  const uint32_t share = ShareOf(count, total);
  const uint32_t kind = (((order - 1) * kShares + share) * kTotals + seen) * kOwns + own;
  return static_cast<uint16_t>(kOwnKinds + kind);
}

float PriorOf(uint32_t kind) {
  if (kind < kOwnKinds) {
    const uint32_t length = kind / (kRanks * kTimes * kSupports);
    const uint32_t rank = kind / (kTimes * kSupports) % kRanks;
    return kOwnPrior[length] / static_cast<float>(1 + rank);
  }
  const uint32_t share = (kind - kOwnKinds) / (kTotals * kOwns) % kShares;
  return std::ldexp(0.4f, -static_cast<int>(share));
}

uint32_t CountOf(const Successors::Found& found, uint32_t id) {
  for (size_t i = 0; i < found.ids.size(); ++i) {
    if (found.ids[i] == id) return found.counts[i];
  }
  return 0;
}

}  // namespace

Guesser::Guesser(const Successors* table) : table_(table), rates_(kKinds) {
  for (uint32_t kind = 0; kind < kKinds; ++kind) {
    rates_[kind] = {PriorOf(kind) * kPriorTries, kPriorTries};
  }
}

void Guesser::FindOwn(const SequenceText& text) {
  own_.clear();
  for (const uint32_t order : {2u, 1u}) {
    text.ForEachMatch(order, [&](uint32_t next, uint32_t length) {
      if (order == 1 && length > 1) return true;  // met before
      for (Own& own : own_) {
        if (own.id != next) continue;
        own.length = std::max(own.length, length);
        ++own.times;
        return true;
      }
      own_.push_back({next, length, 1});
      return own_.size() < kMost;
    });
  }
}

void Guesser::AddCounted(const Successors::Found& found, uint32_t order,
                         std::vector<Guess>& guesses) {
  const uint32_t own = own_.empty() ? 0 : own_[0].length >= 2 ? 2 : 1;
  const size_t before = guesses.size();
  for (size_t i = 0; i < found.ids.size(); ++i) {
    const auto is_there = [&](const Guess& guess) { return guess.id == found.ids[i]; };
    if (std::any_of(guesses.begin(), guesses.begin() + static_cast<ptrdiff_t>(before), is_there)) {
      continue;
    }
    guesses.push_back({found.ids[i], 0, CountedKind(order, found.counts[i], found.total, own)});
  }
}

void Guesser::Propose(const SequenceText& text, std::vector<Guess>& guesses) {
  guesses.clear();
  FindOwn(text);
  Successors::Found pair, single;
  const uint32_t last = text.Last(0), before = text.Last(1);
  if (table_ != nullptr && last != SequenceText::kNoToken) {
    single = table_->Find(last);
    if (before != SequenceText::kNoToken) pair = table_->Find(before, last);
  }
  for (size_t rank = 0; rank < own_.size(); ++rank) {
    const Own& own = own_[rank];
    const uint32_t of_pair = CountOf(pair, own.id);
    const uint32_t support = 8 * of_pair > pair.total                     ? 2
                             : of_pair > 0 || CountOf(single, own.id) > 0 ? 1
                                                                          : 0;
    guesses.push_back({own.id, 0, OwnKind(own.length, rank, own.times, support)});
  }
  AddCounted(pair, 2, guesses);
  AddCounted(single, 1, guesses);
  for (Guess& guess : guesses) {
    guess.probability = rates_[guess.evidence].hits / rates_[guess.evidence].tries;
  }
  const size_t kept = std::min(kMost, guesses.size());
  std::partial_sort(guesses.begin(), guesses.begin() + static_cast<ptrdiff_t>(kept), guesses.end(),
                    [](const Guess& a, const Guess& b) {
                      return a.probability != b.probability ? a.probability > b.probability
                                                            : a.id < b.id;
                    });
  guesses.resize(kept);
}

void Guesser::Learn(std::span<const Guess> guesses, uint32_t id) {
  for (const Guess& guess : guesses) {
    Rate& rate = rates_[guess.evidence];
    if (rate.tries >= kMostTries) rate = {rate.hits / 2, rate.tries / 2};
    rate.tries += 1;
    if (guess.id == id) rate.hits += 1;
  }
}

}  // namespace engram
