#ifndef ENGRAM_CLIENT_OPTIONS_H_
#define ENGRAM_CLIENT_OPTIONS_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "client/credentials.h"
#include "client/step.h"
#include "proto/sha256.h"

namespace engram {

struct ClientOptions {
  // Any of the servers, in any order, replicas too: "host:port" or "unix:PATH". A name that stands
  // for several addresses is as many servers.
  std::vector<std::string> servers;

  // Who the client is, and how it knows servers; by default plaintext without a token.
  Credentials credentials = {};

  // What decides behaviour.

  // Refuse any other table; unset: the one table that all servers hold.
  std::optional<Sha256> expect_digest = std::nullopt;
  // When servers of all rows have made another generation of the table active, use it from the next
  // lookup on: a lookup's rows are of one generation, whatever comes. Otherwise the client keeps to
  // the generation that it has connected to, until servers retire it. Not with `expect_digest`.
  bool follow_generations = false;
  // How often servers are asked which one is active. Those that tell of changes are asked within a
  // tenth of a second of one, and else every 30 seconds, or this where it is longer.
  absl::Duration follow_interval = absl::Seconds(1);
  // Accept a fleet that does not hold every row; lookups of missing rows then fail.
  bool allow_partial = false;
  // How long Connect waits for the servers to cover the table.
  absl::Duration connect_timeout = absl::Seconds(5);
  // How often names are looked up again: servers that come are followed that fast, those that go
  // one lookup later.
  absl::Duration resolve_interval = absl::Seconds(2);
  // Share of the requests whose rows are held against the checksums that the server computed when
  // it loaded them: 0 for none, 1 for all. Rows that differ
  // are fetched from another server, or fail with DataLoss.
  double verify_share = 0;

  // What decides speed.

  // Answer bytes asked for at once of one server; more waits its turn. At least one request is
  // always let through.
  uint64_t credit_bytes = 16 << 20;
  // Rows of one request at most (the server's limit also holds).
  uint32_t rows_per_request = 16384;
  // Threads that hash, send and scatter, each with connections of its own to every server. One
  // keeps up with several GB/s; lookups go to them in turn.
  uint32_t io_threads = 1;
  // Memory that all prefetches together may hold.
  uint64_t max_prefetch_bytes = uint64_t{1} << 30;
  // N-grams that a lookup repeats are fetched once. Lookups in which next to nothing repeats
  // (decode steps) are looked through only now and then.
  bool dedup = true;
  // Memory for rows of n-grams that were fetched before, divided among the I/O threads; 0: none is
  // kept. Taken as it fills.
  uint64_t cache_bytes = 0;
  // The columns that it keeps: lookups of others pass it by. A tensor-parallel rank names its own;
  // default: all.
  ColumnRange cache_columns = {};
  // File of n-grams (`engramctl hot-ngrams`, Client::SaveHotNgrams) that the cache is filled with:
  // Connect returns when they are there. Empty: it starts empty.
  std::string hot_ngrams = {};
  // How long an I/O thread and Wait poll before they sleep. A sleeping core takes 50 us and more
  // to wake; a polling one is busy.
  absl::Duration spin = absl::ZeroDuration();

  // Cores that the I/O threads run on, thread i on cpus[i % size]; empty: anywhere.
  std::vector<int> cpus = {};
  // A request that takes longer than others of its size is sent to a second server that holds its
  // rows, if there is one: at most so many second requests per first one (0: never). No answer is
  // late, of a second request or of a server that is to be put aside, before `hedge_after_least`.
  double hedge_share = 0.05;
  absl::Duration hedge_after_least = absl::Milliseconds(1);

  // A line on a server lost or back, or put aside. Called from the I/O thread; must not block. May
  // be null.
  std::function<void(absl::string_view)> log = nullptr;

  // InvalidArgument naming the option.
  absl::Status Validate() const;
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_OPTIONS_H_
