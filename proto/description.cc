#include "proto/description.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "proto/base/proto_reader.h"
#include "proto/base/proto_writer.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

// A server states its own text; beyond this it is none.
constexpr size_t kMaxTextBytes = 65536;
constexpr size_t kMaxFeatures = 1024;
constexpr size_t kMaxRanges = size_t{1} << 20;

// Calls read(field) for every field of the message; false on a malformed one.
template <typename Read>
absl::Status ReadMessage(ProtoReader& in, absl::string_view message, Read read) {
  while (in.Next()) {
    if (!read(in.field())) return in.Malformed(message);
  }
  return in.ok() ? absl::OkStatus() : in.Malformed(message);
}

// A message within a message: a second one goes behind the first.
bool ReadNested(ProtoReader& in, std::string& message) {
  absl::string_view bytes;
  const bool ok = in.Bytes(bytes);
  if (ok) message.append(bytes.data(), bytes.size());
  return ok;
}

bool ReadRange(ProtoReader& outer, std::vector<RowRange>& ranges) {
  absl::string_view bytes;
  if (!outer.Bytes(bytes) || ranges.size() >= kMaxRanges) return false;
  RowRange& range = ranges.emplace_back();
  ProtoReader in(bytes);
  return ReadMessage(in, "",
                     [&](uint32_t field) {
                       return field == 1   ? in.Uint(range.layer)
                              : field == 2 ? in.Uint(range.begin)
                              : field == 3 ? in.Uint(range.end)
                                           : in.Skip();
                     })
      .ok();
}

bool ReadGeneration(ProtoReader& outer, std::vector<Generation>& generations) {
  absl::string_view bytes;
  if (!outer.Bytes(bytes)) return false;
  Generation& generation = generations.emplace_back();
  ProtoReader in(bytes);
  return ReadMessage(in, "",
                     [&](uint32_t field) {
                       return field == 1   ? in.String(kMaxTextBytes, generation.digest)
                              : field == 2 ? in.Enum(generation.state)
                              : field == 3 ? ReadRange(in, generation.ranges)
                              : field == 4 ? in.String(kMaxTextBytes, generation.base)
                              : field == 5 ? in.Uint(generation.changed_rows)
                                           : in.Skip();
                     })
      .ok();
}

// The first two fields of a message of numbers.
bool ReadUints(ProtoReader& outer, uint64_t& first, uint64_t* second) {
  absl::string_view bytes;
  if (!outer.Bytes(bytes)) return false;
  ProtoReader in(bytes);
  return ReadMessage(in, "",
                     [&](uint32_t field) {
                       return field == 1                        ? in.Uint(first)
                              : field == 2 && second != nullptr ? in.Uint(*second)
                                                                : in.Skip();
                     })
      .ok();
}

}  // namespace

std::string DescribedStateName(DescribedState state) {
  switch (state) {
    case DescribedState::kUnspecified:
      return "UNSPECIFIED";
    case DescribedState::kLoading:
      return "LOADING";
    case DescribedState::kServing:
      return "SERVING";
    case DescribedState::kDraining:
      return "DRAINING";
    case DescribedState::kFailed:
      return "FAILED";
  }
  return absl::StrCat(static_cast<uint32_t>(state));
}

absl::StatusOr<Description> DecodeDescription(absl::string_view bytes) {
  Description result;
  ProtoReader in(bytes);
  RETURN_IF_ERROR(ReadMessage(in, "DescribeResponse", [&](uint32_t field) {
    switch (field) {
      case 1:
        return in.String(kMaxTextBytes, result.server_version);
      case 2:
        return in.String(kMaxTextBytes, result.model);
      case 3:
        return ReadNested(in, result.geometry);
      case 4:
        return ReadNested(in, result.row_layout);
      case 5:
        if (!result.token_map.has_value()) result.token_map.emplace();
        return ReadNested(in, *result.token_map);
      case 6:
        return ReadGeneration(in, result.generations);
      case 7:
        return in.Enum(result.state);
      case 8:
        return in.Uint(result.shard.index);
      case 9:
        return in.Uint(result.shard.count);
      case 10:
        return ReadUints(in, result.max_rows_per_request, nullptr);
      case 11:
        return in.Uints(kMaxFeatures, result.features);
      case 12:
        return ReadUints(in, result.verified_passes, &result.verified_rows);
      case 13:
        return in.String(kMaxTextBytes, result.failure);
      default:
        return in.Skip();
    }
  }));
  return result;
}

