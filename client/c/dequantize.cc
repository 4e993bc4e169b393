// Rows to values through the C ABI.
#include "client/dequantize.h"

#include <span>

#include "absl/strings/str_cat.h"
#include "client/c/handles.h"
#include "client/c/status.h"
#include "proto/base/status_macros.h"

using engram::CheckArray;
using engram::CheckNotNull;

engram_status* engram_dequantize_rows(const engram_client* client, size_t rows,
                                      const uint8_t* packed, size_t packed_bytes,
                                      const uint8_t* scales, size_t scales_bytes, int32_t type,
                                      uint8_t* out, size_t out_bytes) {
  return engram::Call([&]() -> absl::Status {
    RETURN_IF_ERROR(CheckNotNull(client, "client"));
    RETURN_IF_ERROR(CheckArray(packed, packed_bytes, SIZE_MAX, "packed"));
    RETURN_IF_ERROR(CheckArray(scales, scales_bytes, SIZE_MAX, "scales"));
    RETURN_IF_ERROR(CheckArray(out, out_bytes, SIZE_MAX, "out"));
    if (type != ENGRAM_VALUE_BF16 && type != ENGRAM_VALUE_F32) {
      return absl::InvalidArgumentError(absl::StrCat(
          "argument `type` is ", type, ", rows become ENGRAM_VALUE_BF16 or ENGRAM_VALUE_F32"));
    }
    const engram::RowLayout& layout = client->client->layout();
    const auto value_type = static_cast<engram::ValueType>(type);
    const std::span<const uint8_t> from(packed, packed_bytes);
    const std::span<uint8_t> to(out, out_bytes);
    if (scales == nullptr) return engram::DequantizeRows(layout, rows, from, value_type, to);
    return engram::DequantizeSplitRows(layout, rows, from, {scales, scales_bytes}, value_type, to);
  });
}
