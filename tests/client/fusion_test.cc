// Both fusions against vectors that numpy computed (golden/make_fusion.py), and what they refuse.
#include "client/fusion/fusion.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "client/dequantize_float.h"
#include "proto/base/json.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

using nlohmann::json;

// The generator's: multiples of 1/64 in [-1, 1).
std::vector<float> Numbers(uint64_t seed, size_t count) {
  std::vector<float> numbers(count);
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t mixed = (i * 2654435761u + seed * 40503 + 12345) % (uint64_t{1} << 32);
    mixed = (mixed ^ (mixed >> 15)) * 2246822519u % (uint64_t{1} << 32);
    numbers[i] = static_cast<float>(mixed >> 25) / 64 - 1;
  }
  return numbers;
}

std::vector<float> Scaled(std::vector<float> numbers, float factor, float offset) {
  for (float& number : numbers) number = number * factor + offset;
  return numbers;
}

ValueType TypeOf(const std::string& name) {
  if (name == "fp8_e4m3") return ValueType::kFp8E4M3;
  return name == "bf16" ? ValueType::kBf16 : ValueType::kF32;
}

// Numbers of one type, and who keeps them.
class Tensor {
 public:
  Tensor() = default;
  Tensor(ValueType type, const std::vector<float>& values) : type_(type) {
    bytes_.resize(values.size() * (type == ValueType::kF32 ? 4 : 2));
    ConvertFloats(ValueType::kF32, type, reinterpret_cast<const uint8_t*>(values.data()),
                  values.size(), bytes_.data(), Isa::kPortable);
  }
  Weights weights() const { return {type_, bytes_}; }
  HiddenStates hidden() { return {type_, bytes_}; }
  std::vector<uint8_t>& bytes() { return bytes_; }
  std::vector<float> values() const {
    std::vector<float> values(bytes_.size() / (type_ == ValueType::kF32 ? 4 : 2));
    ConvertFloats(type_, ValueType::kF32, bytes_.data(), values.size(),
                  reinterpret_cast<uint8_t*>(values.data()), Isa::kPortable);
    return values;
  }

 private:
  ValueType type_ = ValueType::kF32;
  std::vector<uint8_t> bytes_;
};

// One case's inputs, and a fusion made of them.
struct Case {
  explicit Case(const json& golden, Isa isa = BestIsa()) : golden(golden) {
    const auto number = [&](const char* name) { return golden[name].get<size_t>(); };
    sequences = number("sequences");
    tokens = number("tokens");
    shape.columns = number("columns");
    shape.hidden = number("hidden");
    shape.branches = number("branches");
    shape.norm_eps = golden["eps"].get<float>();
    shape.dilation = number("dilation");
    shape.conv_norm_eps = golden["conv_eps"].get<float>();
    MakeRows(TypeOf(golden["rows"]), number("values"));
    for (float x : Numbers(3, sequences * tokens)) dead.push_back(x > 0.75f);
    hidden_type = TypeOf(golden["hidden_type"]);
    MakeWeights(TypeOf(golden["weights"]));
    Create(isa);
  }

  void MakeRows(ValueType type, size_t values) {
    const size_t count = sequences * tokens * shape.columns;
    shape.row = {type, static_cast<uint32_t>(values), ScaleType::kNone, 0};
    const std::vector<float> numbers = Numbers(1, count * values);
    if (type != ValueType::kFp8E4M3) {
      rows = Tensor(type, numbers).bytes();
      return;
    }
    shape.row = PackedFp8Layout(static_cast<uint32_t>(values));
    const std::vector<float> scales = Numbers(2, count);
    for (size_t row = 0; row < count; ++row) {
      for (size_t i = 0; i < values; ++i) {
        rows.push_back(static_cast<uint8_t>((numbers[row * values + i] + 1) * 64) * 2);
      }
      rows.push_back(static_cast<uint8_t>((scales[row] + 1) * 2) + 116);
    }
  }

