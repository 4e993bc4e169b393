// import: a shard of a checkpoint into a database on disk.
#include <memory>

#include "deploy/engramctl/commands.h"
#include "deploy/engramctl/output.h"
#include "proto/base/file.h"
#include "proto/base/status_macros.h"
#include "storage/disk/disk_table.h"

namespace engram {
namespace {

struct ImportFlags {
  LoadOptions load;
  DiskOptions disk;
  std::string shard = "0/1";
  std::string shard_map;
};

absl::Status Import(ImportFlags flags) {
  LoadOptions& load = flags.load;
  if (flags.shard_map.empty()) {
    ASSIGN_OR_RETURN(load.shard, Shard::Parse(flags.shard));
  } else {
    ASSIGN_OR_RETURN(const std::string text, ReadFile(flags.shard_map, kMaxShardMapBytes));
    ASSIGN_OR_RETURN(load.shard_map, ShardMap::Parse(text, flags.shard_map));
    ASSIGN_OR_RETURN(load.shard, load.shard_map->Find(flags.shard));
  }
  load.log = PrintLog;
  ASSIGN_OR_RETURN(const ShardManifest manifest, ImportDiskTable(load, flags.disk));
  const uint64_t rows = TotalRows(manifest.ranges);
  PrintJson({{"digest", ToHex(manifest.digest)},
             {"shard", manifest.shard.ToString()},
             {"rows", rows},
             {"bytes", rows * manifest.layout.row_bytes()}});
  return absl::OkStatus();
}

}  // namespace

void AddImport(CLI::App& app, Command& run) {
  auto flags = std::make_shared<ImportFlags>();
  CLI::App* command = app.add_subcommand(
      "import",
      "Writes a shard to a data directory, from which `engramd --store rocksdb` serves it");
  command->add_option("DIR", flags->load.checkpoint, "Checkpoint directory")->required();
  command->add_option("--data-dir", flags->disk.data_dir, "Directory of the shard; made if need be")
      ->required();
  command
      ->add_option("--shard", flags->shard,
                   "I/N: the I-th of N equal ranges of every layer's rows; with --shard-map a name")
      ->capture_default_str();
  command->add_option("--shard-map", flags->shard_map, "JSON file that says what each shard holds");
  command->add_option("--sidecar", flags->load.sidecar,
                      "File written by `engramctl digest` (default: beside the tables)");
  command->add_option("--threads", flags->load.threads, "That read and write (0: one per core)")
      ->capture_default_str();
  command->callback([=, &run] { run = [=] { return Import(*flags); }; });
}

}  // namespace engram
