#include "client/guesses.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/client_core.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

absl::StatusOr<std::optional<Successors>> Load(const ClientCore& core, const std::string& path) {
  if (path.empty()) return std::nullopt;
  ASSIGN_OR_RETURN(Successors successors, ReadSuccessors(path));
  if (successors.token_map() != core.token_map()->sha256()) {
    return absl::FailedPreconditionError(
        absl::StrCat("successors ", path, " are of token map ", ToHex(successors.token_map()),
                     ", the servers have ", ToHex(core.token_map()->sha256())));
  }
  const uint32_t vocabulary = core.table().geometry.params().compressed_vocab;
  if (successors.size() > 0 && successors.max_id() >= vocabulary) {
    return absl::InvalidArgumentError(absl::StrCat("successors ", path, ": compressed id ",
                                                   successors.max_id(),
                                                   " is beyond the vocabulary of ", vocabulary));
  }
  return successors;
}

}  // namespace

absl::Status GuessOptions::Validate() const {
  const auto complain = [](absl::string_view option, const auto&... what) {
    return absl::InvalidArgumentError(absl::StrCat("guess option `", option, "` ", what...));
  };
  if (candidates == 0 || candidates > Guesser::kMost) {
    return complain("candidates", "is not in [1, ", Guesser::kMost, "]");
  }
  if (!(least_probability >= 0 && least_probability < 1)) {
    return complain("least_probability", "is not in [0, 1)");
  }
  if (!(least_hits_per_mb >= 0)) return complain("least_hits_per_mb", "is negative");
  if (bytes_per_step == 0) return complain("bytes_per_step", "is 0");
  if (bytes_per_second == 0) return complain("bytes_per_second", "is 0");
  if (text_tokens < 2) return complain("text_tokens", "is less than 2");
  if (timeout <= absl::ZeroDuration()) return complain("timeout", "is not positive");
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<Guesses>> Guesses::Create(const Client& client,
                                                         GuessOptions options) {
  const ClientCore& core = *client.core_;
  RETURN_IF_ERROR(options.Validate());
  RETURN_IF_ERROR(core.CheckProcess());
  RETURN_IF_ERROR(core.CheckTokenMap());
  ASSIGN_OR_RETURN(options.layers, core.LayersOf(std::move(options.layers)));
  ASSIGN_OR_RETURN(options.columns, core.ColumnsOf(options.columns));
  ASSIGN_OR_RETURN(std::optional<Successors> successors, Load(core, options.successors));
  return std::shared_ptr<Guesses>(
      new Guesses(client.core_, std::move(options), std::move(successors)));
}

Guesses::Guesses(std::shared_ptr<ClientCore> core, GuessOptions options,
                 std::optional<Successors> successors)
    : core_(std::move(core)),
      options_(std::move(options)),
      token_bytes_(uint64_t{options_.layers.size()} * options_.columns.count() *
                   core_->table().layout.row_bytes()),
      successors_(std::move(successors)),
      guesser_(successors_.has_value() ? &*successors_ : nullptr),
      controller_(
          {options_.bytes_per_step, options_.bytes_per_second, options_.least_hits_per_mb}) {}

absl::Status Guesses::Ahead(absl::Time now) {
  Settle(now);
  if (controller_.Wanted()) {
    for (GuessedSequence* sequence : stepping_) {
      guesser_.Propose(sequence->text_, sequence->proposed_);
      sequence->proposed_at_ = sequence->state_;
    }
    // While guessing has stopped, what it would fetch.
    Choose(controller_.on() ? controller_.Allowance(now) : options_.bytes_per_step);
  }
  const absl::Status status = controller_.on() ? Fetch() : core_->CheckProcess();
  for (GuessedSequence* sequence : stepping_) sequence->stepping_ = false;
  stepping_.clear();
  return status;
}

// What has become of the guesses for the tokens that have come.
void Guesses::Settle(absl::Time now) {
  GuessCounters& counters = core_->guess_counters();
  uint64_t bytes = 0, spared = 0, fetched = 0;
  for (GuessedSequence* sequence : stepping_) {
    bytes += sequence->counted_ * token_bytes_;
    const bool was_fetched = sequence->fetched_ != nullptr;
    if (was_fetched ? sequence->there_ : sequence->known_) ++spared;
    if (was_fetched) {
      ++fetched;
      GuessCounters::Add(counters.hits, sequence->taken_ ? 1 : 0);
      GuessCounters::Add(counters.late, sequence->taken_ && !sequence->there_ ? 1 : 0);
    }
    if (sequence->id_ != SequenceText::kNoToken) {
      guesser_.Learn(sequence->proposed_, sequence->id_);
    }
    sequence->text_.Append(sequence->id_);
    sequence->held_ = sequence->taken_ ? std::move(sequence->fetched_) : nullptr;
    sequence->DropGuesses();
  }
  GuessCounters::Add(counters.tokens, fetched);
  const bool whole = spared == stepping_.size();
  if (whole && fetched > 0) GuessCounters::Add(counters.steps_spared, 1);
  if (!controller_.Learn(bytes, whole ? spared : 0, now)) return;
  GuessCounters::Add(controller_.on() ? counters.starts : counters.stops, 1);
}

// The likeliest guesses of all sequences that the bytes allow. Of each sequence they are the first
// of those proposed.
void Guesses::Choose(uint64_t allowance) {
  for (GuessedSequence* sequence : stepping_) {
    const size_t most = std::min<size_t>(options_.candidates, sequence->proposed_.size());
    for (size_t i = 0; i < most; ++i) {
      if (sequence->proposed_[i].probability < options_.least_probability) break;
      chosen_.push_back({sequence, i});
    }
  }
  const size_t most = allowance / token_bytes_;
  if (chosen_.size() > most) {
    std::stable_sort(chosen_.begin(), chosen_.end(), [](const Choice& a, const Choice& b) {
      return a.sequence->proposed_[a.guess].probability >
             b.sequence->proposed_[b.guess].probability;
    });
    chosen_.resize(most);
  }
  for (const Choice& choice : chosen_) ++choice.sequence->counted_;
  chosen_.clear();
}

absl::Status Guesses::Fetch() {
  branches_.clear();
  for (GuessedSequence* sequence : stepping_) {
    sequence->first_ = branches_.size();
    for (size_t i = 0; i < sequence->counted_; ++i) {
      branches_.push_back({{&sequence->proposed_[i].id, 1}, {}, sequence->state_});
    }
  }
  if (branches_.empty()) return core_->CheckProcess();
  absl::StatusOr<Prefetch> fetched = Prefetch::StartBranches(
      core_, branches_,
      {.layers = options_.layers, .columns = options_.columns, .timeout = options_.timeout});
  if (!fetched.ok()) {
    for (GuessedSequence* sequence : stepping_) sequence->counted_ = 0;
    // Others use the memory: guesses are the last to need it.
    return absl::IsResourceExhausted(fetched.status()) ? absl::OkStatus() : fetched.status();
  }
  const auto shared = std::make_shared<const Prefetch>(*std::move(fetched));
  for (GuessedSequence* sequence : stepping_) {
    if (sequence->counted_ > 0) sequence->fetched_ = shared;
  }
  const uint64_t bytes = branches_.size() * token_bytes_;
  controller_.Spend(bytes);
  GuessCounters::Add(core_->guess_counters().steps, 1);
  GuessCounters::Add(core_->guess_counters().bytes, bytes);
  return absl::OkStatus();
}

}  // namespace engram
