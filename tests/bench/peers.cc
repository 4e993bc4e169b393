#include "tests/bench/peers.h"

#include <algorithm>
#include <iostream>
#include <map>
#include <optional>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/base/status_macros.h"
#include "storage/synth_rows.h"
#include "tests/bench/child_process.h"
#include "tests/bench/disturbance.h"
#include "tests/bench/peer_tables.h"
#include "tests/bench/peers/peer.h"
#include "tests/bench/process_cpu.h"
#include "tests/bench/statistics.h"

namespace engram::bench {
namespace {

constexpr uint32_t kDepth = 4;
constexpr size_t kIdsDrawn = 4 << 20;
constexpr char kUs[] = "engram";
constexpr char kRaw[] = "raw";

struct Kind {
  const char* name;
  MakePeer make;
};

const std::vector<Kind>& Kinds() {
  static const auto* kinds =
      new std::vector<Kind>{{kUs, MakeEngramPeer},        {kRaw, MakeRawPeer},
                            {"redis", MakeRedisPeer},     {"memcached", MakeMemcachedPeer},
                            {"rocksdb", MakeRocksDbPeer}, {"lmdb", MakeLmdbPeer},
                            {"naive", MakeNaivePeer}};
  return *kinds;
}

struct NamedPeer {
  std::string name;
  std::unique_ptr<Peer> peer;
};

// One timed run.
struct Figures {
  double rows_per_s = 0;
  double p50_us = 0;
  double p99_us = 0;
  std::optional<double> server_cpu_s_per_gb;
  bool clean = false;
};

// What is measured of a peer, by name; one entry a round.
using Series = std::map<std::string, std::vector<Figures>>;

std::vector<int64_t> DrawIds(uint64_t rows) {
  std::mt19937_64 random(1);
  std::uniform_int_distribution<int64_t> row(0, static_cast<int64_t>(rows) - 1);
  std::vector<int64_t> ids(kIdsDrawn);
  for (int64_t& id : ids) id = row(random);
  return ids;
}

bool RowsAreRight(std::span<const int64_t> ids, const uint8_t* rows) {
  uint8_t expected[kSynthRowBytes];
  for (size_t i = 0; i < ids.size(); ++i) {
    SynthRow(kPeerSeed, kPeerLayer, static_cast<uint64_t>(ids[i]), expected);
    if (!std::equal(expected, expected + kSynthRowBytes, rows + i * kSynthRowBytes)) return false;
  }
  return true;
}

class Measurement {
 public:
  Measurement(const PeersOptions& options, std::vector<int64_t> ids)
      : options_(options), ids_(std::move(ids)) {}

  // A short run whose every row is checked, then the timed one.
  absl::StatusOr<Figures> Run(const NamedPeer& peer, uint32_t batch, uint32_t depth) const {
    BatchRun warm({ids_, batch, depth, kSynthRowBytes, options_.time / 8, RowsAreRight});
    RETURN_IF_ERROR(peer.peer->Ask(warm));
    if (warm.wrong_batches() != 0) {
      return absl::InternalError(absl::StrCat(peer.name, " gave wrong rows"));
    }
    BatchRun run({ids_, batch, depth, kSynthRowBytes, options_.time, nullptr});
    const std::vector<pid_t> pids = peer.peer->server_pids();
    const Disturbance disturbance(pids);
    const double before = CpuSeconds(pids).value_or(0);
    RETURN_IF_ERROR(peer.peer->Ask(run));
    const double cpu = CpuSeconds(pids).value_or(0) - before;
    Figures figures;
    peer.peer->Rest();
    figures.rows_per_s = run.rows_per_s();
    figures.p50_us = run.percentile_us(0.5);
    figures.p99_us = run.percentile_us(0.99);
    figures.clean = disturbance.Measure().clean();
    const double gb = static_cast<double>(run.batches()) * batch * kSynthRowBytes * 1e-9;
    if (!pids.empty() && gb > 0) figures.server_cpu_s_per_gb = cpu / gb;
    return figures;
  }

