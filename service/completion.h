// What the tags of a completion queue point to.
#ifndef ENGRAM_SERVICE_COMPLETION_H_
#define ENGRAM_SERVICE_COMPLETION_H_

#include <grpc/support/time.h>
#include <grpcpp/alarm.h>

#include <functional>
#include <utility>

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>

extern "C" {
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
}
#endif

namespace engram {

// Lives as long as an operation that was started with its tag. gRPC orders the start of an
// operation before its event; Debian's build of gRPC is not instrumented, so ThreadSanitizer is
// told here.
class Completion {
 public:
  // `then` runs on the thread that takes the event; `ok` is the event's.
  explicit Completion(std::function<void(bool ok)> then) : then_(std::move(then)) {}
  Completion(const Completion&) = delete;
  Completion& operator=(const Completion&) = delete;

  // For starting an operation.
  void* Tag() {
#if defined(__SANITIZE_THREAD__)
    __tsan_release(this);
#endif
    return this;
  }

  // The completion of an event that was taken off a queue.
  static Completion& Of(void* tag) {
#if defined(__SANITIZE_THREAD__)
    __tsan_acquire(tag);
#endif
    return *static_cast<Completion*>(tag);
  }

  void Run(bool ok) const { then_(ok); }

 private:
  const std::function<void(bool)> then_;
};

// Has the queue's thread run `back`, which sees all that this one has done. From any thread;
// whatever belongs to `back` may be gone when it returns.
inline void BringBack(grpc::Alarm& alarm, grpc::CompletionQueue* queue, Completion& back) {
  const gpr_timespec now = gpr_now(GPR_CLOCK_MONOTONIC);
  alarm.Set(queue, now, back.Tag());  // All else has been read before the tag is taken.
}

// While it lives, ThreadSanitizer does not look at this thread's reads: for taking apart what
// gRPC's threads have received, whose order it does not see.
class GrpcMemoryReads {
 public:
#if defined(__SANITIZE_THREAD__)
  GrpcMemoryReads() { AnnotateIgnoreReadsBegin(__FILE__, __LINE__); }
  ~GrpcMemoryReads() { AnnotateIgnoreReadsEnd(__FILE__, __LINE__); }
#else
  GrpcMemoryReads() {}
#endif
  GrpcMemoryReads(const GrpcMemoryReads&) = delete;
};

}  // namespace engram

#endif  // ENGRAM_SERVICE_COMPLETION_H_
