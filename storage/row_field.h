// From the bytes of a tensor to the bytes of a served row.
#ifndef ENGRAM_STORAGE_ROW_FIELD_H_
#define ENGRAM_STORAGE_ROW_FIELD_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "storage/table_tensors.h"

namespace engram {

// The ue8m0 byte of a little-endian f32 with those bits: e where it is exactly 2^(e - 127), e in
// [0, 254] (e = 0 is a subnormal f32). nullopt for every other value, zero, infinity and NaN
// among them.
std::optional<uint8_t> Ue8m0FromF32(uint32_t bits);

// Which piece holds `row`, which must be a row of the layer: an index into field.pieces.
size_t PieceOf(const RowField& field, uint64_t row);

// The first scale of `count` F32 ones at `from` that ue8m0 cannot hold is written to `bad` (its
// index) and false returned; otherwise all are converted to `to`.
bool ConvertF32Scales(const uint8_t* from, size_t count, uint8_t* to, size_t& bad);

// Moves `count` field values of field.file_row_bytes each, one behind the other, to where they
// belong in rows of `row_bytes`, the first of which starts at `rows`. For kCopy alone.
void ScatterField(const RowField& field, const uint8_t* from, size_t count, size_t row_bytes,
                  uint8_t* rows);

}  // namespace engram

#endif  // ENGRAM_STORAGE_ROW_FIELD_H_
