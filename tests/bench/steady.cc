#include "tests/bench/steady.h"

#include <sys/prctl.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <thread>

#include "client/client.h"
#include "proto/base/mutex.h"
#include "proto/base/status_macros.h"
#include "tests/bench/process_cpu.h"
#include "tests/bench/row_source.h"
#include "tests/bench/statistics.h"

namespace engram::bench {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr size_t kMaxInFlight = 20'000;

// What the I/O threads of all clients report.
class SteadyOutcome {
 public:
  // Of lookups that were due in [begin, end).
  SteadyOutcome(SteadyClock::time_point begin, SteadyClock::time_point end)
      : begin_(begin), end_(end) {}

  void OnDone(SteadyClock::time_point due, const absl::Status& status) {
    const SteadyClock::time_point now = SteadyClock::now();
    MutexLock lock(&mutex_);
    if (status.ok() && now >= begin_ && now < end_) ++done_;
    if (due < begin_ || due >= end_) return;
    ++codes_[absl::StatusCodeToString(status.code())];
    if (status.ok()) {
      took_us_.push_back(std::chrono::duration<double, std::micro>(now - due).count());
    }
  }

  nlohmann::json Report(absl::Duration time) const {
    MutexLock lock(&mutex_);
    nlohmann::json report = {
        {"done_per_s", static_cast<double>(done_) / absl::ToDoubleSeconds(time)},
        {"codes", codes_},
        {"p50_us", nullptr},
        {"p99_us", nullptr}};
    if (!took_us_.empty()) {
      report["p50_us"] = Percentile(took_us_, 0.50);
      report["p99_us"] = Percentile(took_us_, 0.99);
    }
    return report;
  }

 private:
  const SteadyClock::time_point begin_, end_;
  mutable Mutex mutex_;
  uint64_t done_ ABSL_GUARDED_BY(mutex_) = 0;  // within the time
  std::map<std::string, uint64_t> codes_ ABSL_GUARDED_BY(mutex_);
  std::vector<double> took_us_ ABSL_GUARDED_BY(mutex_);  // from when a lookup was due
};

// One client, and the buffers of its lookups. For the thread that submits, but for OnDone.
class SteadyAsker {
 public:
  static absl::StatusOr<std::unique_ptr<SteadyAsker>> Connect(const SteadyOptions& options) {
    ClientOptions client_options;
    client_options.servers = options.servers;
    client_options.spin = options.spin;
    client_options.dedup = false;
    client_options.hedge_share = options.hedge_share;
    ASSIGN_OR_RETURN(std::unique_ptr<Client> client, Client::Connect(client_options));
    ASSIGN_OR_RETURN(std::vector<int64_t> ids,
                     DrawRows(*client, options.layer, "uniform", options.batch));
    return std::make_unique<SteadyAsker>(options, std::move(client), std::move(ids));
  }

  SteadyAsker(const SteadyOptions& options, std::unique_ptr<Client> client,
              std::vector<int64_t> ids)
      : options_(options), client_(std::move(client)), ids_(std::move(ids)) {}

  absl::Status Submit(SteadyClock::time_point due, SteadyOutcome& outcome) {
    Slot* const slot = TakeSlot();
    if (slot == nullptr) {
      outcome.OnDone(due, absl::ResourceExhaustedError("too many in flight"));
      return absl::OkStatus();
    }
    LookupOptions lookup;
    lookup.timeout = options_.timeout;
    lookup.on_done = [this, slot, due, &outcome](const absl::Status& status) {
      outcome.OnDone(due, status);
      MutexLock lock(&mutex_);
      done_.push_back(slot);
    };
    const auto ids = std::span(ids_).subspan(next_, options_.batch);
    next_ = (next_ + options_.batch) % (ids_.size() - options_.batch + 1);
    ASSIGN_OR_RETURN(slot->ticket, client_->SubmitRows({{options_.layer, ids, slot->out}}, lookup));
    return absl::OkStatus();
  }

 private:
  struct Slot {
    std::vector<uint8_t> out;
    Ticket ticket;
  };

  Slot* TakeSlot() {
    std::vector<Slot*> done;
    {
      MutexLock lock(&mutex_);
      done.swap(done_);
    }
    for (Slot* slot : done) {
      slot->ticket = Ticket();
      free_.push_back(slot);
    }
    if (free_.empty()) {
      if (slots_.size() >= kMaxInFlight / options_.clients) return nullptr;
      slots_.emplace_back();
      slots_.back().out.resize(size_t{options_.batch} * client_->layout().row_bytes());
      return &slots_.back();
    }
    Slot* const slot = free_.back();
    free_.pop_back();
    return slot;
  }

