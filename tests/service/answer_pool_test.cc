#include "service/answer_pool.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/status_matchers.h"

namespace engram {
namespace {

constexpr size_t kLarge = 100'000;

TEST(AnswerPool, TheLastBufferGivenBackIsTakenFirst) {
  ASSERT_OK_AND_ASSIGN(const auto pool, AnswerPool::Create(kLarge));
  for (const size_t bytes : {size_t{1}, AnswerPool::kSmallBytes, kLarge}) {
    uint8_t* first = nullptr;
    {
      AnswerPool::Buffer buffer = pool->Take(bytes);
      EXPECT_GE(buffer.bytes(), bytes);
      first = buffer.data();
    }
    AnswerPool::Buffer again = pool->Take(bytes);
    EXPECT_EQ(again.data(), first);
    EXPECT_NE(pool->Take(bytes).data(), first);
  }
}

TEST(AnswerPool, MoreBuffersThanTheArenaHoldsAreThere) {
  ASSERT_OK_AND_ASSIGN(const auto pool, AnswerPool::Create(kLarge));
  for (int round = 0; round < 2; ++round) {
    std::vector<AnswerPool::Buffer> taken;
    for (uint8_t i = 0; i < 200; ++i) {
      taken.push_back(pool->Take(i % 2 == 0 ? kLarge : 1));
      std::memset(taken.back().data(), i, taken.back().bytes());
    }
    for (uint8_t i = 0; i < 200; ++i) {
      EXPECT_EQ(taken[i].data()[0], i);
      EXPECT_EQ(taken[i].data()[taken[i].bytes() - 1], i);
    }
  }
}

TEST(AnswerPool, ASliceHoldsItsBytesAndThePool) {
  ASSERT_OK_AND_ASSIGN(auto pool, AnswerPool::Create(kLarge));
  AnswerPool::Buffer buffer = pool->Take(kLarge);
  std::memset(buffer.data(), 'x', kLarge);
  buffer.data()[300] = 'y';
  grpc::Slice slice = std::move(buffer).IntoSlice(300, 1000);
  const std::weak_ptr<AnswerPool> watched = pool;
  pool.reset();
  ASSERT_FALSE(watched.expired());
  EXPECT_EQ(std::string(slice.begin(), slice.end()), "y" + std::string(699, 'x'));
  slice = grpc::Slice();
  EXPECT_TRUE(watched.expired());
}

TEST(AnswerPool, SlicesComeBackOnOtherThreads) {
  ASSERT_OK_AND_ASSIGN(const auto pool, AnswerPool::Create(kLarge));
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&pool, i] {
      for (int round = 0; round < 500; ++round) {
        AnswerPool::Buffer buffer = pool->Take(4096);
        std::memset(buffer.data(), i, 4096);
        const grpc::Slice slice = std::move(buffer).IntoSlice(0, 4096);
        EXPECT_EQ(slice.begin()[4095], i);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace engram
