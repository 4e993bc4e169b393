#include "tests/bench/overlap/link.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "proto/base/status_macros.h"
#include "tests/bench/overlap/link_forwarder.h"
#include "tests/bench/overlap/link_probe.h"

namespace engram::bench {
namespace {

constexpr char kDevice[] = "engram0";

absl::Status NeedsRoot(int error, absl::string_view what) {
  if (error == EPERM || error == EACCES) {
    return absl::PermissionDeniedError(
        absl::StrCat(what, ": --link makes network namespaces, which needs root"));
  }
  return absl::UnavailableError(absl::StrCat(what, ": ", std::strerror(error)));
}

ifreq Request() {
  ifreq request{};
  std::strncpy(request.ifr_name, kDevice, IFNAMSIZ - 1);
  return request;
}

void SetAddress(const char* address, sockaddr& out) {
  sockaddr_in in{};
  in.sin_family = AF_INET;
  inet_pton(AF_INET, address, &in.sin_addr);
  std::memcpy(&out, &in, sizeof(in));
}

// Address, MTU, up. In the calling thread's namespace.
absl::Status Configure(const char* address) {
  const int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (control < 0) return NeedsRoot(errno, "socket");
  const absl::Cleanup close_it = [&] { close(control); };
  ifreq own = Request();
  SetAddress(address, own.ifr_addr);
  ifreq mask = Request();
  SetAddress("255.255.255.0", mask.ifr_netmask);
  ifreq mtu = Request();
  mtu.ifr_mtu = Link::kMtu;
  ifreq queue = Request();
  queue.ifr_qlen = 10000;
  ifreq flags = Request();
  flags.ifr_flags = IFF_UP | IFF_RUNNING;
  if (ioctl(control, SIOCSIFADDR, &own) != 0 || ioctl(control, SIOCSIFNETMASK, &mask) != 0 ||
      ioctl(control, SIOCSIFMTU, &mtu) != 0 || ioctl(control, SIOCSIFTXQLEN, &queue) != 0 ||
      ioctl(control, SIOCSIFFLAGS, &flags) != 0) {
    return NeedsRoot(errno, absl::StrCat("cannot configure ", kDevice));
  }
  return absl::OkStatus();
}

// Moves the calling thread into a new namespace and makes its device there.
absl::Status MakeSide(const char* address, int& device, int& name_space) {
  if (unshare(CLONE_NEWNET) != 0) return NeedsRoot(errno, "unshare");
  name_space = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
  if (name_space < 0) return NeedsRoot(errno, "/proc/thread-self/ns/net");
  device = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (device < 0) return NeedsRoot(errno, "/dev/net/tun");
  ifreq request = Request();
  request.ifr_flags = IFF_TUN | IFF_NO_PI;
  if (ioctl(device, TUNSETIFF, &request) != 0) return NeedsRoot(errno, "TUNSETIFF");
  return Configure(address);
}

absl::Status Enter(int name_space) {
  if (setns(name_space, CLONE_NEWNET) == 0) return absl::OkStatus();
  return NeedsRoot(errno, "setns");
}

}  // namespace

absl::StatusOr<LinkOptions> LinkOptions::Parse(absl::string_view text) {
  LinkOptions options;
  for (absl::string_view part : absl::StrSplit(text, ',', absl::SkipEmpty())) {
    const absl::string_view whole = part;
    double percent = 0;
    if (absl::ConsumePrefix(&part, "delay=")) {
      if (absl::ParseDuration(part, &options.delay) && options.delay >= absl::ZeroDuration() &&
          options.delay <= absl::Seconds(1)) {
        continue;
      }
    } else if (absl::ConsumePrefix(&part, "loss=") && absl::ConsumeSuffix(&part, "%") &&
               absl::SimpleAtod(part, &percent) && percent >= 0 && percent < 100) {
      options.loss = percent / 100;
      continue;
    }
    return absl::InvalidArgumentError(
        absl::StrCat("--link: `", whole, "` is not like delay=200us or loss=0.1%"));
  }
  return options;
}

absl::StatusOr<std::unique_ptr<Link>> Link::Create(const LinkOptions& options) {
  std::unique_ptr<Link> link(new Link(options));
  RETURN_IF_ERROR(MakeSide(kFarAddress, link->far_.device, link->far_.name_space));
  RETURN_IF_ERROR(MakeSide(kNearAddress, link->near_.device, link->near_.name_space));
  link->delay_ns_ = absl::ToInt64Nanoseconds(options.delay);
  link->loss_ = options.loss;
  link->forwarder_ = std::thread([raw = link.get()] { raw->Forward(); });
  return link;
}

Link::~Link() {
  ending_ = true;
  if (forwarder_.joinable()) forwarder_.join();
  for (const int fd : {near_.device, near_.name_space, far_.device, far_.name_space}) {
    if (fd >= 0) close(fd);
  }
}

absl::Status Link::OnFarSide(const std::function<void()>& work) const {
  RETURN_IF_ERROR(Enter(far_.name_space));
  work();
  return Enter(near_.name_space);
}

void Link::Forward() {
  LinkForwarder forwarder(near_.device, far_.device);
  while (!ending_.load(std::memory_order_relaxed)) {
    forwarder.Carry(std::chrono::nanoseconds(delay_ns_.load(std::memory_order_relaxed)),
                    loss_.load(std::memory_order_relaxed));
    sched_yield();  // On two cores somebody else waits for this one.
  }
}

absl::StatusOr<nlohmann::json> Link::Measure() {
  LinkProbe probe(kFarAddress,
                  [this](const std::function<void()>& work) { return OnFarSide(work); });
  delay_ns_ = 0;
  loss_ = 0;
  ASSIGN_OR_RETURN(nlohmann::json floor, probe.Measure());
  delay_ns_ = absl::ToInt64Nanoseconds(options_.delay);
  loss_ = options_.loss;
  ASSIGN_OR_RETURN(nlohmann::json link, probe.Measure());
  return nlohmann::json{{"delay_us_each_way", absl::ToDoubleMicroseconds(options_.delay)},
                        {"loss_each_way", options_.loss},
                        {"mtu", kMtu},
                        {"floor", std::move(floor)},
                        {"as_asked", std::move(link)}};
}

absl::StatusOr<nlohmann::json> RunLink(const std::string& text) {
  ASSIGN_OR_RETURN(const LinkOptions options, LinkOptions::Parse(text));
  ASSIGN_OR_RETURN(const std::unique_ptr<Link> link, Link::Create(options));
  return link->Measure();
}

}  // namespace engram::bench
