#include "client/dequantize.h"

#include <algorithm>
#include <array>
#include <functional>

#include "absl/strings/str_cat.h"
#include "client/dequantize_float.h"
#include "client/dequantize_fp8.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

constexpr uint8_t kScaleOne = 127;                 // 2^0
constexpr size_t kMostBlocks = 65536 / kFp8Block;  // of a row that RowLayout::Validate lets through

using BlockScales = std::array<uint8_t, kMostBlocks>;

// The rows and where they go; `scales` is null where a row's lie behind its values.
struct Job {
  const RowLayout& layout;
  size_t rows;
  std::span<const uint8_t> values;
  std::span<const uint8_t> scales;
  bool split;
  ValueType type;
  std::span<uint8_t> out;
  Isa isa;

  size_t value_stride() const { return split ? layout.value_bytes() : layout.row_bytes(); }
};

absl::Status CheckSize(absl::string_view what, size_t size, size_t rows, size_t row_bytes) {
  if (size % row_bytes == 0 && size / row_bytes == rows) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("`", what, "` has ", size, " bytes, expected ", rows, " rows of ", row_bytes));
}

absl::Status CheckApart(absl::string_view what, std::span<const uint8_t> in,
                        std::span<uint8_t> out) {
  const std::less<const uint8_t*> before;
  if (in.empty() || out.empty() || !before(in.data(), out.data() + out.size()) ||
      !before(out.data(), in.data() + in.size())) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("`out` overlaps `", what, "`"));
}

absl::Status Check(const Job& job) {
  RETURN_IF_ERROR(job.layout.Validate());
  if (job.type != ValueType::kBf16 && job.type != ValueType::kF32) {
    return absl::InvalidArgumentError(
        absl::StrCat("rows can be dequantized to bf16 and f32, not to ", ValueTypeName(job.type)));
  }
  if (job.layout.value_type != ValueType::kFp8E4M3 && job.layout.scales != 0) {
    return absl::InvalidArgumentError(absl::StrCat("rows of ", ValueTypeName(job.layout.value_type),
                                                   " with ", ScaleTypeName(job.layout.scale_type),
                                                   " scales cannot be dequantized"));
  }
  if (job.split && job.layout.scales == 0) {
    return absl::InvalidArgumentError("scales apart: the layout's rows have none");
  }
  const size_t out_bytes = size_t{job.layout.values} * (job.type == ValueType::kF32 ? 4 : 2);
  const absl::string_view values = job.split ? "values" : "packed";
  RETURN_IF_ERROR(CheckSize(values, job.values.size(), job.rows, job.value_stride()));
  if (job.split) {
    RETURN_IF_ERROR(CheckSize("scales", job.scales.size(), job.rows, job.layout.scales));
  }
  RETURN_IF_ERROR(CheckSize("out", job.out.size(), job.rows, out_bytes));
  RETURN_IF_ERROR(CheckApart(values, job.values, job.out));
  return CheckApart("scales", job.scales, job.out);
}

// Scales of other than 32 values, row by row: to those of blocks where each is of whole blocks,
// else value by value.
template <typename Out>
void OtherScales(const Job& job, Fp8Rows row, uint8_t* out) {
  const size_t group = job.layout.values / job.layout.scales;
  BlockScales block_scales;
  for (size_t i = 0; i < job.rows; ++i, row.values += row.value_stride) {
    const uint8_t* const scales = row.scales + i * row.scale_stride;
    if (group % kFp8Block == 0) {
      const size_t blocks = group / kFp8Block;
      for (size_t s = 0; s < job.layout.scales; ++s) {
        std::fill_n(block_scales.begin() + static_cast<ptrdiff_t>(s * blocks), blocks, scales[s]);
      }
      const Fp8Rows one{row.values, 0, block_scales.data(), 0, row.row_values, 1};
      ConvertFp8Rows<Out>(one, out, job.isa);
    } else {
      for (size_t s = 0; s < job.layout.scales; ++s) {
        ConvertFp8Values<Out>(row.values + s * group, scales[s], group,
                              out + s * group * sizeof(Out));
      }
    }
    out += row.row_values * sizeof(Out);
  }
}

const BlockScales& ScalesOfOne() {
  static const auto scales = [] {
    BlockScales ones;
    ones.fill(kScaleOne);
    return ones;
  }();
  return scales;
}

template <typename Out>
void DequantizeFp8(const Job& job) {
  const RowLayout& layout = job.layout;
  Fp8Rows rows{.values = job.values.data(),
               .value_stride = job.value_stride(),
               .scales = job.split ? job.scales.data() : job.values.data() + layout.value_bytes(),
               .scale_stride = job.split ? layout.scales : layout.row_bytes(),
               .row_values = layout.values,
               .rows = job.rows};
  if (layout.scales == 0) {
    rows.scales = ScalesOfOne().data();
    rows.scale_stride = 0;
  } else if (layout.values / layout.scales != kFp8Block) {
    return OtherScales<Out>(job, rows, job.out.data());
  }
  ConvertFp8Rows<Out>(rows, job.out.data(), job.isa);
}

absl::Status Dequantize(const Job& job) {
  RETURN_IF_ERROR(Check(job));
  if (job.rows == 0) return absl::OkStatus();
  if (job.layout.value_type != ValueType::kFp8E4M3) {
    ConvertFloats(job.layout.value_type, job.type, job.values.data(), job.rows * job.layout.values,
                  job.out.data(), job.isa);
  } else if (job.type == ValueType::kF32) {
    DequantizeFp8<uint32_t>(job);
  } else {
    DequantizeFp8<uint16_t>(job);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status DequantizeRows(const RowLayout& layout, size_t rows, std::span<const uint8_t> packed,
                            ValueType type, std::span<uint8_t> out, Isa isa) {
  return Dequantize({layout, rows, packed, {}, false, type, out, isa});
}

absl::Status DequantizeSplitRows(const RowLayout& layout, size_t rows,
                                 std::span<const uint8_t> values, std::span<const uint8_t> scales,
                                 ValueType type, std::span<uint8_t> out, Isa isa) {
  return Dequantize({layout, rows, values, scales, true, type, out, isa});
}

}  // namespace engram
