// Slots of the C ABI.
#include "client/slot.h"

#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "client/c/handles.h"
#include "client/c/status.h"
#include "client/c/structs.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

constexpr size_t kMaxChunks = size_t{1} << 20;

absl::Status ToSlotOptions(const engram_slot_options* options, SlotOptions& out) {
  engram_slot_options given = ENGRAM_SLOT_OPTIONS_INIT;
  RETURN_IF_ERROR(ReadStruct(options, "options", given));
  RETURN_IF_ERROR(CheckArray(given.layers, given.layer_count, kMaxLayers, "options->layers"));
  RETURN_IF_ERROR(CheckArray(given.memory, given.memory_count, kMaxLayers, "options->memory"));
  RETURN_IF_ERROR(CheckArray(given.words, given.word_count, kMaxLayers, "options->words"));
  if (given.order != ENGRAM_TOKEN_MAJOR && given.order != ENGRAM_HEAD_MAJOR) {
    return absl::InvalidArgumentError(
        absl::StrCat("option `order` is ", given.order, ", which is no order"));
  }
  out.max_tokens = given.max_tokens;
  out.layers.assign(given.layers, given.layers + given.layer_count);
  out.columns = {given.columns.begin, given.columns.end};
  out.order = given.order == ENGRAM_HEAD_MAJOR ? RowOrder::kHeadMajor : RowOrder::kTokenMajor;
  out.split_scales = given.split_scales != 0;
  for (size_t i = 0; i < given.memory_count; ++i) {
    const engram_layer_memory& memory = given.memory[i];
    out.memory.push_back({{memory.rows, memory.rows_bytes}, {memory.scales, memory.scales_bytes}});
  }
  out.words = {given.words, given.word_count};
  out.reset_words = given.caller_resets_words == 0;
  return absl::OkStatus();
}

// A batch's sequences, so many of them without an allocation.
using StepChunks = absl::InlinedVector<StepChunk, 64>;