  Weights Keep(ValueType type, std::vector<float> values) {
    kept.push_back(std::make_unique<Tensor>(type, values));
    return kept.back()->weights();
  }

  void MakeWeights(ValueType type) {
    const size_t size = shape.hidden, width = shape.width(), all = shape.branches * size;
    const std::vector<float> q = Scaled(Numbers(5, all), 0.5f, 1);
    const std::vector<float> k = Scaled(Numbers(6, all), 0.5f, 1);
    const std::vector<float> norm = Scaled(Numbers(30, all), 0.5f, 1);
    v41 = {Keep(type, Scaled(Numbers(7, (all + size) * width), 0.125f, 0)), Keep(type, q),
           Keep(type, k)};
    paper = {{},
             Keep(type, Scaled(Numbers(8, size * width), 0.125f, 0)),
             Keep(type, Numbers(9, size)),
             Keep(type, Numbers(31, all * shape.kernel))};
    for (size_t b = 0; b < shape.branches; ++b) {
      const auto part = [&](const std::vector<float>& of) {
        const auto begin = of.begin() + static_cast<ptrdiff_t>(b * size);
        return Keep(type, {begin, begin + static_cast<ptrdiff_t>(size)});
      };
      paper.branches.push_back({Keep(type, Scaled(Numbers(10 + b, size * width), 0.125f, 0)),
                                Keep(type, Numbers(20 + b, size)), part(q), part(k), part(norm)});
    }
  }

  void Create(Isa isa) {
    if (golden["fusion"] == "v41") {
      auto made = V41Fusion::Create(shape, v41, isa);
      ASSERT_THAT(made, IsOk());
      v41_fusion = *std::move(made);
    } else {
      auto made = PaperFusion::Create(shape, paper, isa);
      ASSERT_THAT(made, IsOk());
      paper_fusion = *std::move(made);
      state = paper_fusion->NewState(sequences);
    }
  }

  Tensor Hidden() const {
    return Tensor(hidden_type, Numbers(4, sequences * tokens * shape.branches * shape.hidden));
  }

  absl::Status Apply(const FusionTokens& given, HiddenStates hidden, std::span<float> gates = {}) {
    if (v41_fusion.has_value()) return v41_fusion->Apply(given, hidden, gates);
    return paper_fusion->Apply(given, hidden, *state, gates);
  }

  FusionTokens All() const { return {sequences, tokens, rows, dead}; }

  json golden;
  PaperShape shape;
  size_t sequences, tokens;
  std::vector<uint8_t> rows, dead;
  ValueType hidden_type;
  std::vector<std::unique_ptr<Tensor>> kept;
  V41Weights v41;
  PaperWeights paper;
  std::optional<V41Fusion> v41_fusion;
  std::optional<PaperFusion> paper_fusion;
  std::optional<ConvState> state;
};

const std::vector<json>& Golden() {
  static const auto* const cases = [] {
    auto document = ReadJsonFile("tests/client/golden/fusion.json", 4 << 20);
    EXPECT_THAT(document, IsOk());
    return new std::vector<json>((*document)["cases"].get<std::vector<json>>());
  }();
  return *cases;
}

const json& GoldenOf(const std::string& fusion) {
  for (const json& golden : Golden()) {
    if (golden["fusion"] == fusion) return golden;
  }
  return Golden().front();
}

