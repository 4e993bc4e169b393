// Contract types <-> their messages in engram.v1.
#ifndef ENGRAM_PROTO_DESCRIBE_H_
#define ENGRAM_PROTO_DESCRIBE_H_

#include <vector>

#include "absl/status/statusor.h"
#include "engram/v1/engram.pb.h"
#include "proto/geometry.h"
#include "proto/range_map.h"
#include "proto/row_layout.h"
#include "proto/token_map.h"

namespace engram {

void ToMessage(const Geometry& geometry, v1::Geometry* message);
void ToMessage(const RowLayout& layout, v1::RowLayout* message);
void ToMessage(const TokenMap& map, bool with_ids, v1::TokenMap* message);
void ToMessage(const std::vector<RowRange>& ranges, v1::Generation* message);

// InvalidArgument: out of bounds, or the rows per layer that the peer states are not the ones
// derived here (the two disagree about the hash).
absl::StatusOr<Geometry> GeometryFromMessage(const v1::Geometry& message);
// InvalidArgument: unknown types, or `row_bytes` is not the layout's.
absl::StatusOr<RowLayout> RowLayoutFromMessage(const v1::RowLayout& message);
// InvalidArgument: no ids, or they do not hash to the message's SHA-256.
absl::StatusOr<TokenMap> TokenMapFromMessage(const v1::TokenMap& message);
// InvalidArgument as ValidateRanges.
absl::StatusOr<std::vector<RowRange>> RangesFromMessage(const Geometry& geometry,
                                                        const v1::Generation& message);

}  // namespace engram

#endif  // ENGRAM_PROTO_DESCRIBE_H_
