#include "deploy/demo/timed_memory.h"

#include <chrono>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"

namespace engram::demo {

using Clock = std::chrono::steady_clock;

double RowFigures::TotalStallMs() const {
  double total = 0;
  for (const auto& [layer, stalls] : stall_ms) {
    for (double stall : stalls) total += stall;
  }
  return total;
}

// The rows of one step, and what they should be.
class TimedMemory::Step final : public model::RowsAhead {
 public:
  Step(TimedMemory& memory, std::span<const uint32_t> tokens, const LookBack& before)
      : memory_(memory), tokens_(tokens), before_(before) {
    const size_t bytes = tokens.size() * memory.geometry().columns() * memory.layout().row_bytes();
    for (uint32_t layer : memory.geometry().params().layer_ids) received_[layer].resize(bytes);
  }

  ~Step() override {
    if (waited_.size() == received_.size()) Compare();
  }

  // Asks for the rows of these layers; `tickets_` has them until they are there.
  absl::Status Ask(const std::vector<uint32_t>& layers) {
    std::vector<LayerBuffer> buffers;
    for (uint32_t layer : layers) buffers.push_back({layer, received_.at(layer)});
    LookBack state = before_;  // every submit is of the same tokens
    ASSIGN_OR_RETURN(Ticket ticket, memory_.client_->SubmitTokens(tokens_, {}, state, buffers, {}));
    tickets_.push_back(std::move(ticket));
    return absl::OkStatus();
  }

  absl::Status Expect(LookBack& state) {
    ASSIGN_OR_RETURN(expected_, memory_.local_->Fetch(tokens_, state));
    return absl::OkStatus();
  }

  absl::StatusOr<std::span<const uint8_t>> Wait(uint32_t layer) override {
    const Clock::time_point reached = Clock::now();
    if (!received_.contains(layer)) {
      return absl::NotFoundError(absl::StrCat("no table at layer ", layer));
    }
    if (memory_.fetch_ == demo::Fetch::kNeeded) RETURN_IF_ERROR(Ask({layer}));
    RETURN_IF_ERROR(tickets_.back().Wait(layer));
    waited_[layer] = std::chrono::duration<double, std::milli>(Clock::now() - reached).count();
    return std::span<const uint8_t>(received_[layer]);
  }

 private:
  void Compare() {
    RowFigures& figures = memory_.figures_;
    const size_t row_bytes = memory_.layout().row_bytes();
    for (const auto& [layer, bytes] : received_) {
      const absl::StatusOr<std::span<const uint8_t>> expected = expected_->Wait(layer);
      for (size_t at = 0; at < bytes.size(); at += row_bytes) {
        const bool right =
            expected.ok() && std::memcmp(bytes.data() + at, expected->data() + at, row_bytes) == 0;
        figures.wrong_rows += right ? 0 : 1;
      }
      figures.rows += bytes.size() / row_bytes;
      figures.stall_ms[layer].push_back(waited_.at(layer));
    }
    ++figures.steps;
  }

  TimedMemory& memory_;
  const std::span<const uint32_t> tokens_;
  const LookBack before_;
  std::map<uint32_t, std::vector<uint8_t>> received_;
  std::unique_ptr<model::RowsAhead> expected_;
  std::map<uint32_t, double> waited_;  // ms
  std::vector<Ticket> tickets_;        // go first: their lookups write into the rows
};

absl::StatusOr<std::unique_ptr<TimedMemory>> TimedMemory::Connect(const ClientOptions& options,
                                                                  const std::string& checkpoint) {
  ASSIGN_OR_RETURN(std::unique_ptr<model::Memory> local, model::OpenMemory(checkpoint));
  ASSIGN_OR_RETURN(std::unique_ptr<Client> client, Client::Connect(options));
  if (client->token_map() == nullptr) {
    return absl::FailedPreconditionError("the servers have no token map, so no text can be run");
  }
  if (client->geometry().params().layer_ids != local->geometry().params().layer_ids ||
      client->layout().row_bytes() != local->layout().row_bytes()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the servers do not serve the tables of ", checkpoint));
  }
  return std::unique_ptr<TimedMemory>(new TimedMemory(std::move(client), std::move(local)));
}

void TimedMemory::Begin(demo::Fetch fetch) {
  fetch_ = fetch;
  figures_ = {};
}

absl::StatusOr<std::unique_ptr<model::RowsAhead>> TimedMemory::Fetch(
    std::span<const uint32_t> tokens, LookBack& state) {
  auto step = std::make_unique<Step>(*this, tokens, state);
  if (fetch_ == demo::Fetch::kAhead) {
    RETURN_IF_ERROR(step->Ask(client_->geometry().params().layer_ids));
  }
  RETURN_IF_ERROR(step->Expect(state));
  return step;
}

}  // namespace engram::demo
