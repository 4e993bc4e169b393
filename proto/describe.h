// Contract types -> their messages in engram.v1, as a server writes them (proto/description.h
// reads).
#ifndef ENGRAM_PROTO_DESCRIBE_H_
#define ENGRAM_PROTO_DESCRIBE_H_

#include <vector>

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

}  // namespace engram

#endif  // ENGRAM_PROTO_DESCRIBE_H_