// f32 sums of some hundred products: within 1e-5 of numpy's f64 (2e-5 of the larger values); bf16
// hidden states also half of their last place, at most 2^-8 of the value.
TEST(FusionTest, IsWhatNumpyComputes) {
  for (const json& golden : Golden()) {
    for (Isa isa : SupportedIsas()) {
      SCOPED_TRACE(golden["name"].get<std::string>() + ", isa " +
                   std::to_string(static_cast<int>(isa)));
      Case c(golden, isa);
      Tensor hidden = c.Hidden();
      std::vector<float> gates(c.sequences * c.tokens * c.shape.branches);
      ASSERT_THAT(c.Apply(c.All(), hidden.hidden(), gates), IsOk());
      const std::vector<float> values = hidden.values();
      ASSERT_EQ(values.size(), golden["expected"].size());
      const double rounding = c.hidden_type == ValueType::kBf16 ? 1.0 / 256 : 0;
      for (size_t i = 0; i < values.size(); ++i) {
        const double expected = golden["expected"][i];
        const double size = std::max(1.0, std::abs(expected));
        ASSERT_NEAR(values[i], expected, 2e-5 * size + rounding * size) << "value " << i;
      }
      for (size_t i = 0; i < gates.size(); ++i) {
        ASSERT_NEAR(gates[i], golden["gates"][i].get<double>(), 1e-5) << "gate " << i;
      }
    }
  }
}

TEST(FusionTest, EveryKindOfInstructionsGivesTheSameBits) {
  for (const json& golden : Golden()) {
    SCOPED_TRACE(golden["name"].get<std::string>());
    Case portable(golden, Isa::kPortable);
    Tensor expected = portable.Hidden();
    ASSERT_THAT(portable.Apply(portable.All(), expected.hidden()), IsOk());
    for (Isa isa : SupportedIsas()) {
      Case c(golden, isa);
      Tensor hidden = c.Hidden();
      ASSERT_THAT(c.Apply(c.All(), hidden.hidden()), IsOk());
      EXPECT_EQ(hidden.bytes(), expected.bytes()) << static_cast<int>(isa);
    }
  }
}

// One sequence, in chunks of all sizes, equals both sequences whole.
TEST(FusionTest, ChunksAndBatchesGiveTheSameBits) {
  for (const json& golden : Golden()) {
    SCOPED_TRACE(golden["name"].get<std::string>());
    Case whole(golden);
    Tensor expected = whole.Hidden();
    ASSERT_THAT(whole.Apply(whole.All(), expected.hidden()), IsOk());
    for (size_t chunk = 1; chunk <= whole.tokens; ++chunk) {
      Case c(golden);
      Tensor hidden = c.Hidden();
      const size_t row_bytes = c.rows.size() / (c.sequences * c.tokens);
      const size_t hidden_bytes = hidden.bytes().size() / (c.sequences * c.tokens);
      for (size_t sequence = 0; sequence < c.sequences; ++sequence) {
        if (c.paper_fusion.has_value()) c.state = c.paper_fusion->NewState(1);
        for (size_t begin = 0; begin < c.tokens; begin += chunk) {
          const size_t count = std::min(chunk, c.tokens - begin);
          const size_t at = sequence * c.tokens + begin;
          const FusionTokens some{1, count,
                                  std::span(c.rows).subspan(at * row_bytes, count * row_bytes),
                                  std::span(c.dead).subspan(at, count)};
          const std::span<uint8_t> part =
              std::span(hidden.bytes()).subspan(at * hidden_bytes, count * hidden_bytes);
          ASSERT_THAT(c.Apply(some, {c.hidden_type, part}), IsOk());
        }
      }
      ASSERT_EQ(hidden.bytes(), expected.bytes()) << "chunks of " << chunk;
    }
  }
}

TEST(FusionTest, ZeroRowsPassThroughV41) {
  Case c(GoldenOf("v41"));
  std::fill(c.rows.begin(), c.rows.end(), uint8_t{0});
  Tensor hidden = c.Hidden();
  ASSERT_THAT(c.Apply({c.sequences, c.tokens, c.rows}, hidden.hidden()), IsOk());
  EXPECT_EQ(hidden.bytes(), c.Hidden().bytes());
}

