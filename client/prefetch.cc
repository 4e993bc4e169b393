#include "client/prefetch.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "client/client_core.h"
#include "client/lookup.h"
#include "proto/base/status_macros.h"

namespace engram {

absl::StatusOr<std::shared_ptr<Lookup>> Prefetch::NewLookup(ClientCore& core, size_t tokens,
                                                            const PrefetchOptions& options) {
  RETURN_IF_ERROR(core.CheckTokenMap());
  ASSIGN_OR_RETURN(const std::vector<uint32_t> layers, core.LayersOf(options.layers));
  ASSIGN_OR_RETURN(const ColumnRange columns, core.ColumnsOf(options.columns));
  ASSIGN_OR_RETURN(auto lookup, core.NewLookup(layers.size(), {.timeout = options.timeout,
                                                               .priority = options.priority}));
  const size_t row_bytes = core.table().layout.row_bytes();
  const size_t rows = tokens * columns.count();
  lookup->columns = columns;
  lookup->memory = PrefetchMemory::Take(core.prefetch_bytes(), layers.size() * rows * row_bytes,
                                        core.options().max_prefetch_bytes);
  if (lookup->memory == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "a prefetch of ", layers.size() * rows * row_bytes,
        " bytes: ", core.prefetch_bytes()->load(),
        " of max_prefetch_bytes = ", core.options().max_prefetch_bytes, " are in use"));
  }
  for (size_t i = 0; i < layers.size(); ++i) {
    uint8_t* const out = lookup->memory->rows() + i * rows * row_bytes;
    RETURN_IF_ERROR(
        core.SetLayer(lookup->layers()[i], layers[i], rows, RowTarget::Rows(out, row_bytes)));
  }
  return lookup;
}

absl::StatusOr<Prefetch> Prefetch::Start(Client& client, std::span<const uint32_t> tokens,
                                         std::span<const uint8_t> dead, LookBack& state,
                                         const PrefetchOptions& options) {
  ClientCore& core = *client.core_;
  ASSIGN_OR_RETURN(auto lookup, NewLookup(core, tokens.size(), options));
  lookup->dead.assign(dead.begin(), dead.end());
  const StepChunk chunk{.tokens = tokens, .dead = lookup->dead, .state = &state};
  RETURN_IF_ERROR(core.SubmitChunks(lookup, {&chunk, 1}, core.NextThread()));
  Prefetch prefetch;
  prefetch.core_ = client.core_;
  prefetch.lookup_ = std::move(lookup);
  return prefetch;
}

absl::StatusOr<Prefetch> Prefetch::StartBranches(std::shared_ptr<ClientCore> core,
                                                 std::span<const TokenRun> branches,
                                                 const PrefetchOptions& options) {
  size_t tokens = 0;
  for (const TokenRun& branch : branches) tokens += branch.compressed.size();
  ASSIGN_OR_RETURN(auto lookup, NewLookup(*core, tokens, options));
  RETURN_IF_ERROR(core->SubmitRuns(lookup, branches, core->NextThread()));
  Prefetch prefetch;
  prefetch.core_ = std::move(core);
  prefetch.lookup_ = std::move(lookup);
  return prefetch;
}

Prefetch& Prefetch::operator=(Prefetch&& other) noexcept {
  std::swap(core_, other.core_);
  std::swap(lookup_, other.lookup_);
  return *this;
}

Prefetch::~Prefetch() {
  if (lookup_ != nullptr) lookup_->Drop();
}

size_t Prefetch::tokens() const { return lookup_ != nullptr ? lookup_->compressed.size() : 0; }
uint64_t Prefetch::bytes() const { return lookup_ != nullptr ? lookup_->memory->bytes() : 0; }

StepChunk Prefetch::Range(size_t first, size_t count) const {
  return {.ahead = this, .first = first, .count = count};
}

LookBack Prefetch::StateAt(size_t tokens) const {
  const TokenRun& run = lookup_->chunks[0].run;
  LookBack state = run.before;
  core_->hasher().Advance(run.compressed.first(tokens),
                          run.dead.empty() ? run.dead : run.dead.first(tokens), state);
  return state;
}

bool Prefetch::InPlace() const {
  // Nothing is waited for: what is done has its status.
  return lookup_ != nullptr && lookup_->AllDone() && lookup_->WaitAll(absl::InfiniteFuture()).ok();
}

absl::Status Prefetch::Wait(absl::Time deadline) {
  if (lookup_ == nullptr) return absl::FailedPreconditionError("the prefetch is empty");
  return lookup_->WaitAll(deadline);
}

}  // namespace engram
