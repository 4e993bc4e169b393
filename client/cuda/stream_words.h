// CUDA streams that wait for a slot's layers on the device: no host thread stands between rows that
// arrive and the kernels that read them. (Has not run on a GPU: see README.md.)
//
// With a slot that resets its words when a step is submitted (SlotOptions::reset_words):
//
//   ASSIGN_OR_RETURN(auto layers, StreamLayersOf(*slot, {1, 14}));
//   ASSIGN_OR_RETURN(auto words, StreamWords::Create({.layers = layers}));
//   each step   RETURN_IF_ERROR(slot->SubmitTokens(chunks, {}));
//               RETURN_IF_ERROR(words->StartCopy(1, {device_rows, bytes}, stream));
//               ... launch layer 0 on `stream`
//               RETURN_IF_ERROR(words->WaitForCopy(1, stream));
//               ... launch layer 1, which reads device_rows
//               RETURN_IF_ERROR(words->MarkFree(stream));
//               RETURN_IF_ERROR(words->WaitUntilFree());   // before the slot's next submit
//               RETURN_IF_ERROR(slot->Wait(1));            // before the step's output is used
//
// Order. Words are the only thing that a stream can wait for before its kernels are ready to read,
// and a word that still says "ready" of the last step lets them read the last step's rows:
// 1. WaitUntilFree comes before every submit: the streams have then taken the last step's rows out
//    of the slot, and reset its words. (A submit before that overwrites rows that are being read,
//    and its "ready" may be wiped by a reset that comes late: the stream would wait for ever.)
// 2. reset_words true: Wait and StartCopy come after the submit, which sets the words to pending.
// 3. reset_words false: they may also come before it, as where a step is launched while its ids are
//    still being computed. Then each step ends with ResetWords, in stream order behind the last use
//    of rows and words, and MarkFree behind that.
// 4. A stream that waits for a word waits until somebody writes it. Between a wait that was
// enqueued
//    before its submit and that submit, the host must not call what synchronizes with that stream
//    (freeing device memory does). After a submit every word is written: by the step's timeout.
// 5. A stream goes on whether its rows came or not: kWordReady (1) and kWordError (2) both release
//    it (the wait is for a word >= 1), and rows of a layer that failed are zeros. So the host asks
//    Slot::Wait before it uses the step's output.
//
// CUDA graphs: Wait, StartCopy, WaitForCopy and ResetWords may be called on a stream that is being
// captured; a StartCopy and its WaitForCopy must be in the same capture. MarkFree and WaitUntilFree
// must not: call MarkFree on the launch's stream after each launch. A graph keeps addresses and
// sizes: they are constant for a StreamWords, sizes are those of the call, so capture a graph for
// each number of tokens. Reset words on the stream (3) where a graph is launched before its submit.
//
// The memory must stay where it is while a StreamWords lives: destroy it before its slot, when the
// caller's streams have passed what was enqueued here and no graph that was captured will run
// again.
#ifndef ENGRAM_CLIENT_CUDA_STREAM_WORDS_H_
#define ENGRAM_CLIENT_CUDA_STREAM_WORDS_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/slot.h"

struct CUstream_st;

namespace engram {

using CudaStream = CUstream_st*;  // CUstream, cudaStream_t
using CudaPointer = uint64_t;     // CUdeviceptr, an address of the device

// One layer of a slot.
struct StreamLayer {
  uint32_t layer = 0;
  uint64_t* word = nullptr;
  std::span<uint8_t> rows = {};  // what StartCopy copies from; empty where nothing is to be copied
  std::span<uint8_t> scales = {};  // where they are apart
};

// Those of a slot, its own memory or the caller's. NotFound: a layer that the slot has not.
absl::StatusOr<std::vector<StreamLayer>> StreamLayersOf(const Slot& slot,
                                                        const std::vector<uint32_t>& layers);

struct StreamWordsOptions {
  std::vector<StreamLayer> layers = {};
  // False: pages of words, rows and scales are locked and mapped here (cuMemHostRegister), and let
  // go by the destructor. True: the caller has done that (cudaHostAlloc or cudaHostRegister,
  // mapped; torch's pinned memory) and keeps it so.
  bool registered = false;
  std::string driver = "libcuda.so.1";  // as dlopen takes it
};

// Where a layer's rows go on the device.
struct DeviceRows {
  CudaPointer rows = 0;
  size_t rows_bytes =
      0;  // of this step: tokens x columns x row_bytes (value_bytes with scales apart)
  CudaPointer scales = 0;
  size_t scales_bytes = 0;
};

// To be used by one thread at a time, any: calls are made in the context that was current in
// Create. Beside what each method says, every one returns the status of a driver call that failed,
// naming call and error ("cuEventRecord: CUDA_ERROR_INVALID_HANDLE"; codes in driver.h); what was
// enqueued before stays enqueued, and the step must not be used.
class StreamWords {
 public:
  // While the slot is idle; sets its words to kWordPending. A CUDA context must be current.
  //   InvalidArgument     no layers, a layer twice, a word that is null or not 8-byte aligned
  //   Unimplemented       no driver, an old one, or a device that lacks something (attribute named)
  //   FailedPrecondition  no context is current
  //   AlreadyExists       somebody has registered some of these pages: see `registered`
  static absl::StatusOr<std::unique_ptr<StreamWords>> Create(const StreamWordsOptions& options);

  // Waits for copies that were started: each ends after its layer's word is written.
  ~StreamWords();
  StreamWords(const StreamWords&) = delete;

  // Work enqueued on `stream` from now on waits until the layer's word is not pending.
  // NotFound: a layer that is not among the options'.
  absl::Status Wait(uint32_t layer, CudaStream stream);

  // Copies the layer's rows when its word is not pending, on a stream of its own: `stream` goes on.
  // The copy also waits for what is on `stream` now, which may still be reading the device's rows.
  // Copies are made one after the other: start the nearest layer's first.
  //   InvalidArgument     more bytes than the layer has; bytes without an address
  //   FailedPrecondition  a copy of that layer was started and not waited for
  absl::Status StartCopy(uint32_t layer, const DeviceRows& to, CudaStream stream);

  // Work enqueued on `stream` from now on waits for the layer's copy; once for each.
  // FailedPrecondition: none was started.
  absl::Status WaitForCopy(uint32_t layer, CudaStream stream);

  // Sets every layer's word to kWordPending when `stream` gets there.
  absl::Status ResetWords(CudaStream stream);

  // The step is over when `stream` gets there: nothing enqueued before touches slot and words then.
  // (What other streams do with them must be joined to `stream` first, as WaitForCopy does.)
  absl::Status MarkFree(CudaStream stream);
  // Returns when it is, at once where nothing was marked.
  absl::Status WaitUntilFree();

  // The address of a layer's word for the device, for kernels that look at it; 0: no such layer.
  CudaPointer word(uint32_t layer) const;

 private:
  struct State;
  struct Layer;
  explicit StreamWords(std::unique_ptr<State> state);
  static absl::Status Prepare(State& state, const StreamWordsOptions& options);
  absl::StatusOr<Layer*> Find(uint32_t layer) const;

  const std::unique_ptr<State> state_;
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_CUDA_STREAM_WORDS_H_
