#include "client/slot.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/client_core.h"
#include "client/lookup.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

// Fills in layers and columns, and says what a layer's buffers take.
absl::StatusOr<LayerMemoryBytes> Resolve(const ClientCore& core, SlotOptions& options) {
  if (options.max_tokens == 0) {
    return absl::InvalidArgumentError("slot option `max_tokens` is 0");
  }
  ASSIGN_OR_RETURN(options.layers, core.LayersOf(std::move(options.layers)));
  ASSIGN_OR_RETURN(options.columns, core.ColumnsOf(options.columns));
  const RowLayout& layout = core.table().layout;
  if (options.split_scales && layout.scales == 0) {
    return absl::InvalidArgumentError("slot option `split_scales`: the table's rows have none");
  }
  const uint64_t rows = uint64_t{options.max_tokens} * options.columns.count();
  if (!options.split_scales) return LayerMemoryBytes{rows * layout.row_bytes(), 0};
  return LayerMemoryBytes{rows * layout.value_bytes(), rows * layout.scales};
}

void SetWords(std::span<uint64_t> words, uint64_t value) {
  for (uint64_t& word : words) {
    std::atomic_ref<uint64_t>(word).store(value, std::memory_order_release);
  }
}

}  // namespace

absl::StatusOr<uint64_t> Slot::HostBytes(const Client& client, const SlotOptions& options) {
  SlotOptions resolved = options;
  ASSIGN_OR_RETURN(const LayerMemoryBytes bytes, Resolve(*client.core_, resolved));
  return SlotMemory::OwnBytes(resolved.layers.size(), bytes, options.memory.empty(),
                              options.words.empty());
}

absl::StatusOr<std::unique_ptr<Slot>> Slot::Create(const Client& client, SlotOptions options) {
  ASSIGN_OR_RETURN(const LayerMemoryBytes bytes, Resolve(*client.core_, options));
  ASSIGN_OR_RETURN(SlotMemory memory,
                   SlotMemory::Create(options.layers.size(), bytes, options.memory, options.words));
  return std::unique_ptr<Slot>(new Slot(client.core_, std::move(options), std::move(memory)));
}

Slot::Slot(std::shared_ptr<ClientCore> core, SlotOptions options, SlotMemory memory)
    : core_(std::move(core)),
      options_(std::move(options)),
      memory_(std::move(memory)),
      thread_(core_->NextThread()) {}

Slot::~Slot() {
  if (step_ == nullptr || step_->over() || step_->forked()) return;
  step_->Drop();
  step_->WaitUntilOver();
}

template <typename Start>
absl::Status Slot::Submit(size_t tokens, const LookupOptions& options, Start start) {
  RETURN_IF_ERROR(CheckIdle());
  absl::Status status = Begin(tokens, options, start);
  if (!status.ok()) return Refuse(std::move(status));
  refused_ = absl::OkStatus();
  return refused_;
}

absl::Status Slot::Refuse(absl::Status why) {
  RETURN_IF_ERROR(CheckIdle());
  refused_ = std::move(why);
  ClearRows();
  SetWords(memory_.words(), kWordError);
  return refused_;
}

// A stream that was told to wait for the words goes on at "error", too: it is to find no earlier
// step's rows.
void Slot::ClearRows() {
  const size_t rows = std::exchange(used_tokens_, 0) * options_.columns.count();
  if (rows == 0) return;
  const RowLayout& layout = core_->table().layout;
  const size_t value_bytes = options_.split_scales ? layout.value_bytes() : layout.row_bytes();
  for (const LayerMemory& layer : memory_.layers()) {
    std::memset(layer.rows.data(), 0, rows * value_bytes);
    if (options_.split_scales) std::memset(layer.scales.data(), 0, rows * layout.scales);
  }
}

absl::Status Slot::CheckIdle() const {
  RETURN_IF_ERROR(core_->CheckProcess());
  if (step_ == nullptr || step_->AllWritten()) return absl::OkStatus();
  return absl::FailedPreconditionError("a step of this slot is under way");
}

