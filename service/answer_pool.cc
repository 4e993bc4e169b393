#include "service/answer_pool.h"

#include <new>

namespace engram {
namespace {

constexpr std::align_val_t kAlignment{4096};

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
  return grpc::Slice(
      data, size, [](void* buffer) { delete static_cast<Buffer*>(buffer); }, owner);
}

}  // namespace engram
