#include "tests/bench/sharing.h"

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "proto/base/status_macros.h"
#include "tests/bench/ask_client.h"
#include "tests/bench/engramd_process.h"
#include "tests/bench/peer_tables.h"
#include "tests/bench/peers/peer.h"
#include "tests/bench/process_cpu.h"
#include "tests/bench/statistics.h"

namespace engram::bench {
namespace {

constexpr uint64_t kTableRows = 1'000'000;
constexpr uint32_t kDecodeRows = 16;
constexpr uint32_t kPrefillRows = 65536;
constexpr uint32_t kPrefillDepth = 2;
// Of prefill answers beside decode: service/gather_stream.h.
constexpr uint32_t kPieceBytes = 64 << 10;

std::vector<int64_t> DrawSharedIds(uint64_t rows) {
  std::mt19937_64 random(1);
  std::vector<int64_t> ids(1 << 20);
  for (int64_t& id : ids) id = static_cast<int64_t>(random() % rows);
  return ids;
}

absl::StatusOr<std::unique_ptr<EngramdProcess>> StartServer(const std::string& checkpoint,
                                                            uint32_t threads, absl::Duration spin,
                                                            int core) {
  return EngramdProcess::Start({"--checkpoint", checkpoint, "--threads", absl::StrCat(threads),
                                "--spin-us", absl::StrCat(absl::ToInt64Microseconds(spin))},
                               core);
}

absl::StatusOr<std::unique_ptr<Client>> ConnectTo(const EngramdProcess& server, absl::Duration spin,
                                                  uint32_t io_threads) {
  ClientOptions options;
  options.servers = {server.address()};
  options.spin = spin;
  options.io_threads = io_threads;
  return Client::Connect(options);
}

// ---------------------------------------------------------------- fairness

class Fairness {
 public:
  Fairness(const SharingOptions& options, Client& client)
      : options_(options),
        client_(client),
        row_bytes_(client.layout().row_bytes()),
        ids_(DrawSharedIds(client.geometry().layers()[0].rows)) {}

  absl::Status Round() {
    RETURN_IF_ERROR(Decode("alone"));
    BatchRun prefill({ids_, kPrefillRows, kPrefillDepth, row_bytes_, options_.time, nullptr});
    absl::Status prefill_status;
    std::thread asking([&] {
      prefill_status = AskClient(client_, kPeerLayer, LookupPriority::kPrefill, prefill);
    });
    const absl::Status status = Decode("beside");
    asking.join();
    RETURN_IF_ERROR(status);
    RETURN_IF_ERROR(prefill_status);
    samples_["prefill_rows_per_s_beside"].push_back(prefill.rows_per_s());
    BatchRun only({ids_, kPrefillRows, kPrefillDepth, row_bytes_, options_.time, nullptr});
    RETURN_IF_ERROR(AskClient(client_, kPeerLayer, LookupPriority::kPrefill, only));
    samples_["prefill_rows_per_s_alone"].push_back(only.rows_per_s());
    return absl::OkStatus();
  }

  nlohmann::json Report() const {
    nlohmann::json report;
    for (const auto& [name, values] : samples_) report[name] = Median(values);
    const double piece_us = kPieceBytes * 1e6 / row_bytes_ / Median(Of("prefill_rows_per_s_alone"));
    const double alone = Median(Of("p99_us_alone"));
    const double bound = std::max(3 * alone, alone + 2 * piece_us);
    report["piece_bytes"] = kPieceBytes;
    report["piece_us"] = piece_us;
    report["p99_us_bound"] = bound;
    report["within_bound"] = Median(Of("p99_us_beside")) <= bound;
    report["spin_us"] = absl::ToInt64Microseconds(options_.spin);
    return report;
  }

 private:
  absl::Status Decode(const std::string& when) {
    BatchRun run({ids_, kDecodeRows, 1, row_bytes_, options_.time, nullptr});
    RETURN_IF_ERROR(AskClient(client_, kPeerLayer, LookupPriority::kDecode, run));
    samples_["p50_us_" + when].push_back(run.percentile_us(0.5));
    samples_["p99_us_" + when].push_back(run.percentile_us(0.99));
    return absl::OkStatus();
  }
  const std::vector<double>& Of(const std::string& name) const { return samples_.at(name); }

