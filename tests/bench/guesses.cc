#include "tests/bench/guesses.h"

#include <sched.h>
#include <sys/prctl.h>

#include <iostream>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "proto/successors.h"
#include "tests/bench/overlap/fleet.h"
#include "tests/bench/overlap/link.h"
#include "tests/bench/peer_tables.h"
#include "tests/bench/replay.h"
#include "tests/bench/statistics.h"

namespace engram::bench {
namespace {

// Steps of a passage that count; one more comes before them.
constexpr size_t kPassageSteps = 25;

struct Waits {
  std::vector<double> us, asking_us;

  void Add(const std::vector<ReplayedStep>& steps) {
    for (const ReplayedStep& step : steps) {
      us.push_back(std::chrono::duration<double, std::micro>(step.wait).count());
      asking_us.push_back(std::chrono::duration<double, std::micro>(step.asking).count());
    }
  }
  nlohmann::json Report() const {
    return {{"wait_us_mean", Mean(us)},
            {"wait_us_p25", Percentile(us, 0.25)},
            {"wait_us_p50", Median(us)},
            {"wait_us_p99", Percentile(us, 0.99)},
            {"asking_us_p50", Median(asking_us)}};
  }
  static double Mean(const std::vector<double>& values) {
    double sum = 0;
    for (const double value : values) sum += value;
    return sum / static_cast<double>(values.size());
  }
};

absl::Status WriteCounts(const Table& local, TokenTrace text, uint64_t max_bytes,
                         const std::string& path) {
  for (std::vector<uint32_t>& sequence : text) {
    for (uint32_t& token : sequence) {
      ASSIGN_OR_RETURN(token, local.token_map->Compress(token));
    }
  }
  ASSIGN_OR_RETURN(const Successors counts,
                   CountSuccessors(text, local.token_map->sha256(), max_bytes));
  return WriteSuccessors(path, counts);
}

// A turn: `on` and `off` replay the same passages, each first as often as the other.
absl::StatusOr<nlohmann::json> RunSequences(const GuessBenchOptions& options, Client& client,
                                            const Table& local, const TokenTrace& text,
                                            const std::string& successors, uint32_t sequences) {
  GuessOptions guess_options = options.guesses;
  guess_options.successors = successors;
  ASSIGN_OR_RETURN(const auto guesses, Guesses::Create(client, guess_options));
  ASSIGN_OR_RETURN(const auto on, Replay::Create(client, local, guesses, sequences));
  ASSIGN_OR_RETURN(const auto off, Replay::Create(client, local, nullptr, sequences));
  ASSIGN_OR_RETURN(Passages passages, Passages::Create(text, kPassageSteps + 1));
  const ClientStats before = client.stats();
  Waits waits_on, waits_off;
  const Clock::duration step = absl::ToChronoNanoseconds(options.step);
  for (size_t turn = 0; waits_on.us.size() < options.steps; ++turn) {
    std::vector<Passage> side_by_side(sequences);
    for (Passage& passage : side_by_side) passage = passages.Draw();
    for (const bool first : {true, false}) {
      const bool with = first == (turn % 2 == 0);
      ASSIGN_OR_RETURN(const auto steps,
                       (with ? on : off)->Run(side_by_side, kPassageSteps + 1, step));
      (with ? waits_on : waits_off).Add(steps);
    }
  }
  const ClientStats after = client.stats();
  const auto steps = static_cast<double>(waits_on.us.size());
  const auto tokens = steps * sequences;
  const auto count = [](uint64_t later, uint64_t earlier) {
    return static_cast<double>(later - earlier);
  };
  return nlohmann::json{
      {"sequences", sequences},
      {"steps", waits_on.us.size()},
      {"wait_ratio", Waits::Mean(waits_on.us) / Waits::Mean(waits_off.us)},
      {"on", waits_on.Report()},
      {"off", waits_off.Report()},
      {"hit_rate", count(after.guess_hits, before.guess_hits) / tokens},
      {"late", after.guess_late - before.guess_late},
      {"spared_steps", count(after.guess_steps_spared, before.guess_steps_spared) / steps},
      {"guess_bytes_per_step", count(after.guess_bytes, before.guess_bytes) / steps},
      {"stops", after.guess_stops - before.guess_stops},
      {"starts", after.guess_starts - before.guess_starts},
      {"checked_rows", 2 * static_cast<uint64_t>(tokens) * local.geometry.layers().size() *
                           local.geometry.columns()}};
}

absl::StatusOr<nlohmann::json> RunBehindLink(const GuessBenchOptions& options,
                                             const std::string& checkpoint, const Table& local,
                                             const TokenTrace& counted,
                                             const TokenTrace& replayed) {
  std::unique_ptr<Link> link;
  nlohmann::json report = {{"link", options.link},
                           {"step_ms", absl::ToDoubleMilliseconds(options.step)},
                           {"spin_us", absl::ToInt64Microseconds(options.spin)},
                           {"runs", nlohmann::json::array()}};
  if (!options.link.empty()) {
    ASSIGN_OR_RETURN(const LinkOptions link_options, LinkOptions::Parse(options.link));
    absl::StatusOr<std::unique_ptr<Link>> made = Link::Create(link_options);
    if (!made.ok()) return nlohmann::json{{"skipped", std::string(made.status().message())}};
    link = *std::move(made);
  }
  ASSIGN_OR_RETURN(const ScratchDirectory scratch, ScratchDirectory::Create(""));
  const std::string successors = absl::StrCat(scratch.path(), "/successors");
  RETURN_IF_ERROR(WriteCounts(local, counted, options.successor_bytes, successors));
  Fleet fleet({checkpoint, absl::ToInt64Microseconds(options.spin), link.get()});
  RETURN_IF_ERROR(fleet.Ensure(1));
  ASSIGN_OR_RETURN(const auto client,
                   Client::Connect({.servers = fleet.addresses(), .spin = options.spin}));
  for (const uint32_t sequences : options.sequences) {
    std::cerr << "guesses for " << sequences << " sequences\n";
    ASSIGN_OR_RETURN(report["runs"].emplace_back(),
                     RunSequences(options, *client, local, replayed, successors, sequences));
  }
  return report;
}

}  // namespace

absl::StatusOr<nlohmann::json> RunGuessBench(const GuessBenchOptions& options,
                                             const std::string& checkpoint, const Table& local,
                                             const TokenTrace& counted,
                                             const TokenTrace& replayed) {
  absl::StatusOr<nlohmann::json> report = absl::UnknownError("not run");
  // A thread of its own: the link moves it to another network namespace, and it and all that it
  // starts run on any core.
  std::thread([&] {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    for (size_t i = 0; i < CPU_SETSIZE; ++i) CPU_SET(i, &cpus);
    sched_setaffinity(0, sizeof(cpus), &cpus);
    // By default the kernel lets a sleeper oversleep by another 50 us to save wake-ups.
    prctl(PR_SET_TIMERSLACK, 1UL);
    report = RunBehindLink(options, checkpoint, local, counted, replayed);
  }).join();
  return report;
}

}  // namespace engram::bench
