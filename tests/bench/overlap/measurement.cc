#include "tests/bench/overlap/measurement.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/base/status_macros.h"
#include "tests/bench/overlap/local_rows.h"
#include "tests/bench/overlap/remote_rows.h"

namespace engram::bench {
namespace {

constexpr size_t kMaxSteps = 256;  // hashed; of prefill the text has fewer
// A lookup that takes longer has failed as far as a model is concerned.
constexpr absl::Duration kLookupTimeout = absl::Seconds(2);

const TokenMap* MapOf(const Table& table) {
  return table.token_map.has_value() ? &*table.token_map : nullptr;
}

std::vector<uint32_t> TableLayers(const Geometry& geometry) { return geometry.params().layer_ids; }

absl::StatusOr<std::unique_ptr<Client>> Connect(const Bench& bench) {
  ClientOptions options;
  options.servers = bench.fleet != nullptr ? bench.fleet->addresses() : bench.servers;
  options.spin = bench.spin;
  options.io_threads = bench.io_threads;
  options.expect_digest = bench.local.digest;
  return Client::Connect(options);
}

size_t ServersOf(const Shape& shape) { return shape.replicas == Replicas::kOne ? 1 : 2; }

LookupPriority PriorityOf(const Shape& shape) {
  return shape.prefill ? LookupPriority::kPrefill : LookupPriority::kDecode;
}

class ShapeBench {
 public:
  ShapeBench(const Bench& bench, const Shape& shape, StepPool ids)
      : bench_(bench),
        layout_(bench.local.rows->layout()),
        ids_(std::move(ids)),
        buffers_(bench.local.geometry.layers().size(), ids_[0][0].size() * layout_.row_bytes()),
        local_(*bench.local.rows, bench.local.geometry, buffers_,
               absl::ToChronoNanoseconds(bench.spin)) {
    result_.shape = shape;
    result_.table_layers = TableLayers(bench.local.geometry);
    result_.rows_per_step = ids_[0][0].size() * result_.table_layers.size();
    result_.bytes_per_step = result_.rows_per_step * layout_.row_bytes();
  }

  absl::StatusOr<Measurement> Run() {
    RETURN_IF_ERROR(MakeClient());
    RETURN_IF_ERROR(Verify(*remote_));
    RETURN_IF_ERROR(Verify(local_));
    std::optional<Slowdown> slow;
    if (result_.shape.replicas == Replicas::kSlow) slow.emplace(bench_.fleet->pids()[1]);
    const Disturbance watch(Own());
    std::vector<Variant> turns = {Variant::kNone, Variant::kLocal, Variant::kAhead};
    if (result_.shape.replicas == Replicas::kOne) turns.push_back(Variant::kNeeded);
    for (uint32_t round = 0; round < result_.shape.rounds; ++round) {
      for (const Variant variant : turns) RETURN_IF_ERROR(RunVariant(variant));
      first_step_ += result_.shape.steps;
      std::rotate(turns.begin(), turns.begin() + 1, turns.end());
    }
    result_.disturbance = watch.Measure();
    return std::move(result_);
  }

 private:
  absl::Status MakeClient() {
    remote_.reset();
    if (bench_.fleet != nullptr) {
      RETURN_IF_ERROR(bench_.fleet->Ensure(ServersOf(result_.shape)));
    }
    ASSIGN_OR_RETURN(client_, Connect(bench_));
    remote_ =
        std::make_unique<RemoteRows>(*client_, buffers_, PriorityOf(result_.shape), kLookupTimeout);
    return absl::OkStatus();
  }

  absl::Status RunVariant(Variant variant) {
    const bool kills = variant == Variant::kAhead && result_.shape.replicas == Replicas::kKilled;
    if (kills) RETURN_IF_ERROR(MakeClient());
    absl::Status failure;
    StepRun run{result_.shape, variant, ids_, result_.table_layers, nullptr, first_step_};
    if (variant == Variant::kLocal) run.rows = &local_;
    if (variant == Variant::kNeeded || variant == Variant::kAhead) run.rows = remote_.get();
    run.failure = &failure;
    if (kills) {
      run.before_step = [&](size_t step) {
        if (step == result_.shape.steps / 2) bench_.fleet->Signal(1, SIGKILL);
      };
    }
    std::vector<StepRecord> records = RunSteps(run);
    if (kills) bench_.fleet->Reap(1);
    for (const StepRecord& step : records) {
      for (const TableRecord& table : step.tables) result_.failed += table.failed ? 1 : 0;
    }
    if (result_.first_failure.empty() && !failure.ok()) {
      result_.first_failure = failure.ToString();
    }
    result_.runs[variant].push_back(std::move(records));
    return absl::OkStatus();
  }

