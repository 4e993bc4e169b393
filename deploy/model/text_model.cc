#include "deploy/model/text_model.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"

namespace engram::model {
namespace {

uint32_t TokenOf(char byte) { return static_cast<uint8_t>(byte); }

absl::StatusOr<std::unique_ptr<RowsAhead>> FetchFrom(Memory* memory,
                                                     std::span<const uint32_t> tokens,
                                                     LookBack& state) {
  if (memory == nullptr) return nullptr;
  return memory->Fetch(tokens, state);
}

// The logarithm of the sum of the exponentials.
double LogSumExp(std::span<const float> logits) {
  const double most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float logit : logits) sum += std::exp(logit - most);
  return most + std::log(sum);
}

// A byte: special tokens are not text.
char Sample(std::span<const float> logits, double temperature, std::mt19937_64& random) {
  const std::span<const float> bytes = logits.first(256);
  const auto likeliest = std::max_element(bytes.begin(), bytes.end());
  if (temperature == 0) return static_cast<char>(likeliest - bytes.begin());
  std::vector<double> weights;
  for (float logit : bytes) weights.push_back(std::exp((logit - *likeliest) / temperature));
  return static_cast<char>(std::discrete_distribution<int>(weights.begin(), weights.end())(random));
}

// A window's tokens, and their rows on the way.
struct Window {
  std::vector<uint32_t> tokens;
  std::unique_ptr<RowsAhead> rows;
};

absl::StatusOr<std::unique_ptr<Window>> FetchWindow(Memory* memory, absl::string_view text) {
  auto window = std::make_unique<Window>();
  window->tokens.push_back(kBeginToken);
  for (char byte : text.substr(0, text.size() - 1)) window->tokens.push_back(TokenOf(byte));
  LookBack start;
  ASSIGN_OR_RETURN(window->rows, FetchFrom(memory, window->tokens, start));
  return window;
}

}  // namespace

absl::StatusOr<std::vector<float>> Generate(const Decoder& decoder, Memory* memory,
                                            absl::string_view prompt,
                                            const GenerateOptions& options,
                                            const std::function<void(char)>& each) {
  if (!(options.temperature >= 0) || !std::isfinite(options.temperature)) {
    return absl::InvalidArgumentError(
        absl::StrCat("a temperature of ", options.temperature, " is not a number of at least 0"));
  }
  std::mt19937_64 random(options.seed);
  SequenceState state = decoder.NewState();
  LookBack look_back;
  std::vector<uint32_t> tokens = {kBeginToken};
  for (char byte : prompt) tokens.push_back(TokenOf(byte));
  std::vector<float> logits;
  for (size_t made = 0;; ++made) {
    ASSIGN_OR_RETURN(const std::unique_ptr<RowsAhead> rows, FetchFrom(memory, tokens, look_back));
    logits.resize(tokens.size() * decoder.vocab());
    RETURN_IF_ERROR(decoder.Forward(tokens, rows.get(), state, {logits}));
    logits.erase(logits.begin(), logits.end() - static_cast<ptrdiff_t>(decoder.vocab()));
    if (made == options.bytes) return logits;
    const char byte = Sample(logits, options.temperature, random);
    each(byte);
    tokens = {TokenOf(byte)};
  }
}

absl::StatusOr<Reading> Read(const Decoder& decoder, Memory* memory, absl::string_view text,
                             const EachWindow& each) {
  const size_t windows = text.size() / kWindow;
  if (windows == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("a text of ", text.size(), " bytes is shorter than a window of ", kWindow));
  }
  Reading reading;
  reading.bytes = windows * kWindow;
  for (uint32_t layer : decoder.table_layers()) reading.gates[layer].resize(reading.bytes);
  std::vector<float> logits(kWindow * decoder.vocab());
  ASSIGN_OR_RETURN(std::unique_ptr<Window> next, FetchWindow(memory, text.substr(0, kWindow)));
  for (size_t begin = 0; begin < reading.bytes; begin += kWindow) {
    const std::unique_ptr<Window> window = std::move(next);
    if (begin + kWindow < reading.bytes) {  // its rows come while this one is computed
      ASSIGN_OR_RETURN(next, FetchWindow(memory, text.substr(begin + kWindow, kWindow)));
    }
    ForwardOutput output{logits};
    for (auto& [layer, gates] : reading.gates) {
      output.gates[layer] = std::span(gates).subspan(begin, kWindow);
    }
    SequenceState state = decoder.NewState();
    RETURN_IF_ERROR(decoder.Forward(window->tokens, window->rows.get(), state, output));
    double nats = 0;
    for (size_t i = 0; i < kWindow; ++i) {
      const auto of_byte = std::span(logits).subspan(i * decoder.vocab(), decoder.vocab());
      nats += LogSumExp(of_byte) - of_byte[TokenOf(text[begin + i])];
    }
    reading.nats += nats;
    if (each) {
      RETURN_IF_ERROR(each({.begin = begin,
                            .tokens = window->tokens,
                            .rows = window->rows.get(),
                            .logits = logits,
                            .nats = nats / kWindow}));
    }
  }
  reading.nats /= static_cast<double>(reading.bytes);
  return reading;
}

}  // namespace engram::model
