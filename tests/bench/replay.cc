#include "tests/bench/replay.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/spin.h"
#include "proto/base/status_macros.h"

namespace engram::bench {
namespace {

// An engine that waits for its tokens polls, so that its core is awake when they come.
constexpr Clock::duration kPolls = std::chrono::microseconds(100);

void SleepUntil(Clock::time_point time) {
  const int64_t ns = std::chrono::nanoseconds(time.time_since_epoch()).count();
  const timespec at{ns / 1'000'000'000, ns % 1'000'000'000};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, nullptr) == EINTR) {
  }
}

}  // namespace

absl::StatusOr<Passages> Passages::Create(const TokenTrace& text, size_t steps) {
  Passages passages;
  passages.text_ = &text;
  passages.steps_ = steps;
  uint64_t places = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i].size() < kLeastPrompt + steps) continue;
    places += text[i].size() - kLeastPrompt - steps + 1;
    passages.places_.push_back(places);
    passages.sequences_.push_back(i);
  }
  if (places > 0) return passages;
  return absl::InvalidArgumentError(
      absl::StrCat("no sequence of the text has ", kLeastPrompt + steps, " tokens"));
}

Passage Passages::Draw() {
  const uint64_t place = random_() % places_.back();
  const size_t at = static_cast<size_t>(std::upper_bound(places_.begin(), places_.end(), place) -
                                        places_.begin());
  const std::vector<uint32_t>& text = (*text_)[sequences_[at]];
  return {text, text.size() - steps_ - (places_[at] - 1 - place)};
}

absl::StatusOr<std::unique_ptr<Replay>> Replay::Create(const Client& client, const Table& local,
                                                       std::shared_ptr<Guesses> guesses,
                                                       size_t sequences) {
  ASSIGN_OR_RETURN(const uint32_t pad,
                   local.token_map->Compress(local.geometry.params().pad_token));
  ASSIGN_OR_RETURN(RowHasher hasher, RowHasher::Create(local.geometry, pad));
  ASSIGN_OR_RETURN(auto slot,
                   Slot::Create(client, {.max_tokens = static_cast<uint32_t>(sequences)}));
  return std::unique_ptr<Replay>(
      new Replay(local, std::move(guesses), std::move(hasher), std::move(slot)));
}

Replay::Replay(const Table& local, std::shared_ptr<Guesses> guesses, RowHasher hasher,
               std::unique_ptr<Slot> slot)
    : local_(local),
      guesses_(std::move(guesses)),
      hasher_(std::move(hasher)),
      slot_(std::move(slot)) {}

absl::Status Replay::Begin(std::span<const Passage> passages) {
  sequences_ = std::vector<Sequence>(passages.size());
  for (size_t i = 0; i < passages.size(); ++i) {
    const std::span<const uint32_t> prompt = passages[i].text.first(passages[i].begin);
    for (const uint32_t token : prompt) {
      ASSIGN_OR_RETURN(const uint32_t id, local_.token_map->Compress(token));
      hasher_.Advance({&id, 1}, {}, sequences_[i].checked);
    }
    sequences_[i].state = sequences_[i].checked;
    if (guesses_ == nullptr) continue;
    sequences_[i].guessed = std::make_unique<GuessedSequence>(guesses_);
    sequences_[i].guessed->Observe(prompt);
    sequences_[i].guessed->state() = sequences_[i].checked;
  }
  return absl::OkStatus();
}

absl::StatusOr<ReplayedStep> Replay::Step(std::span<const Passage> passages, size_t step) {
  std::atomic<Clock::rep> arrived{0};
  LookupOptions options;
  options.on_done = [&](const absl::Status&) {
    arrived.store(Clock::now().time_since_epoch().count(), std::memory_order_release);
  };
  const Clock::time_point known = Clock::now();
  chunks_.clear();
  for (size_t i = 0; i < passages.size(); ++i) {
    const std::span<const uint32_t> token = passages[i].text.subspan(passages[i].begin + step, 1);
    Sequence& sequence = sequences_[i];
    chunks_.push_back(guesses_ != nullptr ? sequence.guessed->Next(token[0])
                                          : StepChunk{.tokens = token, .state = &sequence.state});
  }
  RETURN_IF_ERROR(slot_->SubmitTokens(chunks_, options));
  const bool at_once = AllDone();
  const Clock::time_point submitted = Clock::now();
  if (guesses_ != nullptr) RETURN_IF_ERROR(guesses_->Ahead());
  const Clock::duration asking = Clock::now() - known;
  RETURN_IF_ERROR(slot_->WaitAll());
  // Whoever calls back may want this core.
  SpinUntil(absl::InfiniteDuration(), [&] { return arrived.load(std::memory_order_acquire) != 0; });
  const Clock::time_point arrival{Clock::duration(arrived.load(std::memory_order_relaxed))};
  return ReplayedStep{(at_once ? submitted : arrival) - known, asking};
}

bool Replay::AllDone() const {
  const std::vector<LayerGeometry>& layers = local_.geometry.layers();
  return std::all_of(layers.begin(), layers.end(),
                     [this](const LayerGeometry& layer) { return slot_->Done(layer.layer_id); });
}

absl::Status Replay::Check(std::span<const Passage> passages, size_t step) {
  const size_t columns = hasher_.columns(), row_bytes = local_.rows->layout().row_bytes();
  ids_.resize(columns);
  right_.resize(columns * row_bytes);
  for (size_t i = 0; i < passages.size(); ++i) {
    const uint32_t token = passages[i].text[passages[i].begin + step];
    ASSIGN_OR_RETURN(const uint32_t id, local_.token_map->Compress(token));
    for (size_t layer = 0; layer < local_.geometry.layers().size(); ++layer) {
      const uint32_t layer_id = local_.geometry.layers()[layer].layer_id;
      hasher_.HashChunk(layer, {&id, 1}, {}, sequences_[i].checked, ids_);
      const std::span<const uint64_t> rows(reinterpret_cast<const uint64_t*>(ids_.data()), columns);
      RETURN_IF_ERROR(local_.rows->Gather(layer_id, rows, right_.data(), nullptr));
      if (std::memcmp(slot_->rows(layer_id).data() + i * right_.size(), right_.data(),
                      right_.size()) != 0) {
        return absl::InternalError(
            absl::StrCat("layer ", layer_id, ", sequence ", i, " of a step: a wrong row"));
      }
    }
    hasher_.Advance({&id, 1}, {}, sequences_[i].checked);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<ReplayedStep>> Replay::Run(std::span<const Passage> passages,
                                                      size_t steps, Clock::duration step) {
  RETURN_IF_ERROR(Begin(passages));
  std::vector<ReplayedStep> taken;
  Clock::time_point due = Clock::now();
  for (size_t i = 0; i < steps; ++i, due += step) {
    SleepUntil(due - kPolls);
    while (Clock::now() < due) {
    }
    ASSIGN_OR_RETURN(const ReplayedStep one, Step(passages, i));
    RETURN_IF_ERROR(Check(passages, i));
    if (i > 0) taken.push_back(one);
  }
  return taken;
}

}  // namespace engram::bench