 private:
  const PeersOptions& options_;
  const std::vector<int64_t> ids_;
};

// The rounds that count: those in which every run was clean, or all where fewer than two were.
struct Rounds {
  std::vector<size_t> counted;
  size_t clean = 0;
};

Rounds CountRounds(const Series& series, size_t rounds) {
  Rounds result;
  for (size_t i = 0; i < rounds; ++i) {
    if (std::all_of(series.begin(), series.end(),
                    [i](const auto& entry) { return entry.second[i].clean; })) {
      result.counted.push_back(i);
    }
  }
  result.clean = result.counted.size();
  if (result.clean >= 2) return result;
  result.counted.clear();
  for (size_t i = 0; i < rounds; ++i) result.counted.push_back(i);
  return result;
}

std::vector<double> Pick(const std::vector<Figures>& figures, const Rounds& rounds,
                         double (*value)(const Figures&)) {
  std::vector<double> values;
  for (const size_t i : rounds.counted) values.push_back(value(figures[i]));
  return values;
}

// Median of ours over theirs, round by round.
double MedianRatio(const std::vector<Figures>& ours, const std::vector<Figures>& theirs,
                   const Rounds& rounds, double (*value)(const Figures&)) {
  const std::vector<double> a = Pick(ours, rounds, value);
  const std::vector<double> b = Pick(theirs, rounds, value);
  std::vector<double> ratios;
  for (size_t i = 0; i < a.size(); ++i) ratios.push_back(a[i] / b[i]);
  return Median(ratios);
}

double Rate(const Figures& figures) { return figures.rows_per_s; }
double P50(const Figures& figures) { return figures.p50_us; }
double P99(const Figures& figures) { return figures.p99_us; }
double Cpu(const Figures& figures) { return figures.server_cpu_s_per_gb.value_or(0); }

// {"engram": median, "raw": median, ..., "ratio": {"raw": median of ours over theirs}, "spread":
// {"engram": [least, most]}, "clean_runs": rounds}.
nlohmann::json Summarize(const Series& series, double (*value)(const Figures&)) {
  const Rounds rounds = CountRounds(series, series.begin()->second.size());
  nlohmann::json report = {{"ratio", nlohmann::json::object()}};
  for (const auto& [name, figures] : series) {
    const std::vector<double> values = Pick(figures, rounds, value);
    report[name] = Median(values);
    report["spread"][name] = {*std::min_element(values.begin(), values.end()),
                              *std::max_element(values.begin(), values.end())};
    if (name != kUs) {
      report["ratio"][name] = MedianRatio(series.at(kUs), figures, rounds, value);
    }
  }
  report["clean_runs"] = rounds.clean;
  return report;
}

absl::Status AddPeers(const std::vector<std::string>& names, const PeerSetup& setup,
                      std::vector<NamedPeer>& peers) {
  for (const Kind& kind : Kinds()) {
    if (std::find(names.begin(), names.end(), kind.name) == names.end()) continue;
    const absl::Time start = absl::Now();
    ASSIGN_OR_RETURN(std::unique_ptr<Peer> peer, kind.make(setup));
    std::cerr << kind.name << " holds " << setup.rows << " rows after "
              << absl::FormatDuration(absl::Trunc(absl::Now() - start, absl::Milliseconds(100)))
              << "\n";
    peers.push_back({kind.name, std::move(peer)});
  }
  return absl::OkStatus();
}

// What was measured of one batch size.
struct BatchSeries {
  Series rates;     // depth kDepth
  Series single;    // depth 1, of us and the bare pair
  Series blocking;  // depth kDepth, of us and the bare pair when neither polls
};

// One table, all of its peers, all rounds.
class TableRun {
 public:
  TableRun(const PeersOptions& options, PeerSetup setup)
      : options_(options), setup_(std::move(setup)), measurement_(options, DrawIds(setup_.rows)) {}

  // `names` are measured; with `blocking` also us and the bare pair when neither polls.
  absl::Status Run(const std::vector<std::string>& names, bool blocking) {
    std::vector<std::string> pair, others;
    for (const std::string& name : names) {
      (name == kUs || name == kRaw ? pair : others).push_back(name);
    }
    std::vector<NamedPeer> lasting;
    RETURN_IF_ERROR(AddPeers(others, setup_, lasting));
    for (uint32_t round = 0; round < options_.rounds; ++round) {
      RETURN_IF_ERROR(RunRound(pair, lasting, blocking));
    }
    return absl::OkStatus();
  }

  nlohmann::json Report() const {
    nlohmann::json report = nlohmann::json::object();
    for (const auto& [batch, series] : series_) {
      nlohmann::json& entry = report[absl::StrCat(batch)];
      entry = Summarize(series.rates, Rate);
      entry["p50_us_depth_1"] = Summarize(series.single, P50);
      entry["p99_us_depth_1"] = Summarize(series.single, P99);
      if (series.blocking.empty()) continue;
      entry["server_cpu_s_per_gb_spin_off"] = Summarize(series.blocking, Cpu);
    }
    return report;
  }

