// backup, restore: a copy of a data directory, and back.
#include <memory>

#include "deploy/engramctl/commands.h"
#include "deploy/engramctl/output.h"
#include "proto/base/status_macros.h"
#include "storage/disk/backup.h"

namespace engram {
namespace {

struct BackupFlags {
  std::string data_dir;
  std::string backup;
};

absl::Status Report(const absl::StatusOr<std::vector<BackupFile>>& files) {
  RETURN_IF_ERROR(files.status());
  uint64_t bytes = 0;
  for (const BackupFile& file : *files) bytes += file.bytes;
  PrintJson({{"files", files->size()}, {"bytes", bytes}});
  return absl::OkStatus();
}

}  // namespace

void AddBackup(CLI::App& app, Command& run) {
  auto flags = std::make_shared<BackupFlags>();
  CLI::App* command = app.add_subcommand(
      "backup", "Copies a server's data directory, also while the server has it");
  command->add_option("--data-dir", flags->data_dir, "That of the server")->required();
  command->add_option("--out", flags->backup, "Directory of the copy; made, or empty")->required();
  command->callback(
      [=, &run] { run = [=] { return Report(BackUp(flags->data_dir, flags->backup)); }; });
}

void AddRestore(CLI::App& app, Command& run) {
  auto flags = std::make_shared<BackupFlags>();
  CLI::App* command = app.add_subcommand(
      "restore", "Makes a data directory of a backup, every byte held against its checksums");
  command->add_option("BACKUP", flags->backup, "Written by `engramctl backup`")->required();
  command->add_option("--data-dir", flags->data_dir, "Directory to make; not there, or empty")
      ->required();
  command->callback(
      [=, &run] { run = [=] { return Report(Restore(flags->backup, flags->data_dir)); }; });
}

}  // namespace engram