  const SharingOptions& options_;
  Client& client_;
  const uint32_t row_bytes_;
  const std::vector<int64_t> ids_;
  std::map<std::string, std::vector<double>> samples_;
};

// ---------------------------------------------------------------- cores

// Bytes of rows per CPU second of the server, in GB.
absl::StatusOr<double> GbPerCpuSecond(const EngramdProcess& server, Client& client,
                                      const std::vector<int64_t>& ids, uint32_t batch,
                                      absl::Duration time) {
  constexpr uint32_t kDepth = 8;  // each of the two connections has some
  const uint32_t row_bytes = client.layout().row_bytes();
  BatchRun warm({ids, batch, kDepth, row_bytes, time / 8, nullptr});
  RETURN_IF_ERROR(AskClient(client, kPeerLayer, LookupPriority::kDecode, warm));
  BatchRun run({ids, batch, kDepth, row_bytes, time, nullptr});
  const double before = CpuSeconds({server.pid()}).value_or(0);
  RETURN_IF_ERROR(AskClient(client, kPeerLayer, LookupPriority::kDecode, run));
  const double cpu = CpuSeconds({server.pid()}).value_or(0) - before;
  return static_cast<double>(run.batches()) * batch * row_bytes * 1e-9 / cpu;
}

}  // namespace

absl::StatusOr<nlohmann::json> RunFairness(const SharingOptions& options) {
  const PeerSetup cores;
  RETURN_IF_ERROR(PinToCore(cores.client_core));
  ASSIGN_OR_RETURN(const ScratchDirectory scratch, ScratchDirectory::Create(""));
  const std::string checkpoint = absl::StrCat(scratch.path(), "/table");
  RETURN_IF_ERROR(MakePeerTable(checkpoint, kTableRows));
  ASSIGN_OR_RETURN(const auto server, StartServer(checkpoint, 1, options.spin, cores.server_core));
  ASSIGN_OR_RETURN(const auto client, ConnectTo(*server, options.spin, 1));
  Fairness fairness(options, *client);
  for (uint32_t round = 0; round < options.rounds; ++round) RETURN_IF_ERROR(fairness.Round());
  return fairness.Report();
}

absl::StatusOr<nlohmann::json> RunCores(const SharingOptions& options) {
  ASSIGN_OR_RETURN(const ScratchDirectory scratch, ScratchDirectory::Create(""));
  const std::string checkpoint = absl::StrCat(scratch.path(), "/table");
  RETURN_IF_ERROR(MakePeerTable(checkpoint, kTableRows));
  const absl::Duration no_spin = absl::ZeroDuration();
  ASSIGN_OR_RETURN(const auto one, StartServer(checkpoint, 1, no_spin, -1));
  ASSIGN_OR_RETURN(const auto two, StartServer(checkpoint, 2, no_spin, -1));
  // As many connections to the one as to the other.
  ASSIGN_OR_RETURN(const auto to_one, ConnectTo(*one, no_spin, 2));
  ASSIGN_OR_RETURN(const auto to_two, ConnectTo(*two, no_spin, 2));
  const std::vector<int64_t> ids = DrawSharedIds(to_one->geometry().layers()[0].rows);
  nlohmann::json report;
  for (const uint32_t batch : {512u, 4096u, 16384u}) {
    std::vector<double> with_one, with_two, ratios;
    for (uint32_t round = 0; round < options.rounds; ++round) {
      ASSIGN_OR_RETURN(with_one.emplace_back(),
                       GbPerCpuSecond(*one, *to_one, ids, batch, options.time));
      ASSIGN_OR_RETURN(with_two.emplace_back(),
                       GbPerCpuSecond(*two, *to_two, ids, batch, options.time));
      ratios.push_back(with_two.back() / with_one.back());
    }
    report["batches"][absl::StrCat(batch)] = {{"gb_per_cpu_s_1_thread", Median(with_one)},
                                              {"gb_per_cpu_s_2_threads", Median(with_two)},
                                              {"ratio", Median(ratios)}};
  }
  report["rounds"] = options.rounds;
  return report;
}

}  // namespace engram::bench