  const SteadyOptions& options_;
  const std::unique_ptr<Client> client_;
  const std::vector<int64_t> ids_;
  size_t next_ = 0;
  Mutex mutex_;
  std::vector<Slot*> done_ ABSL_GUARDED_BY(mutex_);
  std::vector<Slot*> free_;
  std::deque<Slot> slots_;  // last: tickets go before what their callbacks use
};

SteadyClock::duration Exponential(std::mt19937_64& random, double per_s) {
  std::uniform_real_distribution<double> uniform;
  const double seconds = -std::log(1 - uniform(random)) / per_s;
  return std::chrono::nanoseconds(std::llround(seconds * 1e9));
}

}  // namespace

absl::Status SteadyOptions::Validate() const {
  if (servers.empty()) return absl::InvalidArgumentError("--servers names no server");
  if (clients == 0 || clients > 256) {
    return absl::InvalidArgumentError("--clients is not between 1 and 256");
  }
  if (!(rate > 0 && rate <= 1e6)) {
    return absl::InvalidArgumentError("--rate is not above 0 and at most 1000000");
  }
  if (batch == 0 || batch > (1u << 20)) {
    return absl::InvalidArgumentError("--batch is not between 1 and 1048576");
  }
  return absl::OkStatus();
}

absl::StatusOr<nlohmann::json> RunSteady(const SteadyOptions& options) {
  RETURN_IF_ERROR(options.Validate());
  std::optional<SteadyOutcome> outcome;  // outlives the lookups that report to it
  std::vector<std::unique_ptr<SteadyAsker>> askers;
  for (uint32_t i = 0; i < options.clients; ++i) {
    ASSIGN_OR_RETURN(askers.emplace_back(), SteadyAsker::Connect(options));
  }
  const std::optional<std::vector<pid_t>> pids = FindListeners(options.servers);
  prctl(PR_SET_TIMERSLACK, 1UL);  // else the kernel lets a sleeper oversleep by 50 us
  std::mt19937_64 random(options.seed);
  const double each = options.rate / options.clients;
  const SteadyClock::time_point start = SteadyClock::now();
  const SteadyClock::time_point begin = start + absl::ToChronoNanoseconds(options.warm_up);
  const SteadyClock::time_point end = begin + absl::ToChronoNanoseconds(options.time);
  outcome.emplace(begin, end);
  std::vector<SteadyClock::time_point> due;
  for (size_t i = 0; i < askers.size(); ++i) due.push_back(start + Exponential(random, each));
  uint64_t sent = 0;
  double client_cpu_s = 0;
  std::optional<double> server_cpu_s;
  bool measuring = false;
  while (true) {
    const size_t next = static_cast<size_t>(std::min_element(due.begin(), due.end()) - due.begin());
    if (due[next] >= end) break;
    std::this_thread::sleep_until(due[next]);
    if (!measuring && due[next] >= begin) {
      measuring = true;
      client_cpu_s = OwnCpuSeconds();
      if (pids.has_value()) server_cpu_s = CpuSeconds(*pids);
    }
    RETURN_IF_ERROR(askers[next]->Submit(due[next], *outcome));
    sent += measuring ? 1 : 0;
    due[next] += Exponential(random, each);
  }
  std::this_thread::sleep_until(end);
  client_cpu_s = OwnCpuSeconds() - client_cpu_s;
  nlohmann::json servers_cpu;
  if (server_cpu_s.has_value()) {
    if (const auto now = CpuSeconds(*pids)) servers_cpu = *now - *server_cpu_s;
  }
  // What is still out ends by its timeout.
  std::this_thread::sleep_until(end + absl::ToChronoNanoseconds(options.timeout));
  askers.clear();
  nlohmann::json report = outcome->Report(options.time);
  report["offered_per_s"] = static_cast<double>(sent) / absl::ToDoubleSeconds(options.time);
  report["client_cpu_s"] = client_cpu_s;
  report["server_cpu_s"] = servers_cpu;
  report["seconds"] = absl::ToDoubleSeconds(options.time);
  report["batch"] = options.batch;
  report["clients"] = options.clients;
  return report;
}

}  // namespace engram::bench
