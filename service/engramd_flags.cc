#include "service/engramd_flags.h"

#include <memory>
#include <string>

#include "proto/base/file.h"
#include "proto/base/status_macros.h"
#include "proto/version.h"
#include "service/config_file.h"

namespace engram {
namespace {

// Accepts what `parse` does, with its words where it does not.
template <typename Parse>
CLI::Validator Parses(Parse parse) {
  return CLI::Validator(
      [parse](const std::string& value) { return std::string(parse(value).status().message()); },
      "");
}

void AddSecurityFlags(CLI::App& app, SecurityOptions& security) {
  app.add_option("--tls-cert", security.certificate,
                 "PEM file of the certificate chain of --listen, read again when it changes; none: "
                 "plaintext")
      ->group("Security");
  app.add_option("--tls-key", security.key, "PEM file of its private key")->group("Security");
  app.add_option("--tls-client-ca", security.client_ca,
                 "PEM file of the authorities whose client certificates are accepted; every client "
                 "must then have one, or a token where there are tokens")
      ->group("Security");
  app.add_option("--lookup-names", security.lookup_names,
                 "Names (SANs) of client certificates that may look up, with commas: as they are, "
                 "*.REST for one label more, URI/*; none: any that --tls-client-ca vouches for")
      ->delimiter(',')
      ->group("Security");
  app.add_option("--publish-names", security.publish_names,
                 "Names of client certificates that may publish, activate and retire; none: nobody "
                 "may, where certificates or tokens are asked for")
      ->delimiter(',')
      ->group("Security");
  app.add_option("--lookup-token", security.lookup_token,
                 "File of a token that clients may look up with (`authorization: Bearer`)")
      ->group("Security");
  app.add_option("--publish-token", security.publish_token,
                 "File of a token that clients may publish with, and look up")
      ->group("Security");
  app.add_flag("--insecure", security.insecure,
               "Plaintext also where other hosts can reach --listen")
      ->group("Security");
}

void AddPlainFlags(CLI::App& app, EngramdFlags& flags) {
  app.add_option("--checkpoint", flags.checkpoint,
                 "Hugging Face checkpoint directory: config.json, the safetensors files that hold "
                 "Engram tables (with index), tokenizer.json where there is one. Not needed where "
                 "--data-dir has the shard");
  app.add_option("--shard", flags.shard,
                 "I/N: the I-th of N equal ranges of every layer's rows; with --shard-map a name")
      ->capture_default_str();
  app.add_option("--shard-map", flags.shard_map,
                 "JSON file that says what each shard holds, by shares or by ranges of rows");
  app.add_option(
         "--store", flags.store,
         "Where rows live while they are served: memory, mapped (the checkpoint's files, through "
         "the page cache), or rocksdb (a database in --data-dir, imported at the first start, "
         "behind "
         "a cache of rows)")
      ->check(Parses(ParseStoreKind))
      ->capture_default_str();
  app.add_option(
      "--arena-dir", flags.arena_dir,
      "Directory on tmpfs or hugetlbfs that keeps a `memory` shard's rows: a server that "
      "starts again takes them from there and does not read the tables (with a sidecar)");
  app.add_option(
         "--memory-budget", flags.memory_budget,
         "Bytes that a `memory` shard may take, or the index and the cache of a `rocksdb` "
         "one, which is served from memory where it fits (0: what the machine or cgroup has "
         "left)")
      ->capture_default_str();
  app.add_option("--read-threads", flags.disk.read_threads,
                 "Reads of a `rocksdb` shard's disk under way at a time")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_flag("--direct-reads", flags.disk.direct_reads,
               "Reads of a `rocksdb` shard's disk go past the page cache");
  app.add_option("--listen", flags.server.listen,
                 "host:port (port 0 picks one) or unix:PATH of the lookup service")
      ->capture_default_str();
  app.add_option("--health", flags.server.health,
                 "A second address for health checks alone, served from the process's start: "
                 "`liveness` while the process is there, all else while lookups are served");
  app.add_option("--metrics", flags.metrics,
                 "host:port (port 0 picks one) at which Prometheus reads /metrics, without TLS, "
                 "from the process's start; none: nowhere");
  AddSecurityFlags(app, flags.server.security);
  app.add_option("--sidecar", flags.sidecar,
                 "File written by `engramctl digest` (default: engram.sidecar in the checkpoint)");
  app.add_option("--expect-digest", flags.expect_digest,
                 "Refuse any table but this (64 hex digits)")
      ->check(Parses(Sha256FromHex));
  app.add_option(
      "--data-dir", flags.data_dir,
      "Directory for what is published here (`engramctl publish`), which is served again "
      "after a restart, and for the rows of a `rocksdb` shard; none: nothing can be published");
  app.add_option("--threads", flags.server.threads,
                 "Threads that poll and gather (0: one per core)")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option("--load-threads", flags.load_threads, "Threads that load (0: one per core)")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option("--spin-us", flags.spin_us,
                 "Microseconds a thread polls before it sleeps; 0: an idle server takes no CPU")
      ->check(CLI::Range(0, 1000000))
      ->capture_default_str();
  app.add_option("--verify-mb-s", flags.verify_mb_s,
                 "Megabytes of rows verified a second in the background (0: as fast as can be)")
      ->capture_default_str();
  app.add_option("--verify-disk-mb-s", flags.verify_disk_mb_s,
                 "The same where rows are read from a `rocksdb` shard's disk, which lookups want: "
                 "each row is checked when it is read, too")
      ->capture_default_str();
  app.add_option("--verify-interval", flags.verify_interval_s,
                 "Seconds between two verifications of all rows (0: only what the load has not "
                 "verified)")
      ->capture_default_str();
  app.add_option("--ready-after", flags.ready_after,
                 "loaded, or verified: lookups are served once all rows have been held against "
                 "their checksums, which a load from the tables' files does anyway")
      ->check(CLI::IsMember({"loaded", "verified"}))
      ->capture_default_str();
  app.add_flag("--warm-up", flags.warm_up,
               "Read all rows of a `mapped` shard into the page cache before lookups are served");
  app.add_option("--drain-ms", flags.drain_ms,
                 "On SIGTERM: milliseconds between telling clients and ending their streams")
      ->check(CLI::Range(0, 600000))
      ->capture_default_str();
  app.add_option("--max-rows-per-request", flags.server.max_rows_per_request,
                 "Rows that one request of a stream may ask for")
      ->capture_default_str();
  app.add_option("--max-request-bytes", flags.server.max_request_bytes,
                 "Bytes of one request message; must hold 8 for each row")
      ->capture_default_str();
  app.add_option("--max-requests-in-flight", flags.server.max_requests_in_flight,
                 "Requests of one stream that wait for answers; more are refused")
      ->capture_default_str();
  app.add_option("--max-streams-per-client", flags.server.max_streams_per_client,
                 "Streams that one client may have (who its certificate says, else the host it "
                 "calls from); 0: no bound")
      ->capture_default_str();
  app.add_option("--max-rows-in-flight-per-client", flags.server.max_rows_in_flight_per_client,
                 "Rows that one client may have asked for and not got; 0: no bound")
      ->capture_default_str();
  app.add_option("--log-format", flags.log_format,
                 "text, or json: an object a line, with time, level and message")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  app.set_version_flag("--version", kVersion);
  app.add_flag("--print-config", flags.print_config,
               "Prints the configuration that the flags and --config come to, with defaults, as a "
               "file for --config, and exits")
      ->configurable(false);
}

}  // namespace

void AddFlags(CLI::App& app, EngramdFlags& flags) {
  AddPlainFlags(app, flags);
  const auto tried = std::make_shared<EngramdFlags>();
  AddConfigFile(app, [tried](CLI::App& other) { AddPlainFlags(other, *tried); });
}

absl::StatusOr<LoadOptions> ToLoadOptions(const EngramdFlags& flags) {
  LoadOptions options;
  options.checkpoint = flags.checkpoint;
  options.sidecar = flags.sidecar;
  options.arena_dir = flags.arena_dir;
  options.memory_budget = flags.memory_budget;
  ASSIGN_OR_RETURN(options.store, ParseStoreKind(flags.store));
  const bool on_disk = options.store == StoreKind::kRocksDb;
  if (!on_disk && flags.checkpoint.empty()) {
    return absl::InvalidArgumentError("--checkpoint is required");
  }
  if (on_disk && flags.data_dir.empty()) {
    return absl::InvalidArgumentError("--store rocksdb needs --data-dir");
  }
  if (flags.shard_map.empty()) {
    ASSIGN_OR_RETURN(options.shard, Shard::Parse(flags.shard));
  } else {
    ASSIGN_OR_RETURN(const std::string text, ReadFile(flags.shard_map, kMaxShardMapBytes));
    ASSIGN_OR_RETURN(options.shard_map, ShardMap::Parse(text, flags.shard_map));
    ASSIGN_OR_RETURN(options.shard, options.shard_map->Find(flags.shard));
  }
  if (!flags.expect_digest.empty()) {
    ASSIGN_OR_RETURN(options.expect_digest, Sha256FromHex(flags.expect_digest));
  }
  options.threads = flags.load_threads;
  return options;
}

}  // namespace engram