absl::StatusOr<Geometry> DecodeGeometry(absl::string_view bytes) {
  GeometryParams params;
  params.row_multiple = 0;
  std::vector<uint64_t> rows_per_layer;
  ProtoReader in(bytes);
  RETURN_IF_ERROR(ReadMessage(in, "Geometry", [&](uint32_t field) {
    switch (field) {
      case 1:
        return in.Uints(kMaxLayerId, params.layer_ids);
      case 2:
        return in.Uint(params.max_ngram);
      case 3:
        return in.Uint(params.heads);
      case 4:
        return in.Uints(kMaxLayerId, params.bucket_floors);
      case 5:
        return in.Uint(params.seed);
      case 6:
        return in.Uint(params.compressed_vocab);
      case 7:
        return in.Uint(params.pad_token);
      case 8:
        return in.Uints(kMaxLayerId, rows_per_layer);
      case 9:
        return in.Enum(params.rule);
      case 10:
        return in.Uint(params.row_multiple);
      default:
        return in.Skip();
    }
  }));
  params.row_multiple = std::max<uint64_t>(1, params.row_multiple);
  return Geometry::Derive(params, rows_per_layer);
}

absl::StatusOr<RowLayout> DecodeRowLayout(absl::string_view bytes) {
  RowLayout layout{.values = 0};
  // Wider than the bytes of our types.
  uint32_t value_type = 0, scale_type = 0, row_bytes = 0;
  ProtoReader in(bytes);
  RETURN_IF_ERROR(ReadMessage(in, "RowLayout", [&](uint32_t field) {
    switch (field) {
      case 1:
        return in.Uint(value_type);
      case 2:
        return in.Uint(layout.values);
      case 3:
        return in.Uint(scale_type);
      case 4:
        return in.Uint(layout.scales);
      case 5:
        return in.Uint(row_bytes);
      default:
        return in.Skip();
    }
  }));
  if (value_type > static_cast<uint32_t>(ValueType::kF32)) {
    return absl::InvalidArgumentError("row layout has an unknown value type");
  }
  // On the wire 1 stands for none, 2 for ue8m0.
  if (scale_type != 1 && scale_type != 2) {
    return absl::InvalidArgumentError("row layout has an unknown scale type");
  }
  layout.value_type = static_cast<ValueType>(value_type);
  layout.scale_type = scale_type == 2 ? ScaleType::kUe8m0 : ScaleType::kNone;
  RETURN_IF_ERROR(layout.Validate());
  if (layout.row_bytes() != row_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("row layout of ", layout.row_bytes(), " bytes is said to have ", row_bytes));
  }
  return layout;
}

absl::StatusOr<TokenMap> DecodeTokenMap(absl::string_view bytes) {
  absl::string_view hash, ids;
  ProtoReader in(bytes);
  RETURN_IF_ERROR(ReadMessage(in, "TokenMap", [&](uint32_t field) {
    return field == 1 ? in.Bytes(hash) : field == 4 ? in.Bytes(ids) : in.Skip();
  }));
  ASSIGN_OR_RETURN(TokenMap map, TokenMap::Parse(ids));
  const Sha256& own = map.sha256();
  if (absl::string_view(reinterpret_cast<const char*>(own.data()), own.size()) != hash) {
    return absl::InvalidArgumentError("token map does not have the SHA-256 that came with it");
  }
  return map;
}

absl::StatusOr<std::string> DecodeTokenMapHash(absl::string_view bytes) {
  std::string hash;
  ProtoReader in(bytes);
  RETURN_IF_ERROR(ReadMessage(in, "TokenMap", [&](uint32_t field) {
    return field == 1 ? in.String(kMaxTextBytes, hash) : in.Skip();
  }));
  return hash;
}

std::string EncodeDescribeRequest(bool include_token_map) {
  if (!include_token_map) return "";
  uint8_t buffer[16];
  uint8_t* const end = WriteUint(1, 1, buffer);
  return std::string(buffer, end);
}

}  // namespace engram
