// What a decoder is used for: going on with a text, and saying how well it knows one.
#ifndef ENGRAM_DEPLOY_MODEL_TEXT_MODEL_H_
#define ENGRAM_DEPLOY_MODEL_TEXT_MODEL_H_

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "deploy/model/decoder.h"
#include "deploy/model/memory.h"

namespace engram::model {

// Positions that the model was trained on at once, and that a text is read in.
inline constexpr size_t kWindow = 256;

struct GenerateOptions {
  size_t bytes = 200;
  double temperature = 0.7;  // 0: the likeliest byte, always
  uint64_t seed = 1;
};

// Calls `each` with every byte as it is made. A byte's rows are asked for as soon as it is known,
// and waited for when the layer needs them. `memory` is null for a model without tables. Returns
// the logits of the byte after the last, [vocab].
absl::StatusOr<std::vector<float>> Generate(const Decoder& decoder, Memory* memory,
                                            absl::string_view prompt,
                                            const GenerateOptions& options,
                                            const std::function<void(char)>& each);

// The text is read in windows of kWindow bytes, each from its beginning; the last, where it is not
// whole, is left out. InvalidArgument: not one window.
struct Reading {
  double nats = 0;  // a byte, on average
  size_t bytes = 0;
  // Of a layer with a table, for each byte: how far the gate was open where its likelihood was
  // computed, that is at the byte before.
  std::map<uint32_t, std::vector<float>> gates;
};
// A window that was read.
struct WindowRead {
  size_t begin = 0;  // its first byte's place in the text
  std::span<const uint32_t>
      tokens;                     // what the model was given: kBeginToken, all bytes but the last
  RowsAhead* rows = nullptr;      // theirs; null for a model without tables
  std::span<const float> logits;  // [kWindow, vocab]
  double nats = 0;                // a byte
};
// Called with each window once it is read; what it fails with ends the reading. May be null.
using EachWindow = std::function<absl::Status(const WindowRead&)>;
absl::StatusOr<Reading> Read(const Decoder& decoder, Memory* memory, absl::string_view text,
                             const EachWindow& each = nullptr);

}  // namespace engram::model

#endif  // ENGRAM_DEPLOY_MODEL_TEXT_MODEL_H_
