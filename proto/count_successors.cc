// A corpus -> the successors that are worth their bytes.
#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/geometry.h"
#include "proto/successors.h"

namespace engram {
namespace {

constexpr uint64_t kFrameBytes = 64;  // header and checksums
constexpr uint64_t kSuccessorBytes = 6;

struct Gram {
  uint64_t context = 0;  // the last token, or both: the older one in the upper half
  uint32_t next = 0;
};

struct Successor {
  uint64_t count = 0;
  uint32_t id = 0;
};

struct Context {
  bool pair = false;
  uint64_t context = 0;
  uint64_t total = 0;
  std::vector<Successor> successors;  // the most frequent first
  uint64_t foretold = 0;              // of the total, by these

  uint64_t bytes() const { return (pair ? 11 : 7) + kSuccessorBytes * successors.size(); }
};

// Keeps the most frequent of them.
void Close(Context& context, std::vector<Context>& contexts) {
  std::vector<Successor>& all = context.successors;
  std::sort(all.begin(), all.end(), [](const Successor& a, const Successor& b) {
    return std::tie(b.count, a.id) < std::tie(a.count, b.id);
  });
  if (all.size() > Successors::kMost) all.resize(Successors::kMost);
  for (const Successor& successor : all) context.foretold += successor.count;
  contexts.push_back(std::move(context));
}

void Count(std::vector<Gram> grams, bool pair, std::vector<Context>& contexts) {
  std::sort(grams.begin(), grams.end(), [](const Gram& a, const Gram& b) {
    return std::tie(a.context, a.next) < std::tie(b.context, b.next);
  });
  for (size_t i = 0; i < grams.size();) {
    Context context{.pair = pair, .context = grams[i].context, .successors = {}};
    while (i < grams.size() && grams[i].context == context.context) {
      const size_t begin = i;
      while (i < grams.size() && grams[i].context == context.context &&
             grams[i].next == grams[begin].next) {
        ++i;
      }
      context.successors.push_back({i - begin, grams[begin].next});
      context.total += i - begin;
    }
    Close(context, contexts);
  }
}

// Those that foretell most a byte, as many as `max_bytes` hold, in their order.
void Choose(uint64_t max_bytes, std::vector<Context>& contexts) {
  std::sort(contexts.begin(), contexts.end(), [](const Context& a, const Context& b) {
    const uint64_t of_a = a.foretold * b.bytes(), of_b = b.foretold * a.bytes();
    return std::tie(of_b, a.pair, a.context) < std::tie(of_a, b.pair, b.context);
  });
  uint64_t bytes = kFrameBytes;
  size_t kept = 0;
  while (kept < contexts.size() && bytes + contexts[kept].bytes() <= max_bytes) {
    bytes += contexts[kept++].bytes();
  }
  contexts.resize(kept);
  std::sort(contexts.begin(), contexts.end(), [](const Context& a, const Context& b) {
    return std::tie(a.pair, a.context) < std::tie(b.pair, b.context);
  });
}

void Add(const Context& context, Successors::Contexts& table) {
  if (context.pair) {
    table.before.push_back(static_cast<uint32_t>(context.context >> 32));
    table.last.push_back(static_cast<uint32_t>(context.context));
  } else {
    table.singles.push_back(static_cast<uint32_t>(context.context));
  }
  uint64_t divisor = 1;
  while (context.total / divisor > UINT16_MAX) divisor *= 2;
  table.totals.push_back(static_cast<uint16_t>(context.total / divisor));
  uint8_t size = 0;
  for (const Successor& successor : context.successors) {
    if (successor.count < divisor) break;
    table.ids.push_back(successor.id);
    table.counts.push_back(static_cast<uint16_t>(successor.count / divisor));
    ++size;
  }
  if (size == 0) {  // Of many thousands, none came twice as often as the others.
    table.ids.push_back(context.successors[0].id);
    table.counts.push_back(1);
    size = 1;
  }
  table.sizes.push_back(size);
}

}  // namespace

absl::StatusOr<Successors> CountSuccessors(const TokenTrace& compressed, const Sha256& token_map,
                                           uint64_t max_bytes) {
  std::vector<Gram> singles, pairs;
  for (const std::vector<uint32_t>& sequence : compressed) {
    for (size_t i = 0; i < sequence.size(); ++i) {
      if (sequence[i] >= kMaxVocab) {
        return absl::InvalidArgumentError(
            absl::StrCat("compressed id ", sequence[i], " is beyond the largest vocabulary"));
      }
      if (i >= 1) singles.push_back({sequence[i - 1], sequence[i]});
      if (i >= 2) pairs.push_back({uint64_t{sequence[i - 2]} << 32 | sequence[i - 1], sequence[i]});
    }
  }
  std::vector<Context> contexts;
  Count(std::move(singles), false, contexts);
  Count(std::move(pairs), true, contexts);
  Choose(max_bytes, contexts);
  Successors::Contexts table;
  for (const Context& context : contexts) Add(context, table);
  return Successors::Create(token_map, std::move(table));
}

}  // namespace engram
