// Buffers that answers travel in: written once by the gather, handed to gRPC without a copy, and
// used again when gRPC has let go of them.
#ifndef ENGRAM_SERVICE_ANSWER_POOL_H_
#define ENGRAM_SERVICE_ANSWER_POOL_H_

#include <grpcpp/support/slice.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "proto/base/mutex.h"

namespace engram {

// Thread-safe: gRPC may drop a slice on any thread, also after the server is gone. A buffer's
// states:
//   1. free: in the pool's list, nobody touches it
//   2. filling: one Buffer owns it
//   3. travelling: a slice made by IntoSlice owns it and the pool; nobody writes
class AnswerPool : public std::enable_shared_from_this<AnswerPool> {
 public:
  static std::shared_ptr<AnswerPool> Create(size_t buffer_bytes);
  ~AnswerPool();

  class Buffer {
   public:
    Buffer(std::shared_ptr<AnswerPool> pool, uint8_t* data) : pool_(std::move(pool)), data_(data) {}
    Buffer(Buffer&& other) noexcept : pool_(std::move(other.pool_)), data_(other.data_) {
      other.data_ = nullptr;
    }
    Buffer& operator=(Buffer&&) = delete;
    ~Buffer();

    uint8_t* data() { return data_; }

    // The first `size` bytes as a slice that gives the buffer back when gRPC drops it.
    grpc::Slice IntoSlice(size_t size) &&;

   private:
    std::shared_ptr<AnswerPool> pool_;
    uint8_t* data_;
  };

  Buffer Take();
  size_t buffer_bytes() const { return buffer_bytes_; }

 private:
  explicit AnswerPool(size_t buffer_bytes) : buffer_bytes_(buffer_bytes) {}
  void GiveBack(uint8_t* data);

  // Beyond so many free buffers memory goes back to the system.
  static constexpr size_t kMaxFree = 256;

  const size_t buffer_bytes_;
  Mutex mutex_;
  std::vector<uint8_t*> free_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace engram

#endif  // ENGRAM_SERVICE_ANSWER_POOL_H_
