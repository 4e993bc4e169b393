#include "proto/hot_ngrams.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "proto/base/bytes.h"
#include "proto/base/file.h"
#include "proto/base/status_macros.h"
#include "proto/crc32c.h"

namespace engram {
namespace {

constexpr absl::string_view kHotNgramsMagic = "ENGRHOT1";
constexpr uint64_t kMaxHotNgramsBytes = uint64_t{1} << 32;

struct Key {
  uint32_t size = 0;
  std::array<uint32_t, kMaxNgram> ids{};

  bool operator==(const Key&) const = default;
  template <typename H>
  friend H AbslHashValue(H h, const Key& key) {
    return H::combine_contiguous(std::move(h), key.ids.data(), key.size);
  }
};

}  // namespace

std::vector<HotNgrams::Ngram> CountNgrams(const TokenTrace& compressed, uint32_t max_ngram,
                                          size_t most, size_t window) {
  struct Seen {
    uint32_t windows = 0;
    uint32_t times = 0;
    size_t last_window = SIZE_MAX;
  };
  absl::flat_hash_map<Key, Seen> all;
  size_t tokens = 0;
  for (const std::vector<uint32_t>& sequence : compressed) {
    for (size_t end = 2; end <= sequence.size(); ++end) {
      const size_t its_window = (tokens + end - 1) / window;
      for (uint32_t size = 2; size <= max_ngram && size <= end; ++size) {
        Key key{size, {}};
        std::copy_n(sequence.data() + end - size, size, key.ids.begin());
        Seen& seen = all[key];
        if (seen.times < UINT32_MAX) ++seen.times;
        if (seen.last_window == its_window || seen.windows == UINT32_MAX) continue;
        seen.last_window = its_window;
        ++seen.windows;
      }
    }
    tokens += sequence.size();
  }
  std::vector<std::pair<Key, Seen>> ranked(all.begin(), all.end());
  const auto before = [](const auto& a, const auto& b) {
    return std::tie(b.second.windows, b.second.times, a.first.size, a.first.ids) <
           std::tie(a.second.windows, a.second.times, b.first.size, b.first.ids);
  };
  const auto end = ranked.begin() + static_cast<ptrdiff_t>(std::min(most, ranked.size()));
  std::partial_sort(ranked.begin(), end, ranked.end(), before);
  ranked.erase(end, ranked.end());
  std::vector<HotNgrams::Ngram> ngrams;
  for (const auto& [key, seen] : ranked) ngrams.push_back({seen.windows, key.size, key.ids});
  return ngrams;
}

absl::Status WriteHotNgrams(const std::string& path, const HotNgrams& hot) {
  std::string bytes(kHotNgramsMagic);
  bytes.append(reinterpret_cast<const char*>(hot.token_map.data()), hot.token_map.size());
  const uint64_t count = hot.ngrams.size();
  bytes.append(reinterpret_cast<const char*>(&count), sizeof(count));
  AppendBytes(bytes, Crc32c(bytes));
  const size_t body = bytes.size();
  for (const HotNgrams::Ngram& ngram : hot.ngrams) {
    AppendBytes(bytes, ngram.count);
    AppendBytes(bytes, ngram.size);
    for (uint32_t i = 0; i < ngram.size; ++i) AppendBytes(bytes, ngram.ids[i]);
  }
  AppendBytes(bytes, Crc32c(absl::string_view(bytes).substr(body)));
  return WriteFileAtomically(path, bytes);
}

absl::StatusOr<HotNgrams> ReadHotNgrams(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path, kMaxHotNgramsBytes));
  const auto wrong = [&](absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat("hot n-grams ", path, ": ", what));
  };
  ByteCursor cursor(bytes);
  std::array<char, kHotNgramsMagic.size()> magic;
  HotNgrams hot;
  uint64_t count = 0;
  uint32_t checksum = 0;
  if (!cursor.Take(magic) || absl::string_view(magic.data(), magic.size()) != kHotNgramsMagic) {
    return wrong("is no such file");
  }
  if (!cursor.Take(hot.token_map) || !cursor.Take(count)) return wrong("is cut off");
  const size_t header = bytes.size() - cursor.rest().size();
  if (!cursor.Take(checksum)) return wrong("is cut off");
  if (checksum != Crc32c(absl::string_view(bytes).substr(0, header))) {
    return absl::DataLossError(absl::StrCat("hot n-grams ", path, ": the header is damaged"));
  }
  const absl::string_view body = cursor.rest();
  for (uint64_t i = 0; i < count; ++i) {
    HotNgrams::Ngram& ngram = hot.ngrams.emplace_back();
    if (!cursor.Take(ngram.count) || !cursor.Take(ngram.size)) return wrong("is cut off");
    if (ngram.size < 2 || ngram.size > kMaxNgram) {
      return wrong(absl::StrCat("n-gram ", i, " has ", ngram.size, " tokens"));
    }
    for (uint32_t k = 0; k < ngram.size; ++k) {
      if (!cursor.Take(ngram.ids[k])) return wrong("is cut off");
    }
  }
  const absl::string_view ngrams = body.substr(0, body.size() - cursor.rest().size());
  if (!cursor.Take(checksum) || !cursor.rest().empty()) return wrong("has another length");
  if (checksum != Crc32c(ngrams)) {
    return absl::DataLossError(absl::StrCat("hot n-grams ", path, ": an n-gram is damaged"));
  }
  return hot;
}

}  // namespace engram
