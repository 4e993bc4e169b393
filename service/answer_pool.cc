#include "service/answer_pool.h"

#include <new>
#include <utility>

#include "proto/base/status_macros.h"

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace engram {
namespace {

constexpr std::align_val_t kAlignment{64};
// A stream has one large piece under way beside what gRPC still sends: these serve a dozen clients
// that read as fast as they can.
constexpr size_t kLargeBuffers = 24;
constexpr size_t kSmallBuffers = 128;

// gRPC orders the handing over of a slice before its dropping, but Debian's build of it is not
// instrumented: ThreadSanitizer is told here.
#if defined(__SANITIZE_THREAD__)
void HandOver(void* buffer) { __tsan_release(buffer); }
void TakeBack(void* buffer) { __tsan_acquire(buffer); }
#else
void HandOver(void*) {}
void TakeBack(void*) {}
#endif

// A free buffer must not be touched: AddressSanitizer is told, as for memory from the heap.
#if defined(__SANITIZE_ADDRESS__)
void MarkFree(void* data, size_t bytes) { __asan_poison_memory_region(data, bytes); }
void MarkTaken(void* data, size_t bytes) { __asan_unpoison_memory_region(data, bytes); }
#else
void MarkFree(void*, size_t) {}
void MarkTaken(void*, size_t) {}
#endif

}  // namespace

absl::StatusOr<std::shared_ptr<AnswerPool>> AnswerPool::Create(size_t large_bytes) {
  large_bytes = (large_bytes + 4095) & ~size_t{4095};
  ASSIGN_OR_RETURN(Arena arena,
                   Arena::Create(kLargeBuffers * large_bytes + kSmallBuffers * kSmallBytes));
  return std::shared_ptr<AnswerPool>(new AnswerPool(std::move(arena), large_bytes));
}

AnswerPool::AnswerPool(Arena arena, size_t large_bytes) : arena_(std::move(arena)) {
  uint8_t* next = arena_.data();
  const auto add = [&next](Size& size, size_t bytes, size_t count) {
    size.bytes = bytes;
    for (size_t i = 0; i < count; ++i, next += bytes) size.free.push_back(next);
  };
  MarkFree(arena_.data(), arena_.bytes());
  add(sizes_[0], kSmallBytes, kSmallBuffers);
  add(sizes_[1], large_bytes, kLargeBuffers);
}

AnswerPool::~AnswerPool() { MarkTaken(arena_.data(), arena_.bytes()); }

bool AnswerPool::InArena(const uint8_t* data) const {
  return data >= arena_.data() && data < arena_.data() + arena_.bytes();
}

AnswerPool::Buffer AnswerPool::Take(size_t bytes) {
  Size& size = sizes_[bytes <= kSmallBytes ? 0 : 1];
  {
    MutexLock lock(&mutex_);
    if (!size.free.empty()) {
      uint8_t* data = size.free.back();
      size.free.pop_back();
      MarkTaken(data, size.bytes);
      return Buffer(shared_from_this(), data, size.bytes);
    }
  }
  return Buffer(shared_from_this(), static_cast<uint8_t*>(operator new[](size.bytes, kAlignment)),
                size.bytes);
}

void AnswerPool::GiveBack(uint8_t* data, size_t bytes) {
  if (!InArena(data)) return operator delete[](data, kAlignment);
  MarkFree(data, bytes);
  MutexLock lock(&mutex_);
  sizes_[bytes == kSmallBytes ? 0 : 1].free.push_back(data);
}

AnswerPool::Buffer::~Buffer() {
  if (data_ != nullptr) pool_->GiveBack(data_, bytes_);
}

grpc::Slice AnswerPool::Buffer::IntoSlice(size_t begin, size_t end) && {
  uint8_t* data = data_;
  auto* owner = new Buffer(std::move(*this));
  HandOver(owner);
  const auto drop = [](void* buffer) {
    TakeBack(buffer);
    delete static_cast<Buffer*>(buffer);
  };
  return grpc::Slice(data + begin, end - begin, drop, owner);
}

}  // namespace engram