template <typename Start>
absl::Status Slot::Begin(size_t tokens, const LookupOptions& options, Start start) {
  if (tokens > options_.max_tokens) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a step of ", tokens, " tokens in a slot of max_tokens = ", options_.max_tokens));
  }
  if (!options.degraded.empty() && options.degraded.size() != tokens) {
    return absl::InvalidArgumentError(
        absl::StrCat(options.degraded.size(), " degraded flags for ", tokens, " tokens"));
  }
  ASSIGN_OR_RETURN(auto lookup, core_->NewLookup(options_.layers.size(), options));
  lookup->columns = options_.columns;
  const RowLayout& layout = core_->table().layout;
  for (size_t i = 0; i < options_.layers.size(); ++i) {
    const RowTarget target{
        .values = memory_.layers()[i].rows.data(),
        .scales = options_.split_scales ? memory_.layers()[i].scales.data() : nullptr,
        .row_bytes = layout.row_bytes(),
        .value_bytes = options_.split_scales ? layout.value_bytes() : layout.row_bytes(),
        .order = options_.order,
        .columns = options_.columns.count(),
        .tokens = static_cast<uint32_t>(tokens)};
    LookupLayer& layer = lookup->layers()[i];
    layer.word = &memory_.words()[i];
    RETURN_IF_ERROR(
        core_->SetLayer(layer, options_.layers[i], tokens * options_.columns.count(), target));
  }
  if (options_.reset_words) SetWords(memory_.words(), kWordPending);
  RETURN_IF_ERROR(start(lookup));
  step_ = std::move(lookup);
  used_tokens_ = std::max(used_tokens_, tokens);
  return absl::OkStatus();
}

absl::Status Slot::SubmitIds(const StepIds& ids, const LookupOptions& options) {
  return Submit(ids.tokens, options, [&](const std::shared_ptr<Lookup>& lookup) -> absl::Status {
    RETURN_IF_ERROR(core_->CheckIds(ids, options_.layers.size()));
    for (size_t i = 0; i < ids.layers.size(); ++i) {
      RETURN_IF_ERROR(core_->SetIds(ids, ids.layers[i], options_.columns, lookup->layers()[i]));
    }
    return core_->Submit(lookup, thread_);
  });
}

absl::Status Slot::SubmitTokens(std::span<const StepChunk> chunks, const LookupOptions& options) {
  size_t tokens = 0;
  for (const StepChunk& chunk : chunks) tokens += chunk.size();
  return Submit(tokens, options, [&](const std::shared_ptr<Lookup>& lookup) {
    return core_->SubmitChunks(lookup, chunks, thread_);
  });
}

absl::Status Slot::CheckStep() const {
  RETURN_IF_ERROR(refused_);
  if (step_ != nullptr) return absl::OkStatus();
  return absl::FailedPreconditionError("the slot has had no step");
}

absl::Status Slot::Wait(uint32_t layer, absl::Time deadline) {
  RETURN_IF_ERROR(CheckStep());
  return step_->Wait(layer, deadline);
}

absl::Status Slot::WaitAll(absl::Time deadline) {
  RETURN_IF_ERROR(CheckStep());
  return step_->WaitAll(deadline);
}

bool Slot::Done(uint32_t layer) const { return step_ != nullptr && step_->Done(layer); }

void Slot::Cancel() {
  if (step_ != nullptr) step_->Drop();
}

size_t Slot::IndexOf(uint32_t layer) const {
  return static_cast<size_t>(std::find(options_.layers.begin(), options_.layers.end(), layer) -
                             options_.layers.begin());
}

std::span<uint8_t> Slot::rows(uint32_t layer) const {
  const size_t i = IndexOf(layer);
  return i < options_.layers.size() ? memory_.layers()[i].rows : std::span<uint8_t>();
}

std::span<uint8_t> Slot::scales(uint32_t layer) const {
  const size_t i = IndexOf(layer);
  return i < options_.layers.size() ? memory_.layers()[i].scales : std::span<uint8_t>();
}

uint64_t* Slot::word(uint32_t layer) const {
  const size_t i = IndexOf(layer);
  return i < options_.layers.size() ? &memory_.words()[i] : nullptr;
}

}  // namespace engram