 private:
  // We and the bare pair are started anew for every round: how the host's memory lies under a
  // table makes a gather up to twice as slow, by the luck of each start.
  absl::Status RunRound(const std::vector<std::string>& pair, const std::vector<NamedPeer>& lasting,
                        bool with_blocking) {
    std::vector<NamedPeer> peers, blocking;
    RETURN_IF_ERROR(AddPeers(pair, setup_, peers));
    PeerSetup blocking_setup = setup_;
    blocking_setup.spin = absl::ZeroDuration();
    if (with_blocking) RETURN_IF_ERROR(AddPeers(pair, blocking_setup, blocking));
    for (const uint32_t batch : options_.batches) {
      std::cerr << "batches of " << batch << "\n";
      BatchSeries& series = series_[batch];
      for (const NamedPeer& peer : peers) {
        RETURN_IF_ERROR(AddRun(peer, batch, kDepth, series.rates));
        RETURN_IF_ERROR(AddRun(peer, batch, 1, series.single));
      }
      for (const NamedPeer& peer : lasting) {
        RETURN_IF_ERROR(AddRun(peer, batch, kDepth, series.rates));
      }
      for (const NamedPeer& peer : blocking) {
        RETURN_IF_ERROR(AddRun(peer, batch, kDepth, series.blocking));
      }
    }
    return absl::OkStatus();
  }

  absl::Status AddRun(const NamedPeer& peer, uint32_t batch, uint32_t depth, Series& series) {
    ASSIGN_OR_RETURN(const Figures figures, measurement_.Run(peer, batch, depth));
    series[peer.name].push_back(figures);
    return absl::OkStatus();
  }

  const PeersOptions& options_;
  const PeerSetup setup_;
  const Measurement measurement_;
  std::map<uint32_t, BatchSeries> series_;
};

absl::StatusOr<nlohmann::json> MeasureTable(const PeersOptions& options,
                                            const std::vector<std::string>& names, uint64_t rows,
                                            bool blocking) {
  std::cerr << "writing a table of " << rows << " rows\n";
  ASSIGN_OR_RETURN(const ScratchDirectory scratch, ScratchDirectory::Create(options.directory));
  PeerSetup setup;
  setup.directory = scratch.path();
  setup.checkpoint = absl::StrCat(scratch.path(), "/table");
  setup.shard_map = absl::StrCat(setup.checkpoint, ".map");
  setup.rows = rows;
  setup.spin = options.spin;
  RETURN_IF_ERROR(MakePeerTable(setup.checkpoint, rows));
  TableRun run(options, std::move(setup));
  RETURN_IF_ERROR(run.Run(names, blocking));
  return run.Report();
}

absl::StatusOr<std::vector<std::string>> NamesOf(const PeersOptions& options) {
  std::vector<std::string> names;
  for (const Kind& kind : Kinds()) {
    if (options.only.empty() || kind.name == std::string(kUs)) names.push_back(kind.name);
  }
  for (const std::string& name : options.only) {
    const bool known = std::any_of(Kinds().begin(), Kinds().end(),
                                   [&](const Kind& kind) { return kind.name == name; });
    if (!known) return absl::InvalidArgumentError(absl::StrCat("--only: no peer `", name, "`"));
    if (name != kUs) names.push_back(name);
  }
  return names;
}

}  // namespace

absl::StatusOr<nlohmann::json> RunPeers(const PeersOptions& options) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, NamesOf(options));
  const PeerSetup setup;
  // Everything that is started here, client threads too, stays on the client's core.
  RETURN_IF_ERROR(PinToCore(setup.client_core));
  nlohmann::json report = {{"row_bytes", kSynthRowBytes},
                           {"rows", options.rows},
                           {"depth", kDepth},
                           {"rounds", options.rounds},
                           {"seconds", absl::ToDoubleSeconds(options.time)},
                           {"spin_us", absl::ToInt64Microseconds(options.spin)},
                           {"server_core", setup.server_core},
                           {"client_core", setup.client_core}};
  ASSIGN_OR_RETURN(report["batches"], MeasureTable(options, names, options.rows, true));
  if (options.large_rows == 0 || std::find(names.begin(), names.end(), kRaw) == names.end()) {
    return report;
  }
  // Two tables of 4 GiB are enough for a machine.
  ASSIGN_OR_RETURN(report["large"]["batches"],
                   MeasureTable(options, {kUs, kRaw}, options.large_rows, false));
  report["large"]["rows"] = options.large_rows;
  return report;
}

}  // namespace engram::bench
