// publish, activate, retire, generations: what changes the tables that servers hold.
#include <algorithm>
#include <iostream>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/change_generations.h"
#include "client/client.h"
#include "deploy/engramctl/commands.h"
#include "deploy/engramctl/output.h"
#include "deploy/engramctl/publisher.h"
#include "deploy/engramctl/servers_flags.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

constexpr absl::Duration kAskTimeout = absl::Seconds(5);
constexpr absl::Duration kChangeTimeout = absl::Minutes(1);

struct Flags : ServersFlags {
  std::string argument;
  double max_mb_s = 10;
  bool json = false;
};

Json GenerationsJson(const std::vector<ServerStatus>& servers) {
  Json list = Json::array();
  for (const ServerStatus& server : servers) {
    Json generations = Json::array();
    for (const GenerationStatus& each : server.generations) {
      generations.push_back({{"digest", ToHex(each.digest)},
                             {"state", each.active ? "ACTIVE" : "PREPARED"},
                             {"base", each.base.has_value() ? Json(ToHex(*each.base)) : Json()},
                             {"changed_rows", each.changed_rows}});
    }
    Json json = {{"address", server.address},
                 {"state", server.status.ok() ? server.state : "UNREACHABLE"},
                 {"generations", std::move(generations)}};
    if (!server.status.ok()) json["error"] = std::string(server.status.message());
    list.push_back(std::move(json));
  }
  return {{"servers", std::move(list)}};
}

// Where each server stands, whatever has become of the change.
absl::Status Report(const Flags& flags, const absl::Status& status) {
  PrintJson(GenerationsJson(AskServers(flags.servers, kAskTimeout, flags.credentials)));
  return status;
}

// The first server that is not there; OK: all are.
absl::Status AllReachable(const std::vector<ServerStatus>& servers) {
  for (const ServerStatus& server : servers) {
    if (server.status.ok()) continue;
    return absl::Status(server.status.code(),
                        absl::StrCat(server.address, ": ", server.status.message()));
  }
  return absl::OkStatus();
}

// The first failure, naming the server.
absl::Status FirstFailure(const std::vector<std::string>& addresses,
                          const std::vector<absl::Status>& results) {
  for (size_t i = 0; i < results.size(); ++i) {
    if (results[i].ok()) continue;
    return absl::Status(results[i].code(), absl::StrCat(addresses[i], ": ", results[i].message(),
                                                        " (the others went on; run it again)"));
  }
  return absl::OkStatus();
}

absl::Status Publish(const Flags& flags) {
  const std::vector<ServerStatus> servers =
      AskServers(flags.servers, kAskTimeout, flags.credentials);
  return Report(flags, Publisher(flags.argument, servers, flags.max_mb_s, flags.credentials).Run());
}

// Every server has prepared it before the first makes it active.
absl::Status Activate(const Flags& flags) {
  ASSIGN_OR_RETURN(const Sha256 digest, Sha256FromHex(flags.argument));
  const std::vector<ServerStatus> servers =
      AskServers(flags.servers, kAskTimeout, flags.credentials);
  absl::Status status = AllReachable(servers);
  for (const ServerStatus& server : servers) {
    if (!status.ok()) break;
    if (FindGeneration(server, digest) != nullptr) continue;
    status = absl::FailedPreconditionError(absl::StrCat(
        server.address, " does not hold ", flags.argument, ": publish it there first"));
  }
  if (status.ok()) {
    status = FirstFailure(flags.servers,
                          ActivateOn(flags.servers, digest, kChangeTimeout, flags.credentials));
  }
  return Report(flags, status);
}

absl::Status Retire(const Flags& flags) {
  ASSIGN_OR_RETURN(const Sha256 digest, Sha256FromHex(flags.argument));
  const std::vector<ServerStatus> servers =
      AskServers(flags.servers, kAskTimeout, flags.credentials);
  absl::Status status = AllReachable(servers);
  std::vector<std::string> holders;
  for (const ServerStatus& server : servers) {
    const GenerationStatus* const generation = FindGeneration(server, digest);
    if (!status.ok() || generation == nullptr) continue;  // It has given it up already.
    if (generation->active) {
      status = absl::FailedPreconditionError(absl::StrCat(
          "it is the active generation of ", server.address, ": activate another first"));
    }
    holders.push_back(server.address);
  }
  if (status.ok() && holders.empty()) {
    status = absl::NotFoundError(absl::StrCat("none of the servers holds ", flags.argument));
  }
  if (status.ok()) {
    status = FirstFailure(holders, RetireOn(holders, digest, kChangeTimeout, flags.credentials));
  }
  return Report(flags, status);
}

absl::Status Generations(const Flags& flags) {
  const std::vector<ServerStatus> servers =
      AskServers(flags.servers, kAskTimeout, flags.credentials);
  if (flags.json) {
    PrintJson(GenerationsJson(servers));
    return absl::OkStatus();
  }
  for (const ServerStatus& server : servers) {
    if (!server.status.ok()) {
      std::cout << absl::StrFormat("%-24s UNREACHABLE  %s\n", server.address,
                                   server.status.message());
    }
    for (const GenerationStatus& each : server.generations) {
      std::cout << absl::StrFormat("%-24s %-8s %s", server.address,
                                   each.active ? "ACTIVE" : "PREPARED", ToHex(each.digest));
      if (each.base.has_value()) {
        std::cout << absl::StrFormat("  %d rows on %s", each.changed_rows,
                                     ToHex(*each.base).substr(0, 12));
      }
      std::cout << "\n";
    }
  }
  std::cout.flush();
  return absl::OkStatus();
}

// A command of servers and, unless `argument` is null, one thing more. Its flags, for more of them.
std::shared_ptr<Flags> AddCommand(CLI::App& app, const char* name, const char* what,
                                  const char* argument, const char* argument_text,
                                  absl::Status (*act)(const Flags&), Command& run) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand(name, what);
  AddServersFlags(command, *flags, "A,B,...: all of the table's servers");
  if (argument != nullptr) {
    command->add_option(argument, flags->argument, argument_text)->required();
  }
  // What changes something prints its result as JSON in any case.
  command->add_flag("--json", flags->json, "One JSON object");
  command->callback([=, &run] { run = [=] { return act(*flags); }; });
  return flags;
}

}  // namespace

void AddPublish(CLI::App& app, Command& run) {
  const auto flags =
      AddCommand(app, "publish", "Sends every server its part of a delta; nothing becomes active",
                 "FILE", "Delta", Publish, run);
  app.get_subcommand("publish")
      ->add_option("--max-mb-s", flags->max_mb_s,
                   "10^6 bytes a second that any server is sent at most, for its readers' sake; 0: "
                   "no bound")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
}

void AddActivate(CLI::App& app, Command& run) {
  AddCommand(app, "activate", "Makes a generation that all servers hold the active one", "DIGEST",
             "64 hex digits", Activate, run);
}

void AddRetire(CLI::App& app, Command& run) {
  AddCommand(app, "retire", "Has servers give up a generation that is not active", "DIGEST",
             "64 hex digits", Retire, run);
}

void AddGenerations(CLI::App& app, Command& run) {
  AddCommand(app, "generations", "Asks every server which generations it holds", nullptr, nullptr,
             Generations, run);
}

}  // namespace engram
