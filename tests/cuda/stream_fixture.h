// What tests of streams share: words and rows as a slot has them, and streams of the stand-in.
#ifndef ENGRAM_TESTS_CUDA_STREAM_FIXTURE_H_
#define ENGRAM_TESTS_CUDA_STREAM_FIXTURE_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "client/cuda/stream_words.h"
#include "tests/cuda/fake_cuda.h"
#include "tests/cuda/fake_stream.h"
#include "tests/support/status_matchers.h"

namespace engram {

using Code = absl::StatusCode;

// A stream of the caller's.
class TestStream {
 public:
  TestStream() { EXPECT_EQ(cuStreamCreate(&stream_, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS); }
  ~TestStream() { EXPECT_EQ(cuStreamDestroy(stream_), CUDA_SUCCESS); }
  TestStream(const TestStream&) = delete;

  operator CUstream() const { return stream_; }  // NOLINT: it is one
  // As a kernel.
  void Launch(std::function<void()> work) { stream_->Enqueue(std::move(work)); }
  void Synchronize() { stream_->Synchronize(); }

 private:
  CUstream stream_ = nullptr;
};

inline CudaPointer OnDevice(std::vector<uint8_t>& memory) {
  return reinterpret_cast<CudaPointer>(memory.data());
}

// True when `condition` holds within 20 seconds.
template <typename Condition>
bool Eventually(Condition condition) {
  const absl::Time limit = absl::Now() + absl::Seconds(20);
  while (!condition() && absl::Now() < limit) {
  }
  return condition();
}

// Two layers' words and rows, and what the library does to them.
struct HostLayers {
  static constexpr size_t kRows = 1000;
  static constexpr size_t kScales = 40;

  HostLayers() {
    for (size_t i = 0; i < 2; ++i) {
      rows[i].assign(kRows, 0);
      scales[i].assign(kScales, 0);
    }
  }
  std::vector<StreamLayer> Layers() {
    return {{1, &words[0], rows[0], scales[0]}, {14, &words[1], rows[1], scales[1]}};
  }
  // As a layer whose rows came: rows, then the word with release order.
  void Finish(size_t layer, uint8_t byte, uint64_t word = kWordReady) {
    std::fill(rows[layer].begin(), rows[layer].end(), byte);
    std::fill(scales[layer].begin(), scales[layer].end(), static_cast<uint8_t>(byte + 1));
    std::atomic_ref<uint64_t>(words[layer]).store(word, std::memory_order_release);
  }
  uint64_t Word(size_t layer) {
    return std::atomic_ref<uint64_t>(words[layer]).load(std::memory_order_acquire);
  }

  alignas(8) uint64_t words[2] = {77, 77};
  std::vector<uint8_t> rows[2], scales[2];
};

class StreamTest : public testing::Test {
 protected:
  StreamTest() { fake_cuda::Reset(); }
  void TearDown() override {
    const fake_cuda::Left left = fake_cuda::WhatIsLeft();
    EXPECT_EQ(left.streams, 0u);
    EXPECT_EQ(left.events, 0u);
    EXPECT_EQ(left.registered_bytes, 0u);
    EXPECT_EQ(left.contexts, 0);
    EXPECT_EQ(fake_cuda::Faults(), 0);
  }

  static absl::StatusOr<std::unique_ptr<StreamWords>> TryCreate(std::vector<StreamLayer> layers,
                                                                bool registered = false) {
    return StreamWords::Create(
        {.layers = std::move(layers), .registered = registered, .driver = ENGRAM_FAKE_CUDA_PATH});
  }
  static std::unique_ptr<StreamWords> Create(std::vector<StreamLayer> layers,
                                             bool registered = false) {
    auto words = TryCreate(std::move(layers), registered);
    EXPECT_THAT(words, IsOk());
    return words.ok() ? *std::move(words) : nullptr;
  }
};

}  // namespace engram

#endif  // ENGRAM_TESTS_CUDA_STREAM_FIXTURE_H_
