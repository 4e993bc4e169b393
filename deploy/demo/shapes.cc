#include "deploy/demo/shapes.h"

#include <functional>
#include <optional>

#include "absl/strings/str_cat.h"
#include "deploy/demo/layer_clock.h"
#include "proto/base/status_macros.h"

namespace engram::demo {
namespace {

using Clock = LayerClock::Clock;

// Layer id -> its rows [steps or tokens, ..., columns, row_bytes]. Filled with zeros, so touched:
// an engine's buffers are pinned memory that it uses again and again.
using LayerRows = std::map<uint32_t, std::vector<uint8_t>>;

// Submits the lookups of some layers of the step at hand.
using SubmitFn = std::function<absl::StatusOr<Ticket>(const std::vector<uint32_t>& layers)>;

LayerRows MakeBuffers(const Client& client, uint64_t tokens) {
  LayerRows buffers;
  for (uint32_t layer : client.geometry().params().layer_ids) {
    buffers[layer].resize(tokens * client.geometry().columns() * client.layout().row_bytes());
  }
  return buffers;
}

absl::StatusOr<std::vector<uint32_t>> Compress(const Client& client,
                                               std::span<const uint32_t> tokens) {
  std::vector<uint32_t> compressed;
  compressed.reserve(tokens.size());
  for (uint32_t token : tokens) {
    ASSIGN_OR_RETURN(uint32_t id, client.token_map()->Compress(token));
    compressed.push_back(id);
  }
  return compressed;
}

absl::StatusOr<RowHasher> MakeHasher(const Client& client) {
  ASSIGN_OR_RETURN(uint32_t pad,
                   client.token_map()->Compress(client.geometry().params().pad_token));
  return RowHasher::Create(client.geometry(), pad);
}

// The layers of one step, waiting for rows where the tables are. `ahead` holds the step's lookup
// when it was submitted before; without it each layer's is submitted when the layer is reached.
absl::Status RunStep(const std::vector<uint32_t>& layers, const SubmitFn& submit,
                     std::optional<Ticket> ahead, LayerClock& clock, ShapeResult& result) {
  for (uint32_t layer : layers) {
    clock.SleepUntilLayer(layer);
    const Clock::time_point reached = Clock::now();
    if (ahead.has_value()) {
      RETURN_IF_ERROR(ahead->Wait(layer));
    } else {
      ASSIGN_OR_RETURN(Ticket ticket, submit({layer}));
      RETURN_IF_ERROR(ticket.Wait(layer));
    }
    const Clock::duration stall = Clock::now() - reached;
    clock.Stall(stall);
    result.stall_ms[layer].push_back(std::chrono::duration<double, std::milli>(stall).count());
  }
  clock.FinishStep();
  ++result.steps;
  return absl::OkStatus();
}

// The 64 sequences of a decode batch, and where each stands.
class DecodeBatch {
 public:
  static absl::StatusOr<DecodeBatch> Create(Client& client, std::span<const uint32_t> tokens) {
    ASSIGN_OR_RETURN(RowHasher hasher, MakeHasher(client));
    DecodeBatch batch(client, std::move(hasher));
    const size_t apart = tokens.size() / kSequences;
    for (size_t s = 0; s < kSequences; ++s) {
      ASSIGN_OR_RETURN(std::vector<uint32_t> window,
                       Compress(client, tokens.subspan(s * apart, kPromptTokens + kDecodeSteps)));
      batch.hasher_.Advance(std::span<const uint32_t>(window).first(kPromptTokens), {},
                            batch.states_[s]);
      batch.windows_.push_back(std::move(window));
    }
    return batch;
  }

  // Hashes the token of every sequence at `step` and submits the rows of `layers`, which land in
  // the step's part of `rows`. One lookup for the whole batch, so one request to each server.
  absl::StatusOr<Ticket> Submit(uint32_t step, const std::vector<uint32_t>& layers,
                                LayerRows& rows) {
    const size_t ids_per_step = size_t{kSequences} * hasher_.columns();
    const size_t bytes = ids_per_step * client_.layout().row_bytes();
    std::vector<RowsLookup> lookups;
    for (uint32_t layer : layers) {
      std::vector<int64_t>& ids = ids_[layer];
      ids.resize(ids_per_step);
      RETURN_IF_ERROR(Hash(step, layer, ids));
      lookups.push_back({layer, ids, std::span<uint8_t>(rows[layer]).subspan(step * bytes, bytes)});
    }
    return client_.SubmitRows(lookups, {});
  }

  // Every sequence has its next token.
  void Advance(uint32_t step) {
    for (size_t s = 0; s < kSequences; ++s) hasher_.Advance(Token(s, step), {}, states_[s]);
  }

 private:
  DecodeBatch(Client& client, RowHasher hasher)
      : client_(client), hasher_(std::move(hasher)), states_(kSequences) {}

  std::span<const uint32_t> Token(size_t sequence, uint32_t step) const {
    return std::span<const uint32_t>(windows_[sequence]).subspan(kPromptTokens + step, 1);
  }

  absl::Status Hash(uint32_t step, uint32_t layer, std::span<int64_t> ids) const {
    ASSIGN_OR_RETURN(size_t index, client_.geometry().LayerIndex(layer));
    const size_t columns = hasher_.columns();
    for (size_t s = 0; s < kSequences; ++s) {
      hasher_.HashChunk(index, Token(s, step), {}, states_[s], ids.subspan(s * columns, columns));
    }
    return absl::OkStatus();
  }

