#include "client/cuda/stream_words.h"

#include <algorithm>
#include <atomic>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cuda/driver.h"
#include "client/cuda/page_lock.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

// A word leaves kWordPending for either of two larger values: the wait is for at least the smaller.
constexpr uint64_t kReleased = kWordReady;
static_assert(kWordPending < kReleased && kReleased <= kWordError);

absl::Status CheckLayers(const std::vector<StreamLayer>& layers) {
  if (layers.empty()) return absl::InvalidArgumentError("option `layers` is empty");
  for (size_t i = 0; i < layers.size(); ++i) {
    const auto same = [&](const StreamLayer& other) { return other.layer == layers[i].layer; };
    if (std::count_if(layers.begin(), layers.end(), same) > 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("option `layers` has layer ", layers[i].layer, " twice"));
    }
    if (layers[i].word == nullptr || reinterpret_cast<uintptr_t>(layers[i].word) % 8 != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("layer ", layers[i].layer, ": its word is null or not aligned to 8 bytes"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckAttribute(const CudaDriver& driver, CUdevice device, CUdevice_attribute attribute,
                            absl::string_view name) {
  int value = 0;
  RETURN_IF_ERROR(ENGRAM_CUDA(driver, cuDeviceGetAttribute, &value, attribute, device));
  if (value != 0) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat("the device lacks ", name));
}

absl::Status CheckDevice(const CudaDriver& driver) {
  CUdevice device;
  RETURN_IF_ERROR(ENGRAM_CUDA(driver, cuCtxGetDevice, &device));
#define ENGRAM_CHECK_ATTRIBUTE(name) RETURN_IF_ERROR(CheckAttribute(driver, device, name, #name))
  ENGRAM_CHECK_ATTRIBUTE(CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY);
  ENGRAM_CHECK_ATTRIBUTE(CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS);
#undef ENGRAM_CHECK_ATTRIBUTE
  return absl::OkStatus();
}

absl::Status CheckBytes(uint32_t layer, absl::string_view what, CudaPointer to, size_t bytes,
                        std::span<uint8_t> from) {
  if (bytes > from.size()) {
    return absl::InvalidArgumentError(absl::StrCat("layer ", layer, ": a copy of ", bytes,
                                                   " bytes of ", what, ", it has ", from.size()));
  }
  if (bytes > 0 && to == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("layer ", layer, ": ", bytes, " bytes of ", what, " to a null address"));
  }
  return absl::OkStatus();
}

}  // namespace

struct StreamWords::Layer {
  StreamLayer host;
  CUdeviceptr word = 0;
  CUevent begin = nullptr;   // what was on the caller's stream when the copy was started
  CUevent copied = nullptr;  // the copy's end
  bool copying = false;      // started and not waited for
};

// Destroyed, as far as it was made, from the last member to the first, in its context.
struct StreamWords::State {
  ~State();

  std::unique_ptr<CudaDriver> driver;
  CUcontext context = nullptr;
  std::optional<PageLock> pages;
  CUstream copies = nullptr;
  CUevent free = nullptr;
  bool marked = false;
  std::vector<Layer> layers;
};

StreamWords::State::~State() {
  if (context == nullptr) return;
  const CurrentContext current(*driver, context);
  // A context that is gone has taken all of this with it: these calls fail then, and nobody minds.
  if (copies != nullptr) driver->cuStreamSynchronize(copies);
  for (const Layer& layer : layers) {
    for (const CUevent event : {layer.begin, layer.copied}) {
      if (event != nullptr) driver->cuEventDestroy(event);
    }
  }
  if (free != nullptr) driver->cuEventDestroy(free);
  if (copies != nullptr) driver->cuStreamDestroy(copies);
  pages.reset();
}

