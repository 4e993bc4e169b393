// Streams that wait for words, on the stand-in of the driver.
#include "client/cuda/stream_words.h"

#include <random>
#include <thread>

#include "tests/cuda/stream_fixture.h"

namespace engram {
namespace {

using testing::ElementsAre;

bool AllAre(const std::vector<uint8_t>& bytes, uint8_t byte) {
  return std::all_of(bytes.begin(), bytes.end(), [byte](uint8_t b) { return b == byte; });
}

TEST_F(StreamTest, AWaitIsReleasedByReadyAndByError) {
  for (const uint64_t released : {kWordReady, kWordError}) {
    HostLayers host;
    const auto words = Create(host.Layers());
    ASSERT_NE(words, nullptr);
    EXPECT_EQ(host.words[0], kWordPending);
    EXPECT_EQ(host.words[1], kWordPending);
    TestStream stream;
    std::atomic<bool> there = false;
    std::atomic<uint64_t> seen = 77;
    stream.Launch([&] { there = true; });
    ASSERT_THAT(words->Wait(14, stream), IsOk());
    stream.Launch([&] { seen = host.Word(1); });
    ASSERT_TRUE(Eventually([&] { return there.load(); }));
    host.Finish(0, 1);  // another layer's
    EXPECT_FALSE(fake_cuda::IsIdle(stream));
    EXPECT_EQ(seen, 77u);
    host.Finish(1, 2, released);
    stream.Synchronize();
    EXPECT_EQ(seen, released);
  }
}

TEST_F(StreamTest, AWordThatIsThereReleasesAtOnce) {
  HostLayers host;
  const auto words = Create(host.Layers());
  ASSERT_NE(words, nullptr);
  host.Finish(0, 1);
  TestStream stream;
  ASSERT_THAT(words->Wait(1, stream), IsOk());
  stream.Synchronize();
}

TEST_F(StreamTest, CallsAreTheDriversInTheirOrder) {
  HostLayers host;
  const auto words = Create(host.Layers());
  ASSERT_NE(words, nullptr);
  TestStream stream;
  std::vector<uint8_t> device(HostLayers::kRows), scales(HostLayers::kScales);
  const auto calls_of = [](const std::function<absl::Status()>& call) {
    const size_t before = fake_cuda::Calls().size();
    EXPECT_THAT(call(), IsOk());
    const std::vector<std::string> all = fake_cuda::Calls();
    return std::vector<std::string>(all.begin() + static_cast<ptrdiff_t>(before), all.end());
  };
  EXPECT_THAT(calls_of([&] { return words->Wait(1, stream); }), ElementsAre("cuStreamWaitValue64"));
  EXPECT_THAT(calls_of([&] {
                return words->StartCopy(
                    1, {OnDevice(device), device.size(), OnDevice(scales), scales.size()}, stream);
              }),
              ElementsAre("cuEventRecord", "cuStreamWaitEvent", "cuStreamWaitValue64",
                          "cuMemcpyHtoDAsync", "cuMemcpyHtoDAsync", "cuEventRecord"));
  EXPECT_THAT(calls_of([&] { return words->WaitForCopy(1, stream); }),
              ElementsAre("cuStreamWaitEvent"));
  EXPECT_THAT(calls_of([&] { return words->ResetWords(stream); }),
              ElementsAre("cuStreamWriteValue64", "cuStreamWriteValue64"));
  EXPECT_THAT(calls_of([&] { return words->WaitUntilFree(); }), ElementsAre());
  EXPECT_THAT(calls_of([&] { return words->MarkFree(stream); }), ElementsAre("cuEventRecord"));
  host.Finish(0, 1);
  EXPECT_THAT(calls_of([&] { return words->WaitUntilFree(); }), ElementsAre("cuEventSynchronize"));
}

// Steps of a host that launches first or submits first, a library that finishes layers whenever,
// and kernels that must see the rows of their step alone.
TEST_F(StreamTest, ManyStepsWhoseWordsTheStreamResets) {
  HostLayers host;
  const auto words = Create(host.Layers());
  ASSERT_NE(words, nullptr);
  TestStream stream;
  std::vector<uint8_t> device[2] = {std::vector<uint8_t>(HostLayers::kRows),
                                    std::vector<uint8_t>(HostLayers::kRows)};
  std::vector<uint8_t> scales(HostLayers::kScales);
  std::mt19937 random(5);
  std::atomic<int> wrong = 0, kernels = 0;
  std::thread library;
  const auto submit = [&](uint8_t step) {
    if (library.joinable()) library.join();
    EXPECT_EQ(host.Word(0), kWordPending);
    EXPECT_EQ(host.Word(1), kWordPending);
    library = std::thread([&host, step] {
      host.Finish(0, step);
      host.Finish(1, step % 7 == 0 ? 0 : step, step % 7 == 0 ? kWordError : kWordReady);
    });
  };
  const auto launch = [&](uint8_t step) {
    for (const size_t i : {0, 1}) {
      const DeviceRows to{OnDevice(device[i]), device[i].size(), i == 0 ? OnDevice(scales) : 0,
                          i == 0 ? scales.size() : 0};
      ASSERT_THAT(words->StartCopy(i == 0 ? 1 : 14, to, stream), IsOk());
    }
    ASSERT_THAT(words->WaitForCopy(1, stream), IsOk());
    stream.Launch([&, step] {
      ++kernels;
      if (!AllAre(device[0], step) || !AllAre(scales, static_cast<uint8_t>(step + 1))) ++wrong;
    });
    ASSERT_THAT(words->WaitForCopy(14, stream), IsOk());
    stream.Launch([&, step] {
      ++kernels;
      if (!AllAre(device[1], step % 7 == 0 ? 0 : step)) ++wrong;
    });
    ASSERT_THAT(words->ResetWords(stream), IsOk());
    ASSERT_THAT(words->MarkFree(stream), IsOk());
  };
  for (int i = 0; i < 300; ++i) {
    const auto step = static_cast<uint8_t>(1 + i % 250);
    ASSERT_THAT(words->WaitUntilFree(), IsOk());
    if (random() % 2 == 0) {
      submit(step);
      launch(step);
    } else {
      launch(step);
      submit(step);
    }
  }
  ASSERT_THAT(words->WaitUntilFree(), IsOk());
  library.join();
  EXPECT_EQ(kernels, 600);
  EXPECT_EQ(wrong, 0);
}

TEST_F(StreamTest, ACopyWaitsForWhatReadsTheDevicesRows) {
  HostLayers host;
  const auto words = Create(host.Layers());
  ASSERT_NE(words, nullptr);
  TestStream stream;
  std::vector<uint8_t> device(HostLayers::kRows, 9);
  std::atomic<bool> go = false;
  bool untouched = false;
  host.Finish(0, 5);
  stream.Launch([&] {
    while (!go) std::this_thread::yield();
    untouched = AllAre(device, 9);
  });
  ASSERT_THAT(words->StartCopy(1, {OnDevice(device), device.size()}, stream), IsOk());
  ASSERT_THAT(words->WaitForCopy(1, stream), IsOk());
  go = true;
  stream.Synchronize();
  EXPECT_TRUE(untouched);
  EXPECT_TRUE(AllAre(device, 5));
}

TEST_F(StreamTest, ACopyOfPartOfALayer) {
  HostLayers host;
  const auto words = Create(host.Layers());
  ASSERT_NE(words, nullptr);
  host.Finish(1, 5);
  TestStream stream;
  std::vector<uint8_t> device(HostLayers::kRows, 9);
  ASSERT_THAT(words->StartCopy(14, {OnDevice(device), 300}, stream), IsOk());
  ASSERT_THAT(words->WaitForCopy(14, stream), IsOk());
  stream.Synchronize();
  EXPECT_EQ(device[299], 5);
  EXPECT_EQ(device[300], 9);
  // A step without tokens: nothing is copied, and the stream waits all the same.
  ASSERT_THAT(words->StartCopy(14, {}, stream), IsOk());
  ASSERT_THAT(words->WaitForCopy(14, stream), IsOk());
}

TEST_F(StreamTest, AnyThreadMayCall) {
  HostLayers host;
  const auto words = Create(host.Layers());
  ASSERT_NE(words, nullptr);
  TestStream stream;
  std::thread([&] {
    fake_cuda::SetContextCurrent(false);
    EXPECT_THAT(words->Wait(1, stream), IsOk());
    EXPECT_THAT(words->MarkFree(stream), IsOk());
    host.Finish(0, 1);
    EXPECT_THAT(words->WaitUntilFree(), IsOk());
    EXPECT_EQ(fake_cuda::WhatIsLeft().contexts, -1);
  }).join();
}

TEST_F(StreamTest, PagesAreLockedOnceAndLetGo) {
  // Words and rows in one page, rows of the other layer in one of their own.
  constexpr size_t kPage = 4096;
  alignas(kPage) static uint8_t memory[4 * kPage];
  auto* const word = reinterpret_cast<uint64_t*>(memory);
  const std::vector<StreamLayer> layers = {
      {1, word, std::span(memory).subspan(64, 200)},
      {14, word + 1, std::span(memory).subspan(3 * kPage + 100, 100)}};
  {
    const auto words = Create(layers);
    ASSERT_NE(words, nullptr);
    EXPECT_EQ(fake_cuda::WhatIsLeft().registered_bytes, 2 * kPage);
    EXPECT_EQ(words->word(14), words->word(1) + 8);
    EXPECT_NE(words->word(1), reinterpret_cast<CudaPointer>(word));
    EXPECT_EQ(words->word(2), 0u);
  }
  EXPECT_EQ(fake_cuda::WhatIsLeft().registered_bytes, 0u);
  EXPECT_NE(Create(layers), nullptr);  // once more
}

TEST_F(StreamTest, MemoryThatTheCallerHasRegistered) {
  HostLayers host;
  const size_t bytes = sizeof(host.words);
  ASSERT_EQ(cuMemHostRegister(host.words, bytes, CU_MEMHOSTREGISTER_DEVICEMAP), CUDA_SUCCESS);
  ASSERT_EQ(cuMemHostRegister(host.rows[0].data(), HostLayers::kRows, CU_MEMHOSTREGISTER_DEVICEMAP),
            CUDA_SUCCESS);
  EXPECT_THAT(TryCreate(host.Layers()),
              StatusIs(Code::kAlreadyExists,
                       "cuMemHostRegister: CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED"));
  {
    const auto words = Create(host.Layers(), /*registered=*/true);
    ASSERT_NE(words, nullptr);
    TestStream stream;
    std::vector<uint8_t> device(HostLayers::kRows);
    ASSERT_THAT(words->StartCopy(1, {OnDevice(device), device.size()}, stream), IsOk());
    ASSERT_THAT(words->WaitForCopy(1, stream), IsOk());
    host.Finish(0, 3);
    stream.Synchronize();
    EXPECT_TRUE(AllAre(device, 3));
  }
  EXPECT_EQ(fake_cuda::WhatIsLeft().registered_bytes, bytes + HostLayers::kRows);
  EXPECT_EQ(cuMemHostUnregister(host.words), CUDA_SUCCESS);
  EXPECT_EQ(cuMemHostUnregister(host.rows[0].data()), CUDA_SUCCESS);
}

TEST_F(StreamTest, DestructionWaitsForCopies) {
  HostLayers host;
  auto words = Create(host.Layers());
  ASSERT_NE(words, nullptr);
  TestStream stream;
  std::vector<uint8_t> device(HostLayers::kRows);
  ASSERT_THAT(words->StartCopy(1, {OnDevice(device), device.size()}, stream), IsOk());
  std::thread library([&] { host.Finish(0, 4); });
  words.reset();
  EXPECT_TRUE(AllAre(device, 4));
  library.join();
}

}  // namespace
}  // namespace engram
