#include "proto/shard_map.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "proto/base/json.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

constexpr uint64_t kMaxShare = uint64_t{1} << 32;
constexpr size_t kMaxNameBytes = 63;

bool IsName(absl::string_view name) {
  return !name.empty() && name.size() <= kMaxNameBytes &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return absl::ascii_isgraph(static_cast<unsigned char>(c)) && c != '/';
         });
}

absl::Status CheckFields(const JsonFields& fields, std::initializer_list<absl::string_view> known) {
  for (const auto& [name, value] : fields.object().items()) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      return fields.Complain(name, "is not known");
    }
  }
  return absl::OkStatus();
}

// The objects of a list; `where` names one of them in messages.
absl::StatusOr<std::vector<JsonFields>> ObjectList(const JsonFields& fields,
                                                   absl::string_view field, absl::string_view where,
                                                   size_t max_count) {
  const auto it = fields.object().find(std::string(field));
  if (it == fields.object().end() || !it->is_array() || it->empty()) {
    return fields.Complain(field, "is missing or not a list with an element");
  }
  if (it->size() > max_count) {
    return fields.Complain(
        field, absl::StrCat("has ", it->size(), " elements; at most ", max_count, " are accepted"));
  }
  std::vector<JsonFields> objects;
  for (size_t i = 0; i < it->size(); ++i) {
    if (!(*it)[i].is_object()) {
      return fields.Complain(field, absl::StrCat("has an element ", i, " that is not an object"));
    }
    objects.emplace_back((*it)[i], absl::StrCat(fields.source(), ": ", where, " ", i));
  }
  return objects;
}

absl::StatusOr<std::vector<RowRange>> ParseRanges(const JsonFields& shard) {
  ASSIGN_OR_RETURN(const auto objects, ObjectList(shard, "ranges", "range", kMaxShardRanges));
  std::vector<RowRange> ranges;
  for (const JsonFields& object : objects) {
    RETURN_IF_ERROR(CheckFields(object, {"layer", "begin", "end"}));
    RowRange range;
    ASSIGN_OR_RETURN(const uint64_t layer, object.Uint("layer", 0, kMaxLayerId));
    range.layer = static_cast<uint32_t>(layer);
    ASSIGN_OR_RETURN(range.begin, object.Uint("begin", 0, UINT64_MAX));
    ASSIGN_OR_RETURN(range.end, object.Uint("end", 0, UINT64_MAX));
    ranges.push_back(range);
  }
  return ranges;
}

}  // namespace

absl::Status ShardMap::Complain(absl::string_view what) const {
  return absl::InvalidArgumentError(absl::StrCat(source_, ": ", what));
}

absl::StatusOr<ShardMap> ShardMap::Parse(absl::string_view json, absl::string_view source) {
  ASSIGN_OR_RETURN(const nlohmann::json document, ParseJsonObject(json, source));
  const JsonFields top(document, std::string(source));
  RETURN_IF_ERROR(CheckFields(top, {"shards"}));
  ASSIGN_OR_RETURN(const auto shards, ObjectList(top, "shards", "shard", kMaxShards));
  ShardMap map;
  map.source_ = std::string(source);
  std::unordered_set<std::string> seen;
  for (const JsonFields& shard : shards) {
    RETURN_IF_ERROR(CheckFields(shard, {"name", "share", "ranges"}));
    ASSIGN_OR_RETURN(std::string name, shard.String("name"));
    if (!IsName(name)) {
      return shard.Complain("name", "is not 1 to 63 printable characters without space and `/`");
    }
    if (!seen.insert(name).second) {
      return shard.Complain("name", absl::StrCat("is `", name, "`, as of another shard"));
    }
    if (shard.Has("share") == shard.Has("ranges") ||
        shard.Has("share") != shards.front().Has("share")) {
      return shard.Complain(
          shard.Has("share") ? "share" : "ranges",
          "contradicts the file: every shard has a share, or every shard has ranges");
    }
    map.names_.push_back(std::move(name));
    if (shard.Has("share")) {
      ASSIGN_OR_RETURN(map.shares_.emplace_back(), shard.Uint("share", 1, kMaxShare));
    } else {
      ASSIGN_OR_RETURN(map.ranges_.emplace_back(), ParseRanges(shard));
    }
  }
  return map;
}

