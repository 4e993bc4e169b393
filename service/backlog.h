// What a thread has still to answer, and what would come too late behind it.
#ifndef ENGRAM_SERVICE_BACKLOG_H_
#define ENGRAM_SERVICE_BACKLOG_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "proto/wire.h"

namespace engram {

// A request that would come too late is refused when it comes: that costs a few bytes, and its
// client hears of it while there is time to ask elsewhere. How long answers take is what the thread
// has done of late without a pause; a thread that waits for something to do has no backlog. Each
// that is refused is told when to come again, one after the other, no sooner than there may be
// room: so any number of clients, each of which sees its own requests alone (client/shedding.h),
// ask together for what can be answered. Of one thread; all times in ns, of one clock, which may be
// set.
class Backlog {
 public:
  // What one stream waits for. It leaves with its life.
  class Stream {
   public:
    explicit Stream(Backlog& backlog);
    ~Stream();
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;

    void Add(WirePriority priority, uint64_t bytes) { Bytes(priority) += bytes; }
    // Answered, or not wanted any more.
    void Subtract(WirePriority priority, uint64_t bytes) { Bytes(priority) -= bytes; }
    // Nothing of it is answered while its client does not read what was.
    void BeginWrite(int64_t now_ns) { writing_since_ns_ = now_ns; }
    void EndWrite() { writing_since_ns_ = INT64_MAX; }

    // 0: a request of so many bytes can be answered within `budget_ns`, as far as is known. Else it
    // cannot, and is worth asking for again after so many ns.
    int64_t Refuse(WirePriority priority, uint64_t bytes, int64_t budget_ns, int64_t now_ns);

   private:
    friend class Backlog;
    uint64_t& Bytes(WirePriority priority) { return bytes_[priority == WirePriority::kPrefill]; }
    // Answered before prefill, or decode, that has `behind` bytes of its own stream before it.
    uint64_t Before(bool prefill, uint64_t behind, int64_t now_ns) const;

    Backlog& backlog_;
    std::array<uint64_t, 2> bytes_{};  // of decode and prefill
    int64_t writing_since_ns_ = INT64_MAX;
  };

  // The thread had nothing to do until now.
  void OnIdle(int64_t now_ns);
  void OnAnswered(uint64_t bytes, int64_t now_ns);

 private:
  std::vector<const Stream*> streams_;
  double ns_per_byte_ = 0;
  int64_t known_until_ns_ = 0;
  // What is being measured: what was answered since when, the last of it when.
  uint64_t measured_bytes_ = 0;
  int64_t since_ns_ = 0;
  int64_t last_ns_ = 0;
  int64_t next_ns_ = 0;  // when who is refused next may come
};

}  // namespace engram

#endif  // ENGRAM_SERVICE_BACKLOG_H_
