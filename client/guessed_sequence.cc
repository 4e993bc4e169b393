#include <algorithm>
#include <utility>

#include "client/client_core.h"
#include "client/guesses.h"

namespace engram {
namespace {

// Slots borrow flags until a step is done; sequences may be gone by then.
constexpr uint8_t kDead[] = {1};

}  // namespace

GuessedSequence::GuessedSequence(std::shared_ptr<Guesses> guesses)
    : guesses_(std::move(guesses)), text_(guesses_->options_.text_tokens) {}

GuessedSequence::~GuessedSequence() { std::erase(guesses_->stepping_, this); }

void GuessedSequence::Observe(std::span<const uint32_t> tokens, std::span<const uint8_t> dead) {
  const std::span<const uint32_t> map = guesses_->core_->token_map()->compressed();
  for (size_t i = 0; i < tokens.size(); ++i) {
    const bool known = tokens[i] < map.size() && (i >= dead.size() || dead[i] == 0);
    text_.Append(known ? map[tokens[i]] : SequenceText::kNoToken);
  }
  DropGuesses();
}

StepChunk GuessedSequence::Next(uint32_t token, bool dead) {
  if (!std::exchange(stepping_, true)) guesses_->stepping_.push_back(this);
  const std::span<const uint32_t> map = guesses_->core_->token_map()->compressed();
  token_ = token;
  id_ = dead || token >= map.size() ? SequenceText::kNoToken : map[token];
  known_ = taken_ = there_ = false;
  const auto counted = std::span(proposed_).first(counted_);
  const auto guess = std::find_if(counted.begin(), counted.end(),
                                  [this](const Guess& known) { return known.id == id_; });
  known_ = guess != counted.end() && proposed_at_ == state_;
  if (!known_ || fetched_ == nullptr) {
    return {.tokens = {&token_, 1},
            .dead = dead ? std::span<const uint8_t>(kDead) : std::span<const uint8_t>(),
            .state = &state_};
  }
  taken_ = true;
  there_ = fetched_->InPlace();
  StepChunk chunk =
      fetched_->Range(first_ + static_cast<size_t>(guess - counted.begin()), /*count=*/1);
  chunk.state = &state_;
  return chunk;
}

void GuessedSequence::DropGuesses() {
  proposed_.clear();
  counted_ = 0;
  fetched_.reset();
}

}  // namespace engram