  Client& client_;
  RowHasher hasher_;
  std::vector<std::vector<uint32_t>> windows_;  // compressed ids: prompt, then one a step
  std::vector<LookBack> states_;
  std::map<uint32_t, std::vector<int64_t>> ids_;  // of the step at hand; lookups borrow them
};

// Rows of one sequence out of [steps, sequences, columns, row_bytes].
std::vector<uint8_t> RowsOfSequence(std::span<const uint8_t> rows, size_t sequence) {
  const size_t token_bytes = rows.size() / (size_t{kDecodeSteps} * kSequences);
  std::vector<uint8_t> own;
  own.reserve(token_bytes * kDecodeSteps);
  for (size_t step = 0; step < kDecodeSteps; ++step) {
    const auto part = rows.subspan((step * kSequences + sequence) * token_bytes, token_bytes);
    own.insert(own.end(), part.begin(), part.end());
  }
  return own;
}

absl::Status CheckDecode(const Bench& bench, std::span<const uint32_t> tokens,
                         const LayerRows& rows, ShapeResult& result) {
  const size_t apart = tokens.size() / kSequences;
  for (const auto& [layer, bytes] : rows) {
    for (size_t s = 0; s < kSequences; ++s) {
      ASSIGN_OR_RETURN(
          uint64_t wrong,
          bench.check.WrongRows(layer, tokens.subspan(s * apart, kPromptTokens + kDecodeSteps),
                                kPromptTokens, RowsOfSequence(bytes, s)));
      result.wrong_rows += wrong;
    }
    result.rows += bytes.size() / bench.client.layout().row_bytes();
  }
  return absl::OkStatus();
}

absl::Status TooFew(size_t tokens, size_t needed) {
  return absl::InvalidArgumentError(
      absl::StrCat("the trace has ", tokens, " tokens where ", needed, " are needed"));
}

}  // namespace

double ShapeResult::TotalStallMs() const {
  double total = 0;
  for (const auto& [layer, stalls] : stall_ms) {
    for (double stall : stalls) total += stall;
  }
  return total;
}

absl::StatusOr<ShapeResult> RunPrefill(const Bench& bench, Fetch fetch,
                                       std::span<const uint32_t> tokens) {
  if (tokens.size() < kContextTokens + kChunkTokens) {
    return TooFew(tokens.size(), kContextTokens + kChunkTokens);
  }
  tokens = tokens.first(kContextTokens + kChunkTokens);
  ASSIGN_OR_RETURN(std::vector<uint32_t> context,
                   Compress(bench.client, tokens.first(kContextTokens)));
  ASSIGN_OR_RETURN(const RowHasher hasher, MakeHasher(bench.client));
  LookBack before;
  hasher.Advance(context, {}, before);
  LayerRows rows = MakeBuffers(bench.client, kChunkTokens);
  const SubmitFn submit = [&](const std::vector<uint32_t>& layers) {
    std::vector<LayerBuffer> buffers;
    for (uint32_t layer : layers) buffers.push_back({layer, rows[layer]});
    LookBack state = before;  // every submit is of the same chunk
    return bench.client.SubmitTokens(tokens.subspan(kContextTokens), {}, state, buffers,
                                     {.priority = LookupPriority::kPrefill});
  };

  const std::vector<uint32_t>& layers = bench.client.geometry().params().layer_ids;
  ShapeResult result;
  LayerClock clock(kModelLayers, std::chrono::milliseconds(kPrefillMs));
  std::optional<Ticket> ahead;
  if (fetch == Fetch::kAhead) {
    ASSIGN_OR_RETURN(ahead, submit(layers));
  }
  clock.FinishStep();  // the chunk before, whose own rows are not looked at here
  RETURN_IF_ERROR(RunStep(layers, submit, std::move(ahead), clock, result));

  for (const auto& [layer, bytes] : rows) {
    ASSIGN_OR_RETURN(uint64_t wrong, bench.check.WrongRows(layer, tokens, kContextTokens, bytes));
    result.wrong_rows += wrong;
    result.rows += bytes.size() / bench.client.layout().row_bytes();
  }
  return result;
}

absl::StatusOr<ShapeResult> RunDecode(const Bench& bench, Fetch fetch,
                                      std::span<const uint32_t> tokens) {
  if (tokens.size() / kSequences < kPromptTokens + kDecodeSteps) {
    return TooFew(tokens.size(), size_t{kSequences} * (kPromptTokens + kDecodeSteps));
  }
  LayerRows rows = MakeBuffers(bench.client, uint64_t{kDecodeSteps} * kSequences);
  ASSIGN_OR_RETURN(DecodeBatch batch, DecodeBatch::Create(bench.client, tokens));
  const std::vector<uint32_t>& layers = bench.client.geometry().params().layer_ids;
  ShapeResult result;
  LayerClock clock(kModelLayers, std::chrono::milliseconds(kDecodeMs));
  for (uint32_t step = 0; step < kDecodeSteps; ++step) {
    const SubmitFn submit = [&](const std::vector<uint32_t>& wanted) {
      return batch.Submit(step, wanted, rows);
    };
    std::optional<Ticket> ahead;
    if (fetch == Fetch::kAhead) {
      ASSIGN_OR_RETURN(ahead, submit(layers));
    }
    RETURN_IF_ERROR(RunStep(layers, submit, std::move(ahead), clock, result));
    batch.Advance(step);
  }
  RETURN_IF_ERROR(CheckDecode(bench, tokens, rows, result));
  return result;
}

}  // namespace engram::demo
