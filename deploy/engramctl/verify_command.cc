// verify: lookups back to back, every row held against the checkpoint's own bytes.
#include <algorithm>
#include <cstring>
#include <memory>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/client.h"
#include "deploy/engramctl/commands.h"
#include "deploy/engramctl/output.h"
#include "deploy/engramctl/servers_flags.h"
#include "proto/base/status_macros.h"
#include "storage/checkpoint.h"
#include "storage/table_reader.h"

namespace engram {
namespace {

struct VerifyFlags : ServersFlags {
  std::string checkpoint;
  std::string expect_digest;
  double seconds = 0;
  double rate = 0;  // lookups per second; 0: as many as can be
  size_t batch = 512;
  uint64_t seed = std::random_device()();
};

class Verifier {
 public:
  Verifier(const VerifyFlags& flags, const Checkpoint& checkpoint, const TableReader& reader,
           Client& client)
      : flags_(flags),
        checkpoint_(checkpoint),
        reader_(reader),
        client_(client),
        random_(flags.seed) {}

  // Prints the figures whatever came of it.
  absl::Status Run() {
    const absl::Status status = LookUpUntilTheEnd();
    Print();
    RETURN_IF_ERROR(status);
    if (failed_ == 0 && wrong_rows_ == 0) return absl::OkStatus();
    return absl::DataLossError(absl::StrCat(failed_, " lookups failed, ", wrong_rows_,
                                            " rows were wrong (seed ", flags_.seed, ")"));
  }

 private:
  absl::Status LookUpUntilTheEnd() {
    const absl::Time start = absl::Now();
    const absl::Time end = start + absl::Seconds(flags_.seconds);
    while (lookups_ == 0 || absl::Now() < end) {
      RETURN_IF_ERROR(OneLookup());
      if (flags_.rate > 0) {
        const absl::Time next = start + absl::Seconds(static_cast<double>(lookups_) / flags_.rate);
        absl::SleepFor(std::min(next, end) - absl::Now());
      }
    }
    return absl::OkStatus();
  }

  // Random rows of every layer in one lookup, with a few "no row" among them.
  absl::Status OneLookup() {
    const size_t row_bytes = client_.layout().row_bytes();
    const std::vector<LayerGeometry>& layers = client_.geometry().layers();
    std::vector<std::vector<int64_t>> ids(layers.size());
    std::vector<std::vector<uint8_t>> out(layers.size());
    std::vector<RowsLookup> lookup;
    for (size_t i = 0; i < layers.size(); ++i) {
      std::uniform_int_distribution<int64_t> row(0, static_cast<int64_t>(layers[i].rows) - 1);
      for (size_t n = 0; n < flags_.batch; ++n) {
        ids[i].push_back(random_() % 64 == 0 ? kNoRow : row(random_));
      }
      out[i].assign(flags_.batch * row_bytes, 0xA5);
      lookup.push_back({layers[i].layer_id, ids[i], out[i]});
    }
    ++lookups_;
    const absl::Time start = absl::Now();
    absl::StatusOr<Ticket> ticket = client_.SubmitRows(lookup, {});
    const absl::Status status = ticket.ok() ? ticket->WaitAll() : ticket.status();
    latencies_us_.push_back(absl::ToDoubleMicroseconds(absl::Now() - start));
    if (!status.ok()) {
      if (failed_++ == 0) PrintLog(absl::StrCat("first failed lookup: ", status.message()));
      return absl::OkStatus();
    }
    for (size_t i = 0; i < layers.size(); ++i) RETURN_IF_ERROR(Compare(i, ids[i], out[i]));
    return absl::OkStatus();
  }

  absl::Status Compare(size_t layer_index, const std::vector<int64_t>& ids,
                       const std::vector<uint8_t>& rows) {
    const size_t row_bytes = client_.layout().row_bytes();
    std::vector<uint8_t> expected(row_bytes);
    for (size_t i = 0; i < ids.size(); ++i, ++rows_) {
      if (ids[i] == kNoRow) {
        std::fill(expected.begin(), expected.end(), uint8_t{0});
      } else {
        RETURN_IF_ERROR(
            reader_.Read(layer_index, static_cast<uint64_t>(ids[i]), 1, expected.data()));
      }
      if (std::memcmp(expected.data(), rows.data() + i * row_bytes, row_bytes) == 0) continue;
      if (wrong_rows_++ == 0) {
        PrintLog(absl::StrCat("first wrong row: layer ",
                              checkpoint_.geometry().layers()[layer_index].layer_id, " row ",
                              ids[i]));
      }
    }
    return absl::OkStatus();
  }

  void Print() {
    std::sort(latencies_us_.begin(), latencies_us_.end());
    const auto at = [&](double share) {
      return latencies_us_[static_cast<size_t>(share *
                                               static_cast<double>(latencies_us_.size() - 1))];
    };
    PrintJson({{"lookups", lookups_},
               {"failed", failed_},
               {"wrong_rows", wrong_rows_},
               {"rows", rows_},
               {"p50_us", at(0.5)},
               {"p99_us", at(0.99)}});
  }

  const VerifyFlags& flags_;
  const Checkpoint& checkpoint_;
  const TableReader& reader_;
  Client& client_;
  std::mt19937_64 random_;
  uint64_t lookups_ = 0;
  uint64_t failed_ = 0;
  uint64_t wrong_rows_ = 0;
  uint64_t rows_ = 0;
  std::vector<double> latencies_us_;
};

absl::Status Verify(const VerifyFlags& flags) {
  if (!(flags.seconds > 0) || flags.rate < 0 || flags.batch == 0) {
    return absl::InvalidArgumentError("--seconds and --batch must be above 0, --rate not negative");
  }
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(flags.checkpoint));
  ASSIGN_OR_RETURN(const std::unique_ptr<TableReader> reader, TableReader::Open(checkpoint));
  ClientOptions options{.servers = flags.servers, .credentials = flags.credentials};
  if (!flags.expect_digest.empty()) {
    ASSIGN_OR_RETURN(options.expect_digest, Sha256FromHex(flags.expect_digest));
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, Client::Connect(std::move(options)));
  if (client->geometry().params() != checkpoint.geometry().params() ||
      client->layout() != checkpoint.layout()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the servers' table is of another geometry than ", flags.checkpoint));
  }
  return Verifier(flags, checkpoint, *reader, *client).Run();
}

}  // namespace

void AddVerify(CLI::App& app, Command& run) {
  auto flags = std::make_shared<VerifyFlags>();
  CLI::App* command =
      app.add_subcommand("verify", "Looks up random rows and compares each with the checkpoint's");
  AddServersFlags(command, *flags, "A,B,...");
  command->add_option("--checkpoint", flags->checkpoint, "Checkpoint directory")->required();
  command->add_option("--expect-digest", flags->expect_digest,
                      "The generation to look up, of those that servers hold (64 hex digits)");
  command->add_option("--seconds", flags->seconds, "How long")->required();
  command->add_option("--rate", flags->rate, "Lookups per second at most (0: no limit)")
      ->capture_default_str();
  command->add_option("--batch", flags->batch, "Rows a layer and lookup")->capture_default_str();
  command->add_option("--seed", flags->seed, "Of the random rows");
  command->callback([=, &run] { run = [=] { return Verify(*flags); }; });
}

}  // namespace engram