  // Servers whose time is no disturbance: those that live as long as the measurement.
  std::vector<pid_t> Own() const {
    std::vector<pid_t> own;
    if (bench_.fleet != nullptr) own = bench_.fleet->pids();
    if (result_.shape.replicas == Replicas::kKilled) own.pop_back();
    return own;
  }

  // One step, every row of it.
  absl::Status Verify(RowProvider& rows) {
    std::vector<size_t> tables(result_.table_layers.size());
    std::iota(tables.begin(), tables.end(), size_t{0});
    rows.Ask(0, ids_[0], tables);
    // All first: what is asked for must have been waited for before this returns.
    absl::Status status;
    for (const size_t table : tables) status.Update(rows.Wait(0, table).status);
    RETURN_IF_ERROR(status);
    std::vector<uint8_t> right(layout_.row_bytes());
    for (const size_t table : tables) {
      const uint8_t* got = buffers_.Rows(0, table).data();
      for (const int64_t row : ids_[0][table]) {
        RETURN_IF_ERROR(bench_.checked.Read(table, static_cast<uint64_t>(row), 1, right.data()));
        result_.wrong_rows += std::memcmp(got, right.data(), right.size()) == 0 ? 0 : 1;
        ++result_.checked_rows;
        got += right.size();
      }
    }
    return absl::OkStatus();
  }

  const Bench& bench_;
  const RowLayout layout_;
  const StepPool ids_;
  StepBuffers buffers_;
  LocalRows local_;
  std::unique_ptr<Client> client_;
  std::unique_ptr<RemoteRows> remote_;  // uses the client
  size_t first_step_ = 0;
  Measurement result_;
};

absl::StatusOr<StepPool> HashShape(const Bench& bench, const Shape& shape) {
  return StepPool::Hash(bench.local.geometry, MapOf(bench.local), bench.trace, shape, kMaxSteps);
}

}  // namespace

absl::StatusOr<Measurement> Measure(const Bench& bench, const Shape& shape) {
  RETURN_IF_ERROR(shape.Validate());
  if (shape.replicas != Replicas::kOne && bench.fleet == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("shape ", shape.name, " slows or kills servers, so not those of --servers"));
  }
  for (const uint32_t layer : TableLayers(bench.local.geometry)) {
    if (layer < shape.layers.size()) continue;
    return absl::InvalidArgumentError(absl::StrCat("shape ", shape.name, " has no layer ", layer,
                                                   ", where the checkpoint has a table"));
  }
  ASSIGN_OR_RETURN(StepPool ids, HashShape(bench, shape));
  absl::StatusOr<Measurement> measurement = ShapeBench(bench, shape, std::move(ids)).Run();
  if (bench.fleet != nullptr) bench.fleet->KeepOne();
  return measurement;
}

absl::StatusOr<double> MeasureRowRate(const Bench& bench, absl::Duration time) {
  Shape shape;
  shape.name = "row rate";
  shape.tokens_per_sequence = 8192;
  ASSIGN_OR_RETURN(const StepPool ids, HashShape(bench, shape));
  if (bench.fleet != nullptr) RETURN_IF_ERROR(bench.fleet->Ensure(1));
  ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, Connect(bench));
  const size_t tables = client->geometry().layers().size();
  StepBuffers buffers(tables, ids[0][0].size() * client->layout().row_bytes());
  RemoteRows rows(*client, buffers, LookupPriority::kPrefill, absl::Seconds(30));
  std::vector<size_t> all(tables);
  std::iota(all.begin(), all.end(), size_t{0});
  absl::Status status;
  uint64_t lookups = 0;
  const auto wait = [&](size_t slot) {
    for (const size_t table : all) status.Update(rows.Wait(slot, table).status);
    ++lookups;
  };
  rows.Ask(0, ids[0], all);
  wait(0);  // first touches
  lookups = 0;
  const absl::Time start = absl::Now();
  for (size_t slot = 0; slot < StepBuffers::kSlots; ++slot) rows.Ask(slot, ids[slot], all);
  size_t slot = 0;
  for (size_t step = StepBuffers::kSlots; absl::Now() < start + time && status.ok(); ++step) {
    wait(slot);
    rows.Ask(slot, ids[step], all);
    slot = (slot + 1) % StepBuffers::kSlots;
  }
  for (size_t i = 0; i < StepBuffers::kSlots; ++i) wait(i);
  RETURN_IF_ERROR(status);
  return static_cast<double>(lookups * ids[0][0].size() * tables) /
         absl::ToDoubleSeconds(absl::Now() - start);
}

}  // namespace engram::bench
