#include "tests/bench/overlap/link_forwarder.h"

#include <unistd.h>

namespace engram::bench {
namespace {

constexpr size_t kPacketBytes = 16 << 10;  // above any MTU in use
constexpr int kPacketsAtOnce = 32;         // of one way, before the other has its turn

}  // namespace

LinkForwarder::LinkForwarder(int one, int other, uint64_t seed)
    : random_(seed), there_{one, other, {}}, back_{other, one, {}} {}

void LinkForwarder::Carry(std::chrono::nanoseconds delay, double loss) {
  Read(there_, delay, loss);
  Write(there_);
  Read(back_, delay, loss);
  Write(back_);
}

void LinkForwarder::Read(Way& way, std::chrono::nanoseconds delay, double loss) {
  std::uniform_real_distribution<double> share(0, 1);
  for (int i = 0; i < kPacketsAtOnce; ++i) {
    if (spare_.empty()) spare_.emplace_back(kPacketBytes);
    spare_.back().resize(kPacketBytes);
    const ssize_t got = read(way.from, spare_.back().data(), kPacketBytes);
    if (got <= 0) return;
    if (loss > 0 && share(random_) < loss) continue;
    spare_.back().resize(static_cast<size_t>(got));
    way.queue.push_back({Clock::now() + delay, std::move(spare_.back())});
    spare_.pop_back();
  }
}

void LinkForwarder::Write(Way& way) {
  if (way.queue.empty()) return;
  const Clock::time_point now = Clock::now();
  while (!way.queue.empty() && way.queue.front().due <= now) {
    std::vector<uint8_t>& bytes = way.queue.front().bytes;
    // A device that takes no packet loses it, as a full queue of a switch does.
    if (write(way.to, bytes.data(), bytes.size()) < 0) bytes.clear();
    spare_.push_back(std::move(bytes));
    way.queue.pop_front();
  }
}

}  // namespace engram::bench
