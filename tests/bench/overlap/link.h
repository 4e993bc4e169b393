// A network link with delay and loss, made of two TUN devices in network namespaces of their own
// and a thread that carries packets between them. Kernels without netem can do this.
#ifndef ENGRAM_TESTS_BENCH_OVERLAP_LINK_H_
#define ENGRAM_TESTS_BENCH_OVERLAP_LINK_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"

namespace engram::bench {

struct LinkOptions {
  absl::Duration delay;  // of a packet, each way
  double loss = 0;       // share of packets, each way

  // "delay=200us,loss=0.1%": either may be left out. InvalidArgument naming the part that is wrong.
  static absl::StatusOr<LinkOptions> Parse(absl::string_view text);
};

// The namespaces have no names and no files: they are gone when this process and those that it
// started on the far side are, however they end.
class Link {
 public:
  static constexpr char kNearAddress[] = "10.231.7.1";
  static constexpr char kFarAddress[] = "10.231.7.2";
  static constexpr int kMtu = 9000;

  // Moves the calling thread, and so every thread and process that it starts from now on, to the
  // link's near side, and starts the forwarder, which polls without end.
  // PermissionDenied without root; Unavailable without /dev/net/tun.
  static absl::StatusOr<std::unique_ptr<Link>> Create(const LinkOptions& options);
  ~Link();

  // Runs `work` with the calling thread on the far side: what it starts or opens stays there.
  absl::Status OnFarSide(const std::function<void()>& work) const;

  // What the link does without delay and loss, and with them: `rtt_us_p50` of 64 bytes over TCP,
  // both ends sleeping, and `gb_per_s` of one TCP connection.
  absl::StatusOr<nlohmann::json> Measure();

 private:
  struct Side {
    int device = -1;      // owned
    int name_space = -1;  // owned
  };

  explicit Link(const LinkOptions& options) : options_(options) {}
  void Forward();

  const LinkOptions options_;
  Side near_;
  Side far_;
  std::atomic<int64_t> delay_ns_{0};
  std::atomic<double> loss_{0};
  std::atomic<bool> ending_{false};
  std::thread forwarder_;
};

// `engram-bench link`: the emulator's own figures, as Link::Measure gives them.
absl::StatusOr<nlohmann::json> RunLink(const std::string& link);

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_OVERLAP_LINK_H_
