#include "tests/bench/restart.h"

#include <signal.h>

#include <algorithm>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/client.h"
#include "proto/base/status_macros.h"
#include "storage/checkpoint.h"
#include "storage/sidecar.h"
#include "storage/synth.h"
#include "storage/synth_rows.h"
#include "storage/table_digest.h"
#include "tests/bench/engramd_process.h"
#include "tests/bench/peer_tables.h"
#include "tests/bench/statistics.h"

namespace engram::bench {
namespace {

constexpr uint64_t kTableSeed = 1;
constexpr double kColumns = 2 * 24;  // of V4.1-Flash's two layers

// One table, and the arena of the servers that are started for it one after the other.
class Restarts {
 public:
  static absl::StatusOr<Restarts> Create(const RestartOptions& options, double gb) {
    ASSIGN_OR_RETURN(ScratchDirectory scratch, ScratchDirectory::Create(""));
    ASSIGN_OR_RETURN(ScratchDirectory arenas, ScratchDirectory::Create(options.tmpfs));
    SynthOptions synth;
    synth.out = absl::StrCat(scratch.path(), "/checkpoint");
    synth.seed = kTableSeed;
    synth.tokenizer = options.tokenizer;
    synth.sparse = true;
    synth.bucket_floor = static_cast<uint64_t>(gb * 1e9 / kSynthRowBytes / kColumns);
    RETURN_IF_ERROR(Synthesize(synth));
    ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::Open(synth.out));
    ASSIGN_OR_RETURN(const Sidecar sidecar, ComputeSidecar(checkpoint, 0, nullptr));
    RETURN_IF_ERROR(WriteSidecar(checkpoint.sidecar_path(), sidecar));
    return Restarts(std::move(scratch), std::move(arenas), std::move(checkpoint));
  }

  double gb() const {
    return static_cast<double>(checkpoint_.geometry().total_rows() * kSynthRowBytes) / 1e9;
  }

  struct Times {
    double serving_s = 0;  // from exec to the line that says that it serves
    double rows_s = 0;     // to the first lookup's rows, all of them compared
  };
  // Starts a server and kills it, as a crash would.
  absl::StatusOr<Times> Start() const {
    Times times;
    const absl::Time start = absl::Now();
    ASSIGN_OR_RETURN(const std::unique_ptr<EngramdProcess> server,
                     EngramdProcess::Start({"--checkpoint", checkpoint_.directory(), "--arena-dir",
                                            arenas_.path(), "--drain-ms", "0"},
                                           -1));
    times.serving_s = absl::ToDoubleSeconds(absl::Now() - start);
    RETURN_IF_ERROR(CheckRows(*server));
    times.rows_s = absl::ToDoubleSeconds(absl::Now() - start);
    kill(server->pid(), SIGKILL);
    return times;
  }

 private:
  Restarts(ScratchDirectory scratch, ScratchDirectory arenas, Checkpoint checkpoint)
      : scratch_(std::move(scratch)),
        arenas_(std::move(arenas)),
        checkpoint_(std::move(checkpoint)) {}

  // Every row that the sparse table states, of both layers, in one lookup.
  absl::Status CheckRows(const EngramdProcess& server) const {
    ClientOptions options;
    options.servers = {server.address()};
    ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, Client::Connect(options));
    for (const LayerGeometry& layer : checkpoint_.geometry().layers()) {
      const std::vector<uint64_t> stated = StatedRows(layer);
      const std::vector<int64_t> ids(stated.begin(), stated.end());
      std::vector<uint8_t> rows(ids.size() * kSynthRowBytes);
      ASSIGN_OR_RETURN(Ticket ticket, client->SubmitRows({{layer.layer_id, ids, rows}}, {}));
      RETURN_IF_ERROR(ticket.WaitAll());
      for (size_t i = 0; i < stated.size(); ++i) {
        uint8_t expected[kSynthRowBytes];
        SynthRow(kTableSeed, layer.layer_id, stated[i], expected);
        if (!std::equal(expected, expected + kSynthRowBytes, &rows[i * kSynthRowBytes])) {
          return absl::DataLossError(
              absl::StrCat("row ", stated[i], " of layer ", layer.layer_id, " is another"));
        }
      }
    }
    return absl::OkStatus();
  }

  ScratchDirectory scratch_;
  ScratchDirectory arenas_;
  Checkpoint checkpoint_;
};

}  // namespace

absl::StatusOr<nlohmann::json> RunRestart(const RestartOptions& options) {
  if (options.rounds == 0) return absl::InvalidArgumentError("--rounds is 0");
  nlohmann::json tables = nlohmann::json::array();
  for (const double gb : options.gb) {
    ASSIGN_OR_RETURN(const Restarts restarts, Restarts::Create(options, gb));
    ASSIGN_OR_RETURN(const Restarts::Times first, restarts.Start());
    std::vector<double> serving, rows;
    for (uint32_t round = 0; round < options.rounds; ++round) {
      ASSIGN_OR_RETURN(const Restarts::Times times, restarts.Start());
      serving.push_back(times.serving_s);
      rows.push_back(times.rows_s);
    }
    tables.push_back({{"gb", restarts.gb()},
                      {"first_start_s", first.serving_s},
                      {"restart_s", Median(serving)},
                      {"restart_s_max", *std::max_element(serving.begin(), serving.end())},
                      {"restart_to_rows_s", Median(rows)}});
  }
  return nlohmann::json{{"rounds", options.rounds},
                        {"tokenizer", !options.tokenizer.empty()},
                        {"tables", std::move(tables)}};
}

}  // namespace engram::bench
