// Streams and words when a call is wrong, or the driver says no.
#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/cuda/stream_words.h"
#include "tests/cuda/stream_fixture.h"

namespace engram {
namespace {

TEST_F(StreamTest, WithoutADriver) {
  HostLayers host;
  EXPECT_THAT(StreamWords::Create({.layers = host.Layers(), .driver = "libengram_no_such.so"}),
              StatusIs(Code::kUnimplemented,
                       "no CUDA driver: libengram_no_such.so: cannot open shared object file"));
  EXPECT_THAT(StreamWords::Create({.layers = host.Layers(), .driver = "libm.so.6"}),
              StatusIs(Code::kUnimplemented, "the CUDA driver libm.so.6 has no cuInit"));
  EXPECT_EQ(host.words[0], 77u);
}

TEST_F(StreamTest, WithoutAContext) {
  HostLayers host;
  fake_cuda::SetContextCurrent(false);
  EXPECT_THAT(TryCreate(host.Layers()),
              StatusIs(Code::kFailedPrecondition, "no CUDA context is current"));
  fake_cuda::SetContextCurrent(true);
}

TEST_F(StreamTest, WhatTheDeviceLacksIsNamed) {
  HostLayers host;
  fake_cuda::SetAttribute(CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS, 0);
  EXPECT_THAT(TryCreate(host.Layers()),
              StatusIs(Code::kUnimplemented,
                       "the device lacks CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS"));
  fake_cuda::Reset();
  fake_cuda::SetAttribute(CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY, 0);
  EXPECT_THAT(
      TryCreate(host.Layers()),
      StatusIs(Code::kUnimplemented, "the device lacks CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY"));
  EXPECT_EQ(host.words[0], 77u);
}

TEST_F(StreamTest, BadOptionsAreNamed) {
  HostLayers host;
  EXPECT_THAT(TryCreate({}), StatusIs(Code::kInvalidArgument, "option `layers` is empty"));
  std::vector<StreamLayer> layers = host.Layers();
  layers[1].layer = 1;
  EXPECT_THAT(TryCreate(layers), StatusIs(Code::kInvalidArgument, "has layer 1 twice"));
  layers = host.Layers();
  layers[1].word = nullptr;
  EXPECT_THAT(TryCreate(layers), StatusIs(Code::kInvalidArgument, "layer 14: its word is null"));
  layers[1].word = reinterpret_cast<uint64_t*>(host.rows[0].data() + 4);
  EXPECT_THAT(TryCreate(layers), StatusIs(Code::kInvalidArgument, "not aligned to 8 bytes"));
}

TEST_F(StreamTest, BadCallsAreNamed) {
  HostLayers host;
  std::vector<uint8_t> device(2000);  // outlives the copies
  const auto words = Create(host.Layers());
  ASSERT_NE(words, nullptr);
  TestStream stream;
  const CudaPointer to = OnDevice(device);
  const size_t before = fake_cuda::Calls().size();
  EXPECT_THAT(words->Wait(2, stream), StatusIs(Code::kNotFound, "no layer 2 among those given"));
  EXPECT_THAT(words->StartCopy(2, {}, stream), StatusIs(Code::kNotFound, "no layer 2"));
  EXPECT_THAT(words->WaitForCopy(2, stream), StatusIs(Code::kNotFound, "no layer 2"));
  EXPECT_THAT(words->WaitForCopy(1, stream),
              StatusIs(Code::kFailedPrecondition, "layer 1: no copy was started"));
  EXPECT_THAT(
      words->StartCopy(1, {to, 1001}, stream),
      StatusIs(Code::kInvalidArgument, "layer 1: a copy of 1001 bytes of rows, it has 1000"));
  EXPECT_THAT(words->StartCopy(1, {0, 1000}, stream),
              StatusIs(Code::kInvalidArgument, "layer 1: 1000 bytes of rows to a null address"));
  EXPECT_THAT(words->StartCopy(1, {to, 0, to, 41}, stream),
              StatusIs(Code::kInvalidArgument, "a copy of 41 bytes of scales, it has 40"));
  EXPECT_THAT(words->StartCopy(1, {to, 0, 0, 40}, stream),
              StatusIs(Code::kInvalidArgument, "40 bytes of scales to a null address"));
  EXPECT_EQ(fake_cuda::Calls().size(), before);
  host.Finish(0, 1);
  ASSERT_THAT(words->StartCopy(1, {to, 1000}, stream), IsOk());
  EXPECT_THAT(words->StartCopy(1, {to, 1000}, stream),
              StatusIs(Code::kFailedPrecondition, "layer 1: its last copy was not waited for"));
  ASSERT_THAT(words->WaitForCopy(1, stream), IsOk());
  EXPECT_THAT(words->WaitForCopy(1, stream),
              StatusIs(Code::kFailedPrecondition, "no copy was started"));
}

// Whichever call of Create fails: its status, and nothing is left behind.
TEST_F(StreamTest, EveryCallOfCreateFailsInTurn) {
  HostLayers host;
  ASSERT_NE(Create(host.Layers()), nullptr);
  std::vector<std::string> calls = fake_cuda::Calls();
  const auto end = std::find(calls.begin(), calls.end(), "cuStreamSynchronize");  // destruction
  ASSERT_NE(end, calls.end());
  calls.erase(end, calls.end());
  ASSERT_GT(calls.size(), 10u);
  std::map<std::string, int> before;
  for (const std::string& call : calls) {
    host.words[0] = 77;
    fake_cuda::Reset();
    fake_cuda::Fail(call, CUDA_ERROR_LAUNCH_FAILED, before[call]);
    SCOPED_TRACE(testing::Message() << call << " after " << before[call]++);
    EXPECT_THAT(TryCreate(host.Layers()),
                StatusIs(Code::kUnknown, absl::StrCat(call, ": CUDA_ERROR_LAUNCH_FAILED")));
    const fake_cuda::Left left = fake_cuda::WhatIsLeft();
    EXPECT_EQ(left.streams + left.events + left.registered_bytes, 0u);
    EXPECT_EQ(left.contexts, 0);
    EXPECT_EQ(host.words[0], 77u);
  }
}

TEST_F(StreamTest, EveryCallOfAStepFailsInTurn) {
  HostLayers host;
  std::vector<uint8_t> device(HostLayers::kRows), scales(HostLayers::kScales);  // outlive copies
  const auto words = Create(host.Layers());
  ASSERT_NE(words, nullptr);
  host.Finish(0, 1);
  host.Finish(1, 1);
  TestStream stream;
  const DeviceRows to{OnDevice(device), device.size(), OnDevice(scales), scales.size()};
  const auto copy = [&] { return words->StartCopy(1, to, stream); };
  const auto wait_for_copy = [&] { return words->WaitForCopy(1, stream); };
  const struct {
    std::function<absl::Status()> call;
    std::vector<std::pair<std::string, int>> failures;  // of a call, after so many
  } kSteps[] = {
      {[&] { return words->Wait(1, stream); }, {{"cuStreamWaitValue64", 0}}},
      {copy,
       {{"cuEventRecord", 0},
        {"cuStreamWaitEvent", 0},
        {"cuStreamWaitValue64", 0},
        {"cuMemcpyHtoDAsync", 0},
        {"cuMemcpyHtoDAsync", 1},
        {"cuEventRecord", 1}}},
      {wait_for_copy, {{"cuStreamWaitEvent", 0}}},
      {[&] { return words->ResetWords(stream); },
       {{"cuStreamWriteValue64", 0}, {"cuStreamWriteValue64", 1}}},
      {[&] { return words->MarkFree(stream); }, {{"cuEventRecord", 0}}},
      {[&] { return words->WaitUntilFree(); }, {{"cuEventSynchronize", 0}}},
  };
  for (const auto& step : kSteps) {
    auto failures = step.failures;
    failures.push_back({"cuCtxPushCurrent", 0});
    for (const auto& [call, skip] : failures) {
      SCOPED_TRACE(testing::Message() << call << " after " << skip);
      fake_cuda::Fail(call, CUDA_ERROR_LAUNCH_FAILED, skip);
      EXPECT_THAT(step.call(),
                  StatusIs(Code::kUnknown, absl::StrCat(call, ": CUDA_ERROR_LAUNCH_FAILED")));
    }
    EXPECT_THAT(step.call(), IsOk());  // the failure was that call's alone
  }
}

TEST_F(StreamTest, CodesSayWhatToDo) {
  HostLayers host;
  const auto words = Create(host.Layers());
  ASSERT_NE(words, nullptr);
  const std::pair<CUresult, Code> kCodes[] = {
      {CUDA_ERROR_INVALID_VALUE, Code::kInvalidArgument},
      {CUDA_ERROR_INVALID_HANDLE, Code::kInvalidArgument},
      {CUDA_ERROR_INVALID_CONTEXT, Code::kFailedPrecondition},
      {CUDA_ERROR_NOT_INITIALIZED, Code::kFailedPrecondition},
      {CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, Code::kFailedPrecondition},
      {CUDA_ERROR_OUT_OF_MEMORY, Code::kResourceExhausted},
      {CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, Code::kAlreadyExists},
      {CUDA_ERROR_NOT_SUPPORTED, Code::kUnimplemented},
      {CUDA_ERROR_LAUNCH_FAILED, Code::kUnknown}};
  TestStream stream;
  for (const auto& [result, code] : kCodes) {
    fake_cuda::Fail("cuEventRecord", result);
    EXPECT_THAT(words->MarkFree(stream), StatusIs(code, "cuEventRecord: CUDA_ERROR_"));
  }
  // One that this driver has no name for.
  fake_cuda::Fail("cuEventRecord", CUDA_ERROR_TIMEOUT);
  EXPECT_THAT(words->MarkFree(stream), StatusIs(Code::kUnknown, "cuEventRecord: CUDA error 909"));
  EXPECT_THAT(words->Wait(1, nullptr),
              StatusIs(Code::kInvalidArgument, "cuStreamWaitValue64: CUDA_ERROR_INVALID_HANDLE"));
}

}  // namespace
}  // namespace engram
