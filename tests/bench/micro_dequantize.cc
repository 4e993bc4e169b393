// Dequantizing against memcpy of as many bytes as come out of it, in turns.
#include "tests/bench/micro_dequantize.h"

#include <benchmark/benchmark.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "client/dequantize.h"

namespace engram {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint32_t kValues = 256;

enum class Values {
  kGaussian,  // blocks of 32 of a normal distribution, scaled so that the largest just fits
  kUniform,   // every byte but NaN as often: what engramctl synth writes
  kZero,      // rows that nobody has, scales too
};

uint8_t NearestE4m3(double value) {
  const double magnitude = std::abs(value);
  int exponent = -6;
  if (magnitude >= 1.0 / 64) exponent = std::ilogb(magnitude);
  const auto eighths = static_cast<int>(std::lround(std::ldexp(magnitude, 3 - exponent)));
  const int bits = std::min((exponent + 6) * 8 + eighths, 0x7e);  // a carry goes into the exponent
  return static_cast<uint8_t>(bits | (std::signbit(value) ? 0x80 : 0));
}

// One block: its values to `values`, its scale.
uint8_t DrawBlock(Values kind, std::mt19937& random, uint8_t* values) {
  if (kind == Values::kZero) {
    std::memset(values, 0, 32);
    return 0;
  }
  if (kind == Values::kUniform) {
    for (int i = 0; i < 32; ++i) {
      values[i] = static_cast<uint8_t>(random());
      if ((values[i] & 0x7f) == 0x7f) values[i] ^= 1;
    }
    return static_cast<uint8_t>(115 + random() % 8);
  }
  std::normal_distribution<double> normal(0, 0.02);
  double drawn[32], largest = 0;
  for (double& value : drawn) largest = std::max(largest, std::abs(value = normal(random)));
  const int exponent = static_cast<int>(std::ceil(std::log2(largest / 448)));
  for (int i = 0; i < 32; ++i) values[i] = NearestE4m3(std::ldexp(drawn[i], -exponent));
  return static_cast<uint8_t>(exponent + 127);
}

// Rows of a layout, of which the first 4,096 are drawn and the rest repeat them.
std::vector<uint8_t> DrawRows(const RowLayout& layout, Values kind, size_t rows) {
  const size_t row_bytes = layout.row_bytes();
  std::vector<uint8_t> packed(rows * row_bytes);
  std::mt19937 random(1);
  for (size_t row = 0; row < rows; ++row) {
    uint8_t* const at = packed.data() + row * row_bytes;
    if (row >= 4096) {
      std::memcpy(at, at - 4096 * row_bytes, row_bytes);
      continue;
    }
    for (size_t block = 0; block < layout.value_bytes() / 32; ++block) {
      const uint8_t scale = DrawBlock(kind, random, at + block * 32);
      if (layout.scales > 0) at[layout.value_bytes() + block] = scale;
    }
  }
  return packed;
}

// Seconds of one call.
double Time(const std::function<void()>& call) {
  const Clock::time_point start = Clock::now();
  call();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

struct Shape {
  RowLayout layout;
  Values values;
  ValueType type;
  size_t out_bytes;  // of all rows together
};

void Dequantize(benchmark::State& state, const Shape& shape, Isa isa) {
  const size_t out_row = size_t{kValues} * (shape.type == ValueType::kF32 ? 4 : 2);
  const size_t rows = shape.out_bytes / out_row;
  const size_t bytes = rows * out_row;
  const std::vector<uint8_t> packed = DrawRows(shape.layout, shape.values, rows);
  std::vector<uint8_t> out(bytes), source(bytes, 1), copy(bytes);
  double ours = 0, memcpys = 0;
  for (auto _ : state) {
    const double seconds = Time([&] {
      if (!DequantizeRows(shape.layout, rows, packed, shape.type, out, isa).ok()) std::abort();
      benchmark::ClobberMemory();
    });
    state.SetIterationTime(seconds);
    ours += seconds;
    memcpys += Time([&] {
      std::memcpy(copy.data(), source.data(), bytes);
      benchmark::ClobberMemory();
    });
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * static_cast<int64_t>(bytes));
  state.counters["of_memcpy"] = memcpys / ours;
}

}  // namespace

void RegisterDequantize() {
  constexpr const char* kIsas[] = {"portable", "avx2", "avx512"};
  const struct {
    const char* name;
    size_t bytes;
  } kSizes[] = {{"L2", 128 << 10}, {"memory", 256 << 20}};
  const struct {
    const char* name;
    RowLayout layout;
    Values values;
  } kRows[] = {{"fp8", PackedFp8Layout(kValues), Values::kGaussian},
               {"fp8_uniform", PackedFp8Layout(kValues), Values::kUniform},
               {"fp8_zero", PackedFp8Layout(kValues), Values::kZero},
               {"bf16", {.value_type = ValueType::kBf16, .values = kValues}, Values::kUniform},
               {"f16", {.value_type = ValueType::kF16, .values = kValues}, Values::kUniform},
               {"f32", {.value_type = ValueType::kF32, .values = kValues}, Values::kUniform}};
  for (const auto& size : kSizes) {
    for (const auto& rows : kRows) {
      for (const ValueType type : {ValueType::kBf16, ValueType::kF32}) {
        if (rows.layout.value_type == type) continue;
        for (const Isa isa : SupportedIsas()) {
          const std::string name = std::string("Dequantize/") + rows.name + "/" +
                                   std::string(ValueTypeName(type)) + "/" + size.name + "/" +
                                   kIsas[static_cast<size_t>(isa)];
          const Shape shape{rows.layout, rows.values, type, size.bytes};
          benchmark::RegisterBenchmark(name.c_str(), Dequantize, shape, isa)->UseManualTime();
        }
      }
    }
  }
}

}  // namespace engram
