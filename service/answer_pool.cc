#include "service/answer_pool.h"

#include <new>

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace engram {
namespace {

constexpr std::align_val_t kAlignment{4096};

// gRPC orders the handing over of a slice before its dropping, but Debian's build of it is not
// instrumented: ThreadSanitizer is told here.
#if defined(__SANITIZE_THREAD__)
void HandOver(void* buffer) { __tsan_release(buffer); }
void TakeBack(void* buffer) { __tsan_acquire(buffer); }
#else
void HandOver(void*) {}
void TakeBack(void*) {}
#endif

}  // namespace

std::shared_ptr<AnswerPool> AnswerPool::Create(size_t buffer_bytes) {
  return std::shared_ptr<AnswerPool>(new AnswerPool(buffer_bytes));
}

AnswerPool::~AnswerPool() {
  MutexLock lock(&mutex_);
  for (uint8_t* data : free_) operator delete[](data, kAlignment);
}

AnswerPool::Buffer AnswerPool::Take() {
  {
    MutexLock lock(&mutex_);
    if (!free_.empty()) {
      uint8_t* data = free_.back();
      free_.pop_back();
      return Buffer(shared_from_this(), data);
    }
  }
  return Buffer(shared_from_this(),
                static_cast<uint8_t*>(operator new[](buffer_bytes_, kAlignment)));
}

void AnswerPool::GiveBack(uint8_t* data) {
  MutexLock lock(&mutex_);
  if (free_.size() < kMaxFree) {
    free_.push_back(data);
  } else {
    operator delete[](data, kAlignment);
  }
}

AnswerPool::Buffer::~Buffer() {
  if (data_ != nullptr) pool_->GiveBack(data_);
}

grpc::Slice AnswerPool::Buffer::IntoSlice(size_t size) && {
  uint8_t* data = data_;
  auto* owner = new Buffer(std::move(*this));
  HandOver(owner);
  const auto drop = [](void* buffer) {
    TakeBack(buffer);
    delete static_cast<Buffer*>(buffer);
  };
  return grpc::Slice(data, size, drop, owner);
}

}  // namespace engram