TEST(FusionTest, NonFiniteRowsAreRefusedAndNothingChanges) {
  for (const json& golden : Golden()) {
    SCOPED_TRACE(golden["name"].get<std::string>());
    Case c(golden);
    const RowLayout& row = c.shape.row;
    c.dead.assign(c.sequences * c.tokens, 0);
    const size_t at = ((c.tokens + 5) * c.shape.columns + 2) * row.row_bytes();  // of sequence 1
    const auto poison = [&](uint32_t f32) {
      const size_t bytes = row.value_bytes() / row.values;
      if (row.value_type == ValueType::kFp8E4M3) {
        c.rows[at + 7] = 0x7f;
      } else {
        std::memcpy(&c.rows[at + 7 * bytes], reinterpret_cast<const char*>(&f32) + 4 - bytes,
                    bytes);
      }
    };
    Tensor hidden = c.Hidden();
    poison(0x7fc00000);
    EXPECT_THAT(c.Apply(c.All(), hidden.hidden()),
                StatusIs(kInvalid, "`rows`: NaN at sequence 1, token 5, column 2, value 7"));
    EXPECT_EQ(hidden.bytes(), c.Hidden().bytes());
    if (row.value_type != ValueType::kFp8E4M3) {
      poison(0xff800000);
      EXPECT_THAT(c.Apply(c.All(), hidden.hidden()), StatusIs(kInvalid, "`rows`: infinity at"));
    }
    // The convolution's state has not moved either.
    c.dead[c.tokens + 5] = 1;
    ASSERT_THAT(c.Apply(c.All(), hidden.hidden()), IsOk());
    Case clean(golden);
    clean.dead = c.dead;
    Tensor expected = clean.Hidden();
    ASSERT_THAT(clean.Apply(clean.All(), expected.hidden()), IsOk());
    EXPECT_EQ(hidden.bytes(), expected.bytes());
  }
}

TEST(FusionTest, CallsThatDoNotFitAreRefused) {
  for (const char* fusion : {"v41", "paper"}) {
    Case c(GoldenOf(fusion));
    Tensor hidden = c.Hidden();
    const HiddenStates h = hidden.hidden();
    FusionTokens tokens = c.All();
    tokens.rows = tokens.rows.subspan(1);
    EXPECT_THAT(c.Apply(tokens, h), StatusIs(kInvalid, "`rows` has "));
    tokens = c.All();
    tokens.dead = tokens.dead.subspan(1);
    EXPECT_THAT(c.Apply(tokens, h),
                StatusIs(kInvalid, "`dead` has 37, expected 38: [2, 19] flags"));
    EXPECT_THAT(c.Apply(c.All(), {h.type, h.bytes.subspan(4)}), StatusIs(kInvalid, "`hidden` has"));
    EXPECT_THAT(c.Apply(c.All(), {ValueType::kF16, h.bytes}),
                StatusIs(kInvalid, "`hidden` is of f16"));
    std::vector<float> gates(3);
    EXPECT_THAT(c.Apply(c.All(), h, gates), StatusIs(kInvalid, "`gates` has 3"));
    tokens = c.All();
    tokens.tokens = std::numeric_limits<size_t>::max() / 2;
    EXPECT_THAT(c.Apply(tokens, h), StatusIs(kInvalid, "too many"));
    std::vector<uint8_t> odd(h.bytes.size() + 1);
    EXPECT_THAT(c.Apply(c.All(), {h.type, std::span(odd).subspan(1)}),
                StatusIs(kInvalid, "`hidden` is not aligned"));
  }
}

TEST(FusionTest, ConvStatesOfAnotherBatchAreRefused) {
  Case c(GoldenOf("paper"));
  Tensor hidden = c.Hidden();
  c.state = c.paper_fusion->NewState(3);
  EXPECT_THAT(c.Apply(c.All(), hidden.hidden()),
              StatusIs(kInvalid, "state is of 3 sequences, the call of 2"));
  PaperShape other = c.shape;
  other.dilation = 2;
  ASSERT_OK_AND_ASSIGN(const PaperFusion fusion, PaperFusion::Create(other, c.paper));
  c.state = fusion.NewState(2);
  EXPECT_THAT(c.Apply(c.All(), hidden.hidden()),
              StatusIs(kInvalid, "state is of 6 positions of 160 channels, the fusion's of 9"));
  EXPECT_EQ(hidden.bytes(), c.Hidden().bytes());
}

