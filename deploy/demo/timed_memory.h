// Rows of memory servers for a model that runs: how long its layers wait for them, and whether they
// are the checkpoint's.
#ifndef ENGRAM_DEPLOY_DEMO_TIMED_MEMORY_H_
#define ENGRAM_DEPLOY_DEMO_TIMED_MEMORY_H_

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/client.h"
#include "deploy/model/memory.h"

namespace engram::demo {

enum class Fetch {
  kAhead,   // rows of all layers are asked for as soon as their tokens are known
  kNeeded,  // a layer's rows are asked for when the model has reached that layer
};

// Of the steps since TimedMemory::Begin. A step is one forward pass.
struct RowFigures {
  uint64_t rows = 0;        // received, of steps that are over
  uint64_t wrong_rows = 0;  // of them, not the checkpoint's
  uint64_t steps = 0;
  // By layer, one for each step: how long the model was held up at it. Where rows are fetched as
  // needed that includes hashing and the submit.
  std::map<uint32_t, std::vector<double>> stall_ms;

  double TotalStallMs() const;
};

// Every row of a step is compared, once the step is over, with what the checkpoint's files say:
// they are read and hashed without servers or client. For one thread.
class TimedMemory final : public model::Memory {
 public:
  // Codes as Client::Connect and OpenMemory; FailedPrecondition: the servers have no token map.
  static absl::StatusOr<std::unique_ptr<TimedMemory>> Connect(const ClientOptions& options,
                                                              const std::string& checkpoint);

  // Starts the figures anew; not while a step is under way.
  void Begin(demo::Fetch fetch);
  const RowFigures& figures() const { return figures_; }
  Client& client() { return *client_; }

  const Geometry& geometry() const override { return client_->geometry(); }
  const RowLayout& layout() const override { return client_->layout(); }
  absl::StatusOr<std::unique_ptr<model::RowsAhead>> Fetch(std::span<const uint32_t> tokens,
                                                          LookBack& state) override;

 private:
  class Step;
  TimedMemory(std::unique_ptr<Client> client, std::unique_ptr<model::Memory> local)
      : client_(std::move(client)), local_(std::move(local)) {}

  const std::unique_ptr<Client> client_;
  const std::unique_ptr<model::Memory> local_;  // the checkpoint's own rows
  demo::Fetch fetch_ = demo::Fetch::kAhead;
  RowFigures figures_;
};

}  // namespace engram::demo

#endif  // ENGRAM_DEPLOY_DEMO_TIMED_MEMORY_H_
