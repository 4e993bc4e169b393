// engramctl: the operator's tool.
#include <iostream>

#include "absl/strings/str_cat.h"
#include "deploy/engramctl/commands.h"

int main(int argc, char** argv) {
  CLI::App app{"engramctl looks into checkpoints with Engram tables and at the servers of one"};
  // Not 1: CLI11 would then answer an unknown command with "a subcommand is required".
  app.require_subcommand(0, 1);
  app.failure_message([](const CLI::App*, const CLI::Error& error) {
    return absl::StrCat("error: ", error.what(), " (see --help)\n");
  });
  engram::Command run;
  engram::AddSynth(app, run);
  engram::AddDigest(app, run);
  engram::AddInspect(app, run);
  engram::AddImport(app, run);
  engram::AddBackup(app, run);
  engram::AddRestore(app, run);
  engram::AddHash(app, run);
  engram::AddHotNgrams(app, run);
  engram::AddSuccessors(app, run);
  engram::AddTokenMap(app, run);
  engram::AddLookup(app, run);
  engram::AddStatus(app, run);
  engram::AddDelta(app, run);
  engram::AddPublish(app, run);
  engram::AddActivate(app, run);
  engram::AddRetire(app, run);
  engram::AddGenerations(app, run);
  engram::AddVerify(app, run);
  engram::AddPlan(app, run);
  engram::AddSimulate(app, run);
  CLI11_PARSE(app, argc, argv);
  if (run == nullptr) {
    std::cerr << "error: a subcommand is required (see --help)" << std::endl;
    return 1;
  }
  const absl::Status status = run();
  if (status.ok()) return 0;
  std::cerr << "error: " << status.message() << std::endl;
  return 1;
}
