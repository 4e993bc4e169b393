// Buffers that answers travel in: written once by the gather, handed to gRPC without a copy, and
// used again when gRPC has let go of them.
#ifndef ENGRAM_SERVICE_ANSWER_POOL_H_
#define ENGRAM_SERVICE_ANSWER_POOL_H_

#include <grpcpp/support/slice.h>

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/base/mutex.h"
#include "storage/arena.h"

namespace engram {

// One per serving thread. Buffers of two sizes lie in one arena on huge pages, the last one given
// back is taken first, so that the one in the cache is written again. When all are out (clients
// that read slowly), further ones come from the heap and go back there.
//
// Thread-safe: gRPC may drop a slice on any thread, also after the server is gone. A buffer's
// states:
//   1. free: in the pool's list, nobody touches it
//   2. filling: one Buffer owns it
//   3. travelling: a slice made by IntoSlice owns it and the pool; nobody writes
class AnswerPool : public std::enable_shared_from_this<AnswerPool> {
 public:
  static constexpr size_t kSmallBytes = 16 << 10;

  // Buffers of kSmallBytes and of `large_bytes`. ResourceExhausted: no memory for the arena.
  static absl::StatusOr<std::shared_ptr<AnswerPool>> Create(size_t large_bytes);
  ~AnswerPool();

  class Buffer {
   public:
    Buffer(Buffer&& other) noexcept
        : pool_(std::move(other.pool_)), data_(other.data_), bytes_(other.bytes_) {
      other.data_ = nullptr;
    }
    Buffer& operator=(Buffer&&) = delete;
    ~Buffer();

    uint8_t* data() { return data_; }  // aligned to 64 bytes
    size_t bytes() const { return bytes_; }

    // Bytes [begin, end) as a slice that gives the buffer back when gRPC drops it.
    grpc::Slice IntoSlice(size_t begin, size_t end) &&;

   private:
    friend class AnswerPool;
    Buffer(std::shared_ptr<AnswerPool> pool, uint8_t* data, size_t bytes)
        : pool_(std::move(pool)), data_(data), bytes_(bytes) {}

    std::shared_ptr<AnswerPool> pool_;
    uint8_t* data_;
    size_t bytes_;
  };

  // A buffer that holds `bytes`, at most the large size.
  Buffer Take(size_t bytes);
  size_t large_bytes() const { return sizes_[1].bytes; }

 private:
  struct Size {
    size_t bytes = 0;
    std::vector<uint8_t*> free;
  };

  AnswerPool(Arena arena, size_t large_bytes);
  void GiveBack(uint8_t* data, size_t bytes);
  bool InArena(const uint8_t* data) const;

  const Arena arena_;
  Mutex mutex_;
  std::array<Size, 2> sizes_;  // their free lists are guarded by mutex_
};

}  // namespace engram

#endif  // ENGRAM_SERVICE_ANSWER_POOL_H_