std::vector<std::vector<RowRange>> ShardMap::RangesOfShares(const Geometry& geometry) const {
  __extension__ typedef unsigned __int128 uint128;
  uint64_t sum = 0;  // Of at most 2^16 shares of at most 2^32.
  for (const uint64_t share : shares_) sum += share;
  std::vector<std::vector<RowRange>> ranges(shares_.size());
  for (const LayerGeometry& layer : geometry.layers()) {
    uint64_t before = 0;
    uint64_t begin = 0;
    for (size_t i = 0; i < shares_.size(); ++i) {
      before += shares_[i];
      const auto end = static_cast<uint64_t>(static_cast<uint128>(layer.rows) * before / sum);
      if (end > begin) ranges[i].push_back({layer.layer_id, begin, end});
      begin = end;
    }
  }
  return ranges;
}

absl::StatusOr<std::vector<std::vector<RowRange>>> ShardMap::Ranges(
    const Geometry& geometry) const {
  std::vector<std::vector<RowRange>> ranges = shares_.empty() ? ranges_ : RangesOfShares(geometry);
  for (size_t i = 0; i < ranges.size(); ++i) {
    if (ranges[i].empty()) {
      return Complain(absl::StrCat("shard `", names_[i], "` would hold no rows: its share of ",
                                   geometry.total_rows(), " is less than one of any layer"));
    }
    const absl::Status status = ValidateRanges(geometry, ranges[i]);
    if (!status.ok()) return Complain(absl::StrCat("shard `", names_[i], "`: ", status.message()));
  }
  RETURN_IF_ERROR(CheckCover(geometry, ranges));
  return ranges;
}

// All shards' ranges of a layer, in order, must follow each other from its first row to its last.
absl::Status ShardMap::CheckCover(const Geometry& geometry,
                                  const std::vector<std::vector<RowRange>>& ranges) const {
  for (const LayerGeometry& layer : geometry.layers()) {
    std::vector<std::pair<RowRange, size_t>> held;
    for (size_t i = 0; i < ranges.size(); ++i) {
      for (const RowRange& range : ranges[i]) {
        if (range.layer == layer.layer_id) held.emplace_back(range, i);
      }
    }
    std::sort(held.begin(), held.end(),
              [](const auto& a, const auto& b) { return a.first.begin < b.first.begin; });
    uint64_t next = 0;
    for (size_t i = 0; i < held.size(); ++i) {
      const auto& [range, shard] = held[i];
      if (range.begin < next) {
        return Complain(absl::StrCat("shards `", names_[held[i - 1].second], "` and `",
                                     names_[shard], "` overlap: ", ToString(held[i - 1].first),
                                     " and ", ToString(range)));
      }
      if (range.begin > next) break;
      next = range.end;
    }
    const auto hole_end = std::find_if(
        held.begin(), held.end(), [next](const auto& entry) { return entry.first.begin > next; });
    if (next != layer.rows) {
      const uint64_t end = hole_end == held.end() ? layer.rows : hole_end->first.begin;
      return Complain(
          absl::StrCat("no shard holds ", ToString(RowRange{layer.layer_id, next, end})));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Shard> ShardMap::Find(absl::string_view name) const {
  const auto it = std::find(names_.begin(), names_.end(), name);
  if (it != names_.end()) {
    return Shard{static_cast<uint32_t>(it - names_.begin()), static_cast<uint32_t>(names_.size())};
  }
  constexpr size_t kShown = 8;
  std::string some;
  for (size_t i = 0; i < std::min(kShown, names_.size()); ++i) {
    absl::StrAppend(&some, i == 0 ? "" : ", ", names_[i]);
  }
  if (names_.size() > kShown) absl::StrAppend(&some, " and ", names_.size() - kShown, " more");
  return absl::NotFoundError(absl::StrCat(source_, " has no shard `", name, "`; it has ", some));
}

}  // namespace engram