absl::StatusOr<std::vector<StreamLayer>> StreamLayersOf(const Slot& slot,
                                                        const std::vector<uint32_t>& layers) {
  std::vector<StreamLayer> found;
  for (const uint32_t layer : layers) {
    uint64_t* const word = slot.word(layer);
    if (word == nullptr) return absl::NotFoundError(absl::StrCat("the slot has no layer ", layer));
    found.push_back({layer, word, slot.rows(layer), slot.scales(layer)});
  }
  return found;
}

StreamWords::StreamWords(std::unique_ptr<State> state) : state_(std::move(state)) {}
StreamWords::~StreamWords() = default;

absl::StatusOr<std::unique_ptr<StreamWords>> StreamWords::Create(
    const StreamWordsOptions& options) {
  RETURN_IF_ERROR(CheckLayers(options.layers));
  auto state = std::make_unique<State>();
  ASSIGN_OR_RETURN(state->driver, CudaDriver::Open(options.driver));
  RETURN_IF_ERROR(ENGRAM_CUDA(*state->driver, cuCtxGetCurrent, &state->context));
  if (state->context == nullptr) {
    return absl::FailedPreconditionError("no CUDA context is current in this thread");
  }
  RETURN_IF_ERROR(Prepare(*state, options));
  for (const Layer& layer : state->layers) {
    std::atomic_ref<uint64_t>(*layer.host.word).store(kWordPending, std::memory_order_release);
  }
  return std::unique_ptr<StreamWords>(new StreamWords(std::move(state)));
}

absl::Status StreamWords::Prepare(State& state, const StreamWordsOptions& options) {
  const CudaDriver& driver = *state.driver;
  RETURN_IF_ERROR(CheckDevice(driver));
  if (!options.registered) {
    std::vector<std::span<const uint8_t>> buffers;
    for (const StreamLayer& layer : options.layers) {
      buffers.push_back({reinterpret_cast<const uint8_t*>(layer.word), sizeof(uint64_t)});
      buffers.push_back(layer.rows);
      buffers.push_back(layer.scales);
    }
    state.pages.emplace(driver);
    RETURN_IF_ERROR(state.pages->Lock(std::move(buffers)));
  }
  // It must not wait for the legacy default stream, which may wait for a word.
  RETURN_IF_ERROR(
      ENGRAM_CUDA(driver, cuStreamCreate, &state.copies, unsigned{CU_STREAM_NON_BLOCKING}));
  const unsigned untimed = CU_EVENT_DISABLE_TIMING;
  RETURN_IF_ERROR(ENGRAM_CUDA(driver, cuEventCreate, &state.free, untimed));
  for (const StreamLayer& host : options.layers) {
    Layer& layer = state.layers.emplace_back();
    layer.host = host;
    ASSIGN_OR_RETURN(layer.word, options.registered ? MappedAddress(driver, host.word)
                                                    : state.pages->DeviceAddress(host.word));
    RETURN_IF_ERROR(ENGRAM_CUDA(driver, cuEventCreate, &layer.begin, untimed));
    RETURN_IF_ERROR(ENGRAM_CUDA(driver, cuEventCreate, &layer.copied, untimed));
  }
  return absl::OkStatus();
}

absl::StatusOr<StreamWords::Layer*> StreamWords::Find(uint32_t layer) const {
  for (Layer& known : state_->layers) {
    if (known.host.layer == layer) return &known;
  }
  return absl::NotFoundError(absl::StrCat("no layer ", layer, " among those given"));
}

absl::Status StreamWords::Wait(uint32_t layer, CudaStream stream) {
  ASSIGN_OR_RETURN(const Layer* const known, Find(layer));
  const CudaDriver& driver = *state_->driver;
  const CurrentContext current(driver, state_->context);
  RETURN_IF_ERROR(current.status());
  return ENGRAM_CUDA(driver, cuStreamWaitValue64, stream, known->word, kReleased,
                     unsigned{CU_STREAM_WAIT_VALUE_GEQ});
}