absl::Status ToChunks(const engram_chunk* chunks, size_t count, uint32_t compressed_vocab,
                      StepChunks& out) {
  RETURN_IF_ERROR(CheckArray(chunks, count, kMaxChunks, "chunks"));
  out.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    const engram_chunk& chunk = chunks[i];
    if (chunk.prefetch != nullptr) {
      out.push_back(chunk.prefetch->prefetch.Range(chunk.first, chunk.count));
      continue;
    }
    RETURN_IF_ERROR(CheckArray(chunk.tokens, chunk.token_count, UINT32_MAX, "chunks[i].tokens"));
    StepChunk& to = out.emplace_back();
    RETURN_IF_ERROR(ToLookBack(chunk.state, compressed_vocab, "chunks[i].state", to.state));
    to.tokens = {chunk.tokens, chunk.token_count};
    to.dead = {chunk.dead, chunk.dead == nullptr ? 0 : chunk.token_count};
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace engram

using engram::Call;
using engram::CheckNotNull;

engram_status* engram_slot_host_bytes(const engram_client* client,
                                      const engram_slot_options* options, uint64_t* bytes) {
  return Call([&]() -> absl::Status {
    RETURN_IF_ERROR(CheckNotNull(client, "client"));
    RETURN_IF_ERROR(CheckNotNull(bytes, "bytes"));
    engram::SlotOptions slot;
    RETURN_IF_ERROR(engram::ToSlotOptions(options, slot));
    ASSIGN_OR_RETURN(*bytes, engram::Slot::HostBytes(*client->client, slot));
    return absl::OkStatus();
  });
}

engram_status* engram_slot_create(const engram_client* client, const engram_slot_options* options,
                                  engram_slot** slot) {
  return Call([&]() -> absl::Status {
    RETURN_IF_ERROR(CheckNotNull(client, "client"));
    RETURN_IF_ERROR(CheckNotNull(slot, "slot"));
    engram::SlotOptions with;
    RETURN_IF_ERROR(engram::ToSlotOptions(options, with));
    auto handle = std::make_unique<engram_slot>();
    ASSIGN_OR_RETURN(handle->slot, engram::Slot::Create(*client->client, std::move(with)));
    handle->defaults = client->defaults;
    *slot = handle.release();
    return absl::OkStatus();
  });
}

void engram_slot_destroy(engram_slot* slot) { delete slot; }

engram_status* engram_slot_layer(const engram_slot* slot, uint32_t layer,
                                 engram_slot_layer_info* info) {
  return Call([&]() -> absl::Status {
    RETURN_IF_ERROR(CheckNotNull(slot, "slot"));
    const engram::Slot& from = *slot->slot;
    engram_slot_layer_info found = ENGRAM_SLOT_LAYER_INFO_INIT;
    found.word = from.word(layer);
    if (found.word == nullptr) {
      return absl::NotFoundError(absl::StrCat("this slot has no layer ", layer));
    }
    found.rows = from.rows(layer).data();
    found.rows_bytes = from.rows(layer).size();
    found.scales_bytes = from.scales(layer).size();
    found.scales = found.scales_bytes == 0 ? nullptr : from.scales(layer).data();
    return engram::WriteStruct(found, "info", info);
  });
}

engram_status* engram_slot_submit_ids(engram_slot* slot, const engram_step_ids* ids,
                                      const engram_lookup_options* options) {
  return Call([&]() -> absl::Status {
    RETURN_IF_ERROR(CheckNotNull(slot, "slot"));
    engram::LookupOptions lookup;
    engram::StepIds step;
    absl::Status wrong = engram::ToLookupOptions(options, slot->defaults, lookup);
    wrong.Update(engram::ToStepIds(ids, step));
    return wrong.ok() ? slot->slot->SubmitIds(step, lookup) : slot->slot->Refuse(wrong);
  });
}

engram_status* engram_slot_submit_tokens(engram_slot* slot, const engram_chunk* chunks,
                                         size_t chunk_count, const engram_lookup_options* options) {
  return Call([&]() -> absl::Status {
    RETURN_IF_ERROR(CheckNotNull(slot, "slot"));
    engram::LookupOptions lookup;
    engram::StepChunks step;
    absl::Status wrong = engram::ToLookupOptions(options, slot->defaults, lookup);
    wrong.Update(engram::ToChunks(chunks, chunk_count, slot->defaults.compressed_vocab, step));
    return wrong.ok() ? slot->slot->SubmitTokens(step, lookup) : slot->slot->Refuse(wrong);
  });
}

engram_status* engram_slot_wait(engram_slot* slot, uint32_t layer, int64_t timeout_us) {
  return Call([&]() -> absl::Status {
    RETURN_IF_ERROR(CheckNotNull(slot, "slot"));
    return slot->slot->Wait(layer, engram::DeadlineOf(timeout_us));
  });
}

engram_status* engram_slot_wait_all(engram_slot* slot, int64_t timeout_us) {
  return Call([&]() -> absl::Status {
    RETURN_IF_ERROR(CheckNotNull(slot, "slot"));
    return slot->slot->WaitAll(engram::DeadlineOf(timeout_us));
  });
}

engram_status* engram_slot_done(const engram_slot* slot, uint32_t layer, int32_t* done) {
  return Call([&]() -> absl::Status {
    RETURN_IF_ERROR(CheckNotNull(slot, "slot"));
    RETURN_IF_ERROR(CheckNotNull(done, "done"));
    *done = slot->slot->Done(layer) ? 1 : 0;
    return absl::OkStatus();
  });
}

engram_status* engram_slot_cancel(engram_slot* slot) {
  return Call([&]() -> absl::Status {
    RETURN_IF_ERROR(CheckNotNull(slot, "slot"));
    slot->slot->Cancel();
    return absl::OkStatus();
  });
}