TEST(FusionTest, ShapesAndWeightsThatDoNotFitAreRefused) {
  Case c(GoldenOf("v41"));
  const auto v41 = [&](auto change) {
    PaperShape shape = c.shape;
    V41Weights weights = c.v41;
    change(shape, weights);
    return V41Fusion::Create(shape, weights).status();
  };
  EXPECT_THAT(v41([](auto& s, auto&) { s.row.value_type = static_cast<ValueType>(9); }),
              StatusIs(kInvalid, "row"));
  EXPECT_THAT(v41([](auto& s, auto&) { s.row.value_type = ValueType::kBf16; }),
              StatusIs(kInvalid, "does not know rows of bf16 with scales"));
  EXPECT_THAT(v41([](auto& s, auto&) { s.columns = 0; }), StatusIs(kInvalid, "`columns` is 0"));
  EXPECT_THAT(v41([](auto& s, auto&) { s.norm_eps = -1; }), StatusIs(kInvalid, "`norm_eps` is -1"));
  EXPECT_THAT(v41([](auto& s, auto&) { s.columns = 4; }),
              StatusIs(kInvalid, "`wkv` has 38400 bytes, expected [200, 128] values of bf16"));
  EXPECT_THAT(v41([](auto&, auto& w) { w.q.bytes = w.q.bytes.subspan(2); }),
              StatusIs(kInvalid, "`q` has"));
  EXPECT_THAT(v41([](auto&, auto& w) { w.wkv.type = ValueType::kFp8E4M3; }),
              StatusIs(kInvalid, "`wkv` is of fp8_e4m3"));
  const auto paper = [&](auto change) {
    PaperShape shape = c.shape;
    PaperWeights weights = c.paper;
    change(shape, weights);
    return PaperFusion::Create(shape, weights).status();
  };
  EXPECT_THAT(paper([](auto&, auto& w) { w.branches.pop_back(); }),
              StatusIs(kInvalid, "weights of 3 branches, expected 4"));
  EXPECT_THAT(paper([](auto&, auto& w) { w.branches[1].key = w.value_bias; }),
              StatusIs(kInvalid, "`branches[1].key` has 80 bytes"));
  EXPECT_THAT(paper([](auto& s, auto&) { s.kernel = 5; }), StatusIs(kInvalid, "`conv` has"));
  EXPECT_THAT(paper([](auto& s, auto&) { s.dilation = 0; }), StatusIs(kInvalid, "dilation 0"));
}

// Against the C library, over all of f32 that matters.
TEST(KernelsTest, ExpIsWithinTwoUlp) {
  std::vector<float> values;
  for (float x = -86.9f; x < 88; x += 0.00317f) values.push_back(x);
  for (Isa isa : SupportedIsas()) {
    std::vector<float> made = values;
    KernelsOf(isa).exp(made.data(), made.size());
    for (size_t i = 0; i < values.size(); ++i) {
      const double expected = std::exp(static_cast<double>(values[i]));
      ASSERT_NEAR(made[i], expected, expected * 2 / (1 << 23)) << values[i];
    }
    std::vector<float> odd = {-100, -std::numeric_limits<float>::infinity(), 0,
                              std::numeric_limits<float>::quiet_NaN()};
    KernelsOf(isa).exp(odd.data(), odd.size());
    EXPECT_EQ(odd[0], 0);
    EXPECT_EQ(odd[1], 0);
    EXPECT_EQ(odd[2], 1);
    EXPECT_TRUE(std::isnan(odd[3]));
  }
}

}  // namespace
}  // namespace engram
