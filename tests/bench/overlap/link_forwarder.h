#ifndef ENGRAM_TESTS_BENCH_OVERLAP_LINK_FORWARDER_H_
#define ENGRAM_TESTS_BENCH_OVERLAP_LINK_FORWARDER_H_

#include <chrono>
#include <cstdint>
#include <deque>
#include <random>
#include <vector>

namespace engram::bench {

// Carries packets between two non-blocking descriptors, each way in order, a delay after they were
// read, and loses some. For one thread, which calls Carry without end.
class LinkForwarder {
 public:
  // Borrows both. `seed` decides which packets are lost.
  LinkForwarder(int one, int other, uint64_t seed = 1);

  // Reads what there is (a bounded number of packets) and writes what is due.
  void Carry(std::chrono::nanoseconds delay, double loss);

 private:
  using Clock = std::chrono::steady_clock;
  struct Packet {
    Clock::time_point due;
    std::vector<uint8_t> bytes;
  };
  struct Way {
    int from;
    int to;
    std::deque<Packet> queue;
  };

  void Read(Way& way, std::chrono::nanoseconds delay, double loss);
  void Write(Way& way);

  std::mt19937_64 random_;
  Way there_;
  Way back_;
  std::vector<std::vector<uint8_t>> spare_;  // buffers to use again
};

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_OVERLAP_LINK_FORWARDER_H_
