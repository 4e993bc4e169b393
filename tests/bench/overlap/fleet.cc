#include "tests/bench/overlap/fleet.h"

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/base/status_macros.h"

namespace engram::bench {

absl::StatusOr<std::unique_ptr<EngramdProcess>> Fleet::Start(const std::string& listen) const {
  const std::vector<std::string> flags = {"--checkpoint", options_.checkpoint,
                                          "--threads",    "1",
                                          "--spin-us",    absl::StrCat(options_.spin_us),
                                          "--listen",     listen};
  if (options_.link == nullptr) return EngramdProcess::Start(flags, -1);
  absl::StatusOr<std::unique_ptr<EngramdProcess>> server = absl::UnknownError("not started");
  RETURN_IF_ERROR(options_.link->OnFarSide([&] { server = EngramdProcess::Start(flags, -1); }));
  return server;
}

absl::Status Fleet::Ensure(size_t count) {
  const std::string host = options_.link == nullptr ? "127.0.0.1" : Link::kFarAddress;
  if (servers_.size() < count) servers_.resize(count);
  for (Server& server : servers_) {
    if (server.process != nullptr) continue;
    const std::string listen = server.address.empty() ? absl::StrCat(host, ":0") : server.address;
    ASSIGN_OR_RETURN(server.process, Start(listen));
    server.address = server.process->address();
  }
  return absl::OkStatus();
}

void Fleet::KeepOne() {
  if (servers_.size() > 1) servers_.resize(1);
}

void Fleet::Signal(size_t server, int signal) const {
  kill(servers_[server].process->pid(), signal);
}

void Fleet::Reap(size_t server) { servers_[server].process = nullptr; }

std::vector<std::string> Fleet::addresses() const {
  std::vector<std::string> addresses;
  for (const Server& server : servers_) addresses.push_back(server.address);
  return addresses;
}

std::vector<pid_t> Fleet::pids() const {
  std::vector<pid_t> pids;
  for (const Server& server : servers_) {
    if (server.process != nullptr) pids.push_back(server.process->pid());
  }
  return pids;
}

Slowdown::Slowdown(pid_t pid)
    : thread_([this, pid] {
        while (!ending_) {
          kill(pid, SIGSTOP);
          absl::SleepFor(absl::Milliseconds(9));
          kill(pid, SIGCONT);
          absl::SleepFor(absl::Milliseconds(1));
        }
      }) {}

Slowdown::~Slowdown() {
  ending_ = true;
  thread_.join();
}

}  // namespace engram::bench
