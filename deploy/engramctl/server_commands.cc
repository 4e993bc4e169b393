// lookup and status: what asks servers.
#include <algorithm>
#include <cstring>
#include <iostream>
#include <memory>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/client.h"
#include "deploy/engramctl/commands.h"
#include "deploy/engramctl/output.h"
#include "deploy/engramctl/servers_flags.h"
#include "proto/base/file.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

constexpr absl::Duration kStatusTimeout = absl::Seconds(5);

struct LookupFlags : ServersFlags {
  uint32_t layer = 0;
  std::vector<int64_t> rows;
  std::string rows_file;
  bool hex = false;
  std::string out;
};

absl::StatusOr<std::vector<int64_t>> ReadRowIds(const std::string& path) {
  constexpr uint64_t kMaxBytes = uint64_t{1} << 33;
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path, kMaxBytes));
  if (bytes.size() % sizeof(int64_t) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " has ", bytes.size(), " bytes, not a multiple of 8"));
  }
  std::vector<int64_t> rows(bytes.size() / sizeof(int64_t));
  if (!rows.empty()) std::memcpy(rows.data(), bytes.data(), bytes.size());
  return rows;
}

absl::Status FetchRows(const LookupFlags& flags) {
  std::vector<int64_t> rows = flags.rows;
  if (!flags.rows_file.empty()) {
    ASSIGN_OR_RETURN(rows, ReadRowIds(flags.rows_file));
  }
  // Rows that other servers would hold are missed only by who asks for them.
  ClientOptions options{
      .servers = flags.servers, .credentials = flags.credentials, .allow_partial = true};
  ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, Client::Connect(std::move(options)));
  const size_t row_bytes = client->layout().row_bytes();
  std::vector<uint8_t> out(rows.size() * row_bytes);
  ASSIGN_OR_RETURN(Ticket ticket, client->SubmitRows({{flags.layer, rows, out}}, {}));
  RETURN_IF_ERROR(ticket.WaitAll());
  const absl::string_view bytes(reinterpret_cast<const char*>(out.data()), out.size());
  if (!flags.hex) return WriteFileAtomically(flags.out, bytes);
  for (size_t at = 0; at < bytes.size(); at += row_bytes) {
    std::cout << absl::BytesToHexString(bytes.substr(at, row_bytes)) << "\n";
  }
  std::cout.flush();
  return absl::OkStatus();
}

Json StatusJson(const ServerStatus& server) {
  if (!server.status.ok()) {
    return {{"address", server.address},
            {"model", nullptr},
            {"digest", nullptr},
            {"shard", nullptr},
            {"rows", nullptr},
            {"bytes", nullptr},
            {"state", "UNREACHABLE"},
            {"version", nullptr},
            {"error", std::string(server.status.message())}};
  }
  Json json = {
      {"address", server.address},
      {"model", server.model},
      {"digest", ToHex(server.digest)},
      {"shard", server.shard},
      {"rows", server.rows},
      {"bytes", server.bytes},
      {"state", server.state},
      {"version", server.version},
      {"verification", {{"passes", server.verified_passes}, {"rows", server.verified_rows}}}};
  if (!server.failure.empty()) json["failure"] = server.failure;
  return json;
}

// How far its rows have been verified, in words.
std::string VerificationText(const ServerStatus& server) {
  if (server.verified_passes > 0) return "verified";
  return absl::StrFormat("verified %.0f %%",
                         100.0 * static_cast<double>(server.verified_rows) /
                             static_cast<double>(std::max<uint64_t>(1, server.rows)));
}

absl::Status Status(const ServersFlags& flags, bool as_json) {
  const std::vector<ServerStatus> servers =
      AskServers(flags.servers, kStatusTimeout, flags.credentials);
  if (as_json) {
    Json list = Json::array();
    for (const ServerStatus& server : servers) list.push_back(StatusJson(server));
    PrintJson({{"servers", std::move(list)}});
    return absl::OkStatus();
  }
  for (const ServerStatus& server : servers) {
    if (server.status.ok()) {
      std::cout << absl::StrFormat("%-24s %-8s shard %-8s %12d rows %14d bytes  %-14s %s  %s\n",
                                   server.address, server.state, server.shard, server.rows,
                                   server.bytes, VerificationText(server),
                                   ToHex(server.digest).substr(0, 12), server.model);
      if (!server.failure.empty()) std::cout << "  " << server.failure << "\n";
    } else {
      std::cout << absl::StrFormat("%-24s UNREACHABLE  %s\n", server.address,
                                   server.status.message());
    }
  }
  std::cout.flush();
  return absl::OkStatus();
}

}  // namespace

void AddLookup(CLI::App& app, Command& run) {
  auto flags = std::make_shared<LookupFlags>();
  CLI::App* command = app.add_subcommand("lookup", "Fetches rows and prints their bytes");
  AddServersFlags(command, *flags, "A,B,...: any of the servers");
  command->add_option("--layer", flags->layer, "Layer id in the model")->required();
  CLI::Option* rows = command->add_option("--rows", flags->rows, "r,r,...: row ids; -1 gives zeros")
                          ->delimiter(',');
  CLI::Option* file =
      command->add_option("--rows-file", flags->rows_file, "File of little-endian i64");
  rows->excludes(file);
  CLI::Option* hex = command->add_flag("--hex", flags->hex, "A line of hex digits a row");
  CLI::Option* out = command->add_option("--out", flags->out, "File for the raw bytes");
  hex->excludes(out);
  command->callback([=, &run] {
    run = [=]() -> absl::Status {
      if (rows->count() + file->count() == 0) {
        return absl::InvalidArgumentError("lookup needs --rows or --rows-file");
      }
      if (!flags->hex && flags->out.empty()) {
        return absl::InvalidArgumentError("lookup needs --hex or --out");
      }
      return FetchRows(*flags);
    };
  });
}

void AddStatus(CLI::App& app, Command& run) {
  auto flags = std::make_shared<ServersFlags>();
  auto json = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand("status", "Asks every server what it holds");
  AddServersFlags(command, *flags, "A,B,...");
  command->add_flag("--json", *json, "One JSON object instead of text");
  command->callback([=, &run] { run = [=] { return Status(*flags, *json); }; });
}

}  // namespace engram
