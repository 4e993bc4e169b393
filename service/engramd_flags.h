// The flags of engramd, which are the keys of its configuration file, too.
#ifndef ENGRAM_SERVICE_ENGRAMD_FLAGS_H_
#define ENGRAM_SERVICE_ENGRAMD_FLAGS_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "service/server_options.h"
#include "storage/disk/disk_table.h"
#include "storage/table.h"

namespace engram {

struct EngramdFlags {
  std::string checkpoint;
  std::string shard = "0/1";
  std::string shard_map;
  std::string store = "memory";
  std::string arena_dir;
  std::string sidecar;
  std::string expect_digest;
  std::string data_dir;
  std::string metrics;
  std::string ready_after = "loaded";
  std::string log_format = "text";
  bool warm_up = false;
  uint32_t load_threads = 0;
  uint64_t spin_us = 0;
  uint64_t memory_budget = 0;
  uint64_t verify_mb_s = 500;
  uint64_t verify_disk_mb_s = 50;
  uint64_t verify_interval_s = 0;
  uint64_t drain_ms = 500;
  bool print_config = false;
  DiskOptions disk;
  ServerOptions server;
};

// All of them, with --config (config_file.h) and --print-config.
void AddFlags(CLI::App& app, EngramdFlags& flags);

// What loading needs of them; without a log. InvalidArgument naming the flag; codes of ReadFile.
absl::StatusOr<LoadOptions> ToLoadOptions(const EngramdFlags& flags);

}  // namespace engram

#endif  // ENGRAM_SERVICE_ENGRAMD_FLAGS_H_
