// The commands of engramctl. Each adds its subcommand and flags to `app` and, when it was chosen,
// sets `run` to what does it: prints its result on standard output, or returns why it could not.
#ifndef ENGRAM_DEPLOY_ENGRAMCTL_COMMANDS_H_
#define ENGRAM_DEPLOY_ENGRAMCTL_COMMANDS_H_

#include <CLI/CLI.hpp>
#include <functional>

#include "absl/status/status.h"

namespace engram {

using Command = std::function<absl::Status()>;

void AddSynth(CLI::App& app, Command& run);
void AddDigest(CLI::App& app, Command& run);
void AddInspect(CLI::App& app, Command& run);
void AddImport(CLI::App& app, Command& run);
void AddBackup(CLI::App& app, Command& run);
void AddRestore(CLI::App& app, Command& run);
void AddHash(CLI::App& app, Command& run);
void AddHotNgrams(CLI::App& app, Command& run);
void AddSuccessors(CLI::App& app, Command& run);
void AddTokenMap(CLI::App& app, Command& run);
void AddLookup(CLI::App& app, Command& run);
void AddStatus(CLI::App& app, Command& run);
void AddDelta(CLI::App& app, Command& run);
void AddPublish(CLI::App& app, Command& run);
void AddActivate(CLI::App& app, Command& run);
void AddRetire(CLI::App& app, Command& run);
void AddGenerations(CLI::App& app, Command& run);
void AddVerify(CLI::App& app, Command& run);
void AddPlan(CLI::App& app, Command& run);
void AddSimulate(CLI::App& app, Command& run);

}  // namespace engram

#endif  // ENGRAM_DEPLOY_ENGRAMCTL_COMMANDS_H_