absl::Status StreamWords::StartCopy(uint32_t layer, const DeviceRows& to, CudaStream stream) {
  ASSIGN_OR_RETURN(Layer* const known, Find(layer));
  const StreamLayer& host = known->host;
  RETURN_IF_ERROR(CheckBytes(layer, "rows", to.rows, to.rows_bytes, host.rows));
  RETURN_IF_ERROR(CheckBytes(layer, "scales", to.scales, to.scales_bytes, host.scales));
  if (known->copying) {
    return absl::FailedPreconditionError(
        absl::StrCat("layer ", layer, ": its last copy was not waited for"));
  }
  const CudaDriver& driver = *state_->driver;
  const CurrentContext current(driver, state_->context);
  RETURN_IF_ERROR(current.status());
  const CUstream copies = state_->copies;
  RETURN_IF_ERROR(ENGRAM_CUDA(driver, cuEventRecord, known->begin, stream));
  RETURN_IF_ERROR(ENGRAM_CUDA(driver, cuStreamWaitEvent, copies, known->begin, 0));
  RETURN_IF_ERROR(ENGRAM_CUDA(driver, cuStreamWaitValue64, copies, known->word, kReleased,
                              unsigned{CU_STREAM_WAIT_VALUE_GEQ}));
  if (to.rows_bytes > 0) {
    RETURN_IF_ERROR(
        ENGRAM_CUDA(driver, cuMemcpyHtoDAsync, to.rows, host.rows.data(), to.rows_bytes, copies));
  }
  if (to.scales_bytes > 0) {
    RETURN_IF_ERROR(ENGRAM_CUDA(driver, cuMemcpyHtoDAsync, to.scales, host.scales.data(),
                                to.scales_bytes, copies));
  }
  RETURN_IF_ERROR(ENGRAM_CUDA(driver, cuEventRecord, known->copied, copies));
  known->copying = true;
  return absl::OkStatus();
}

absl::Status StreamWords::WaitForCopy(uint32_t layer, CudaStream stream) {
  ASSIGN_OR_RETURN(Layer* const known, Find(layer));
  if (!known->copying) {
    return absl::FailedPreconditionError(absl::StrCat("layer ", layer, ": no copy was started"));
  }
  const CudaDriver& driver = *state_->driver;
  const CurrentContext current(driver, state_->context);
  RETURN_IF_ERROR(current.status());
  RETURN_IF_ERROR(ENGRAM_CUDA(driver, cuStreamWaitEvent, stream, known->copied, 0));
  known->copying = false;
  return absl::OkStatus();
}

absl::Status StreamWords::ResetWords(CudaStream stream) {
  const CudaDriver& driver = *state_->driver;
  const CurrentContext current(driver, state_->context);
  RETURN_IF_ERROR(current.status());
  for (const Layer& layer : state_->layers) {
    RETURN_IF_ERROR(ENGRAM_CUDA(driver, cuStreamWriteValue64, stream, layer.word, kWordPending,
                                unsigned{CU_STREAM_WRITE_VALUE_DEFAULT}));
  }
  return absl::OkStatus();
}

absl::Status StreamWords::MarkFree(CudaStream stream) {
  const CudaDriver& driver = *state_->driver;
  const CurrentContext current(driver, state_->context);
  RETURN_IF_ERROR(current.status());
  RETURN_IF_ERROR(ENGRAM_CUDA(driver, cuEventRecord, state_->free, stream));
  state_->marked = true;
  return absl::OkStatus();
}

absl::Status StreamWords::WaitUntilFree() {
  if (!state_->marked) return absl::OkStatus();
  const CudaDriver& driver = *state_->driver;
  const CurrentContext current(driver, state_->context);
  RETURN_IF_ERROR(current.status());
  return ENGRAM_CUDA(driver, cuEventSynchronize, state_->free);
}

CudaPointer StreamWords::word(uint32_t layer) const {
  const auto known = Find(layer);
  return known.ok() ? (*known)->word : 0;
}

}  // namespace engram
