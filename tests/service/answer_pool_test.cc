#include "service/answer_pool.h"

#include <gtest/gtest.h>

#include <cstring>
#include <thread>
#include <utility>
#include <vector>

namespace engram {
namespace {

TEST(AnswerPool, AReturnedBufferIsTakenAgain) {
  const auto pool = AnswerPool::Create(1000);
  uint8_t* first = nullptr;
  {
    AnswerPool::Buffer buffer = pool->Take();
    first = buffer.data();
  }
  AnswerPool::Buffer again = pool->Take();
  EXPECT_EQ(again.data(), first);
  EXPECT_NE(pool->Take().data(), first);
}

TEST(AnswerPool, ASliceHoldsItsBytesAndThePool) {
  auto pool = AnswerPool::Create(1000);
  AnswerPool::Buffer buffer = pool->Take();
  std::memset(buffer.data(), 'x', 1000);
  grpc::Slice slice = std::move(buffer).IntoSlice(700);
  const std::weak_ptr<AnswerPool> watched = pool;
  pool.reset();
  ASSERT_FALSE(watched.expired());
  EXPECT_EQ(std::string(slice.begin(), slice.end()), std::string(700, 'x'));
  slice = grpc::Slice();
  EXPECT_TRUE(watched.expired());
}

TEST(AnswerPool, SlicesComeBackOnOtherThreads) {
  const auto pool = AnswerPool::Create(4096);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&pool, i] {
      for (int round = 0; round < 500; ++round) {
        AnswerPool::Buffer buffer = pool->Take();
        std::memset(buffer.data(), i, 4096);
        const grpc::Slice slice = std::move(buffer).IntoSlice(4096);
        EXPECT_EQ(slice.begin()[4095], i);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace engram
