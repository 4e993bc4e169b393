#include "proto/hot_keys.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/base/bytes.h"
#include "proto/base/file.h"
#include "proto/base/status_macros.h"
#include "proto/crc32c.h"
#include "proto/geometry.h"

namespace engram {
namespace {

constexpr absl::string_view kHotKeysMagic = "ENGRHOTK";
constexpr uint32_t kVersion = 1;
constexpr uint64_t kMaxHotKeysBytes = uint64_t{1} << 32;

bool TakeKey(ByteCursor& cursor, HotKeys::Key& key, uint32_t& rows) {
  return cursor.Take(key.layer) && cursor.Take(key.column) && cursor.Take(key.count) &&
         cursor.Take(rows);
}

}  // namespace

absl::StatusOr<HotKeys> MergeHotKeys(std::span<const HotKeys> parts, size_t most) {
  if (parts.empty()) return absl::InvalidArgumentError("there are no hot n-grams to be merged");
  std::map<std::tuple<uint32_t, uint32_t, std::vector<uint64_t>>, uint64_t> counts;
  for (const HotKeys& part : parts) {
    if (part.digest != parts[0].digest) {
      return absl::InvalidArgumentError(absl::StrCat(
          "hot n-grams of two tables, ", ToHex(parts[0].digest), " and ", ToHex(part.digest)));
    }
    for (const HotKeys::Key& key : part.keys) {
      counts[{key.layer, key.column, key.rows}] += key.count;
    }
  }
  HotKeys merged;
  merged.digest = parts[0].digest;
  for (auto& [key, count] : counts) {
    const auto& [layer, column, rows] = key;
    merged.keys.push_back(
        {layer, column, static_cast<uint32_t>(std::min<uint64_t>(count, UINT32_MAX)), rows});
  }
  std::stable_sort(merged.keys.begin(), merged.keys.end(),
                   [](const auto& a, const auto& b) { return a.count > b.count; });
  merged.keys.resize(std::min(most, merged.keys.size()));
  return merged;
}

absl::StatusOr<bool> IsHotKeysFile(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path, kMaxHotKeysBytes));
  return absl::StartsWith(bytes, kHotKeysMagic);
}

absl::Status WriteHotKeys(const std::string& path, const HotKeys& hot) {
  std::string bytes(kHotKeysMagic);
  AppendBytes(bytes, kVersion);
  AppendBytes(bytes, hot.digest);
  AppendBytes(bytes, uint64_t{hot.keys.size()});
  AppendBytes(bytes, Crc32c(bytes));
  const size_t body = bytes.size();
  for (const HotKeys::Key& key : hot.keys) {
    AppendBytes(bytes, key.layer);
    AppendBytes(bytes, key.column);
    AppendBytes(bytes, key.count);
    AppendBytes(bytes, static_cast<uint32_t>(key.rows.size()));
    AppendAllBytes(bytes, key.rows);
  }
  AppendBytes(bytes, Crc32c(absl::string_view(bytes).substr(body)));
  return WriteFileAtomically(path, bytes);
}

absl::StatusOr<HotKeys> ReadHotKeys(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path, kMaxHotKeysBytes));
  const std::string name = absl::StrCat("hot n-grams ", path, ": ");
  const auto wrong = [&](const auto&... what) {
    return absl::InvalidArgumentError(absl::StrCat(name, what...));
  };
  const absl::string_view all = bytes;
  if (all.substr(0, kHotKeysMagic.size()) != kHotKeysMagic) return wrong("is no such file");
  ByteCursor cursor(all.substr(kHotKeysMagic.size()));
  HotKeys hot;
  uint32_t version = 0, checksum = 0;
  uint64_t count = 0;
  if (!cursor.Take(version) || !cursor.Take(hot.digest) || !cursor.Take(count)) {
    return wrong("is cut off");
  }
  const size_t header = all.size() - cursor.rest().size();
  if (!cursor.Take(checksum)) return wrong("is cut off");
  if (checksum != Crc32c(all.substr(0, header))) {
    return absl::DataLossError(absl::StrCat(name, "the header is damaged"));
  }
  if (version != kVersion) return wrong("is of version ", version, ", this reads ", kVersion);
  const absl::string_view body = cursor.rest();
  for (uint64_t i = 0; i < count; ++i) {
    HotKeys::Key& key = hot.keys.emplace_back();
    uint32_t rows = 0;
    if (!TakeKey(cursor, key, rows)) return wrong("is cut off");
    if (rows == 0 || rows > kMaxHeads) return wrong("n-gram ", i, " has ", rows, " rows");
    if (!cursor.TakeAll(rows, key.rows)) return wrong("is cut off");
  }
  const absl::string_view keys = body.substr(0, body.size() - cursor.rest().size());
  if (!cursor.Take(checksum) || !cursor.rest().empty()) return wrong("has another length");
  if (checksum != Crc32c(keys)) {
    return absl::DataLossError(absl::StrCat(name, "an n-gram is damaged"));
  }
  return hot;
}

}  // namespace engram
