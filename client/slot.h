// Slots: a step's rows at addresses that never change, as CUDA graphs need them.
//
//   ASSIGN_OR_RETURN(auto slot, Slot::Create(*client, {.max_tokens = 512}));
//   each step   RETURN_IF_ERROR(slot->SubmitTokens(chunks, {}));
//               ... compute layer 0, or have the stream wait until *slot->word(1) is not pending
//               ... RETURN_IF_ERROR(slot->Wait(1));   // slot->rows(1) is in place
//
// Make as many as steps overlap (two for overlap scheduling, one a micro-batch).
#ifndef ENGRAM_CLIENT_SLOT_H_
#define ENGRAM_CLIENT_SLOT_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/client.h"
#include "client/row_target.h"
#include "client/slot_memory.h"
#include "client/step.h"

namespace engram {

struct SlotOptions {
  uint32_t max_tokens = 0;
  std::vector<uint32_t> layers = {};  // ascending; empty: all
  ColumnRange columns = {};           // of each token; {0, 0}: all
  RowOrder order = RowOrder::kTokenMajor;
  // A row's values and its scales in buffers of their own: [.., value_bytes] and [.., scales].
  bool split_scales = false;
  // The caller's memory, one for each layer; empty: the slot's. Must outlive the slot.
  std::vector<LayerMemory> memory = {};
  // The caller's words, one for each layer; empty: the slot's. Must outlive the slot.
  std::span<uint64_t> words = {};
  // False: submitting leaves the words alone, the caller's stream sets them to kWordPending.
  bool reset_words = true;
};

// Invariants
// 1. Idle (no step yet, or every layer of the last one is done): buffers, words and what a step
//    borrows belong to the caller.
// 2. Under way (from Submit until every layer is done): they belong to the library. A layer's own
//    buffer and word are the caller's again, to read, as soon as that layer is done.
// 3. A layer is done once, when its word leaves kWordPending: kWordReady when its rows are in
// place,
//    kWordError when they will never be (error, timeout, cancel, client closed, refused); its rows
//    are then zeros. Rows are written before their word, with release order. (The order of all of
//    this is a model that is searched: tests/models.)
// 4. Under way ends by itself, whatever servers do: at the latest at the step's timeout.
// 5. Addresses never change. A step of T tokens uses the first T * columns rows of a buffer, dense
//    in either order: a row of head-major is at (column * T + token) * row_bytes.
//
// A slot may outlive its client; then every submit is refused. Wait, Done and Cancel may be called
// by several threads at once; submits and the destructor only while nobody is in any of them.
class Slot {
 public:
  // Host memory that the slot will own: for each layer max_tokens x columns x row_bytes (12,672
  // bytes a token of DeepSeek-V4.1, both layers), rounded up to pages, unless the caller brings it.
  static absl::StatusOr<uint64_t> HostBytes(const Client& client, const SlotOptions& options);

  // InvalidArgument: the options (named). NotFound: a layer without a table.
  static absl::StatusOr<std::unique_ptr<Slot>> Create(const Client& client, SlotOptions options);

  // Cancels a step that is under way; returns when nothing touches the buffers any more.
  ~Slot();

  // Start a step: all layers, the nearest first. Return in microseconds; what is borrowed is looked
  // at on the I/O thread, so what is wrong with ids is said by Wait: OutOfRange naming layer,
  // token, column and id. A refused submit leaves every word at kWordError over rows that are zeros
  // (earlier steps' are cleared) and look-back states as they were, unless a step is under way,
  // which then goes on.
  //   FailedPrecondition  a step of this slot is under way; no token map (token ids)
  //   InvalidArgument     more than max_tokens, or as Client::SubmitTokens and Prefetch::Range say
  //   Cancelled           the client is closed
  absl::Status SubmitIds(const StepIds& ids, const LookupOptions& options);
  absl::Status SubmitTokens(std::span<const StepChunk> chunks, const LookupOptions& options);

  // For who finds that a step cannot be asked for before it could be: as a submit that is refused
  // because of `why`, which is not OK. Returns it, or why the slot cannot be told.
  absl::Status Refuse(absl::Status why);

  // As Ticket's, but for what a failed layer's buffer holds: zeros.
  // After a refused submit: its refusal. FailedPrecondition: before the first submit. Cancelled:
  // Cancel, or the client was closed.
  absl::Status Wait(uint32_t layer, absl::Time deadline = absl::InfiniteFuture());
  absl::Status WaitAll(absl::Time deadline = absl::InfiniteFuture());
  bool Done(uint32_t layer) const;

  // Asks for the end of the step under way and does not wait for it: Wait does.
  void Cancel();

  // What layer `layer` uses of its memory, for max_tokens; empty for a layer that the slot has not.
  std::span<uint8_t> rows(uint32_t layer) const;    // values alone where scales are apart
  std::span<uint8_t> scales(uint32_t layer) const;  // empty unless they are apart
  uint64_t* word(uint32_t layer) const;             // null for a layer that the slot has not

 private:
  Slot(std::shared_ptr<ClientCore> core, SlotOptions options, SlotMemory memory);
  template <typename Start>
  absl::Status Submit(size_t tokens, const LookupOptions& options, Start start);
  template <typename Start>
  absl::Status Begin(size_t tokens, const LookupOptions& options, Start start);
  absl::Status CheckIdle() const;
  absl::Status CheckStep() const;
  size_t IndexOf(uint32_t layer) const;  // options_.layers.size(): none
  void ClearRows();

  const std::shared_ptr<ClientCore> core_;
  const SlotOptions options_;  // with layers and columns filled in
  const SlotMemory memory_;
  // Always the same: then callbacks of an earlier step have returned when a later one is over.
  const size_t thread_;
  std::shared_ptr<Lookup> step_;
  size_t used_tokens_ = 0;  // the most of any step since rows were last cleared
  absl::Status refused_;    // of the last submit, unless a step was under way
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_SLOT_H_
