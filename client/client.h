// The client library: rows of an Engram table, from memory servers into the caller's buffers,
// while the caller does something else.
//
//   ASSIGN_OR_RETURN(auto client, Client::Connect({.servers = {"10.0.0.1:50051", ...}}));
//   LookBack state;                                   // one per sequence
//   ASSIGN_OR_RETURN(Ticket ticket, client->SubmitTokens(tokens, {}, state,
//                                                        {{1, rows_1}, {14, rows_14}}, {}));
//   ... compute layer 0 ...
//   RETURN_IF_ERROR(ticket.Wait(1));                  // rows_1 is in place
//
// A model that runs step after step takes slots (client/slot.h): buffers that stay where they are,
// words that a GPU waits for, rows fetched ahead (client/prefetch.h).
//
// Threads: a client starts ClientOptions::io_threads threads ("engram-io-0", ...), and one each
// that looks up names ("engram-dns") where servers are given by name. They run until the client is
// destroyed. It changes nothing process-wide: no signal handlers, no malloc settings. A child made
// by fork has none of the threads: there every submit is FailedPrecondition, and destroying clients
// and tickets does nothing; connect again.
#ifndef ENGRAM_CLIENT_CLIENT_H_
#define ENGRAM_CLIENT_CLIENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/options.h"
#include "client/stats.h"
#include "proto/geometry.h"
#include "proto/range_map.h"
#include "proto/row_ids.h"
#include "proto/row_layout.h"
#include "proto/sha256.h"
#include "proto/token_map.h"

namespace engram {

// A layer's part of a lookup by row ids.
struct RowsLookup {
  uint32_t layer = 0;
  std::span<const int64_t> rows;  // global row ids of that layer; kNoRow (-1) gives zeros
  std::span<uint8_t> out;         // [rows.size(), row_bytes], row-major, rows in request order
};

// A layer's part of a lookup by token ids.
struct LayerBuffer {
  uint32_t layer = 0;
  std::span<uint8_t> out;  // [tokens, columns, row_bytes], row-major
};

// Decode requests go before prefill requests on a server.
enum class LookupPriority { kDecode, kPrefill };

// What becomes of rows that no server gives in time.
enum class MissingRows {
  kFail,  // the layer fails
  // The token degrades as a whole: all its columns of that layer become zeros, which pass through
  // the model's fusion without effect. Never some columns alone; counted.
  kZeros,
};

// The values of a layer's word (see client/slot.h). Never a growing number: a CUDA graph bakes the
// value it waits for.
inline constexpr uint64_t kWordPending = 0;
inline constexpr uint64_t kWordReady = 1;
inline constexpr uint64_t kWordError = 2;

struct LookupOptions {
  // Counted from the submit; then every layer that is not in place fails with DeadlineExceeded.
  absl::Duration timeout = absl::Seconds(10);
  LookupPriority priority = LookupPriority::kDecode;
  // Called once on the I/O thread when every layer is in place or has failed, with the first
  // failure in the order of layers; Wait then returns at once. It may come before the submit has
  // returned, and has returned when the ticket is gone. It may submit other lookups and drop this
  // one's ticket; it must not block, nor drop a ticket whose lookup is not done. Null: nobody is
  // called.
  std::function<void(const absl::Status&)> on_done = nullptr;
  MissingRows missing = MissingRows::kFail;
  // [tokens], or empty: zeroed by the submit; 1 where a token has degraded in any layer, from when
  // that layer is done. Borrowed like the buffers.
  std::span<uint8_t> degraded = {};
};

class ClientCore;
class Lookup;

// One submitted lookup. Movable; to be used by one thread at a time. The ids and buffers of the
// lookup are borrowed until Wait has returned for every layer without DeadlineExceeded of its own
// `deadline`, or the ticket is destroyed: the destructor cancels what is outstanding and returns
// when nothing will touch them any more.
class Ticket {
 public:
  Ticket();
  Ticket(Ticket&&) noexcept;
  Ticket& operator=(Ticket&&) noexcept;
  ~Ticket();

  // Returns when the layer's rows are in place (OK), or will never be:
  //   InvalidArgument / OutOfRange  a row id is not one of the layer's (position and id named)
  //   Unavailable         no server that holds a row is up; names servers and range
  //   FailedPrecondition  a server no longer holds the client's table generation
  //   DeadlineExceeded    the lookup's timeout; or `deadline`, which leaves the lookup running
  //   DataLoss / Internal what a server sent cannot be trusted
  //   NotFound            the lookup has no such layer
  // After a failure the layer's buffer holds unspecified bytes: never use them.
  absl::Status Wait(uint32_t layer, absl::Time deadline = absl::InfiniteFuture());

  // Wait for every layer; the first failure in the order of the lookup's layers.
  absl::Status WaitAll(absl::Time deadline = absl::InfiniteFuture());

  // True when Wait(layer) would return at once.
  bool Done(uint32_t layer) const;

 private:
  friend class Client;
  explicit Ticket(std::shared_ptr<Lookup> lookup);
  std::shared_ptr<Lookup> lookup_;
};

// A table generation that a server holds.
struct GenerationStatus {
  Sha256 digest{};
  bool active = false;
  std::optional<Sha256> base;  // of the one that it was published on; none: loaded
  uint64_t changed_rows = 0;   // of the server, against the base
  std::vector<RowRange> ranges;
};

// What a server says of itself, or why it says nothing.
struct ServerStatus {
  std::string address;
  absl::Status status;  // of asking it; the fields below hold only when OK
  std::string version;
  std::string model;
  std::string state;    // "LOADING", "SERVING", "DRAINING", "FAILED"
  std::string failure;  // why it has failed
  Sha256 digest{};      // of its active generation
  std::string shard;    // "I/N"
  std::vector<RowRange> ranges;
  std::vector<GenerationStatus> generations;  // a base before what was published on it
  uint64_t rows = 0;
  uint64_t bytes = 0;
  // Passes of verification over its rows since its start, and rows of the pass under way.
  uint64_t verified_passes = 0;
  uint64_t verified_rows = 0;
};

// Asks every server at once, each within `timeout`; results in the order of `addresses`.
std::vector<ServerStatus> AskServers(const std::vector<std::string>& addresses,
                                     absl::Duration timeout, const Credentials& credentials = {});

// All methods are safe from any number of threads at once.
class Client {
 public:
  // Asks every server what it holds and opens a stream to each.
  //   InvalidArgument      the options (named)
  //   FailedPrecondition   servers of differing tables, or not the expected digest (servers and
  //                        digests named)
  //   Unavailable          rows that no reachable server holds (ranges and servers named), unless
  //                        options.allow_partial; or no server at all
  static absl::StatusOr<std::unique_ptr<Client>> Connect(ClientOptions options);
  // Fails outstanding lookups with CANCELLED and returns when nothing touches their buffers.
  ~Client();

  const std::string& model() const;
  const Geometry& geometry() const;
  const RowLayout& layout() const;
  Sha256 digest() const;  // of the generation that lookups are of now
  // Null where no server has one: then token ids are refused and row ids work.
  const TokenMap* token_map() const;

  // The servers from now on, in the place of ClientOptions::servers. Lookups go on: servers that
  // are not named any more are asked for ClientOptions::resolve_interval more, answer that and are
  // let go. InvalidArgument as Connect.
  absl::Status SetServers(const std::vector<std::string>& servers);

  // What was done since Connect.
  ClientStats stats() const;

  // Writes the n-grams that the caches hold, and how often each was asked for of late, to a file
  // (proto/hot_keys.h) that ClientOptions::hot_ngrams of another client of the table takes:
  // a worker that starts again begins with what it had. Waits for the I/O threads, milliseconds a
  // GB of cache; not to be called by on_done. FailedPrecondition: no cache, or in a child made by
  // fork. Cancelled: the client is closing. Else the system's code of writing it.
  absl::Status SaveHotNgrams(const std::string& path) const;

  // The rows that no connected server holds right now.
  std::vector<RowRange> MissingRanges() const;

  // Starts one lookup of some layers, the nearest first. Returns in microseconds: ids are borrowed
  // and looked at on the I/O thread, so what is wrong with them is said by Wait.
  // InvalidArgument: no layers, a layer twice, a buffer of the wrong size, `degraded` flags that
  // are not one for each token (columns() rows). NotFound: a layer without a table. Cancelled: the
  // client is closing.
  absl::StatusOr<Ticket> SubmitRows(const std::vector<RowsLookup>& layers,
                                    const LookupOptions& options);

  // The same by ids of any width, stride and base: ids.layers[i] is of layers[i], whose buffer is
  // [ids.tokens, columns, row_bytes]. All columns; own_columns means nothing here.
  // Also InvalidArgument: ids that are not of as many layers, null, or a mask that is not one for
  // each token.
  absl::StatusOr<Ticket> SubmitIds(const StepIds& ids, const std::vector<LayerBuffer>& layers,
                                   const LookupOptions& options);

  // The same from token ids: hashes the chunk `tokens` [T] (borrowed) of a sequence whose earlier
  // positions are in `state`, and moves `state` past the chunk. `dead` [T] (borrowed), or empty:
  // nonzero positions are not hashed and get zeros.
  // Also InvalidArgument: a token id beyond the token map (position named; `state` is unchanged).
  // FailedPrecondition: no token map.
  absl::StatusOr<Ticket> SubmitTokens(std::span<const uint32_t> tokens,
                                      std::span<const uint8_t> dead, LookBack& state,
                                      const std::vector<LayerBuffer>& layers,
                                      const LookupOptions& options);

  // Bytes that all prefetches (client/prefetch.h) hold now.
  uint64_t prefetch_bytes() const;

 private:
  friend class Guesses;
  friend class Prefetch;
  friend class Slot;
  explicit Client(std::shared_ptr<ClientCore> core);
  // Tickets, slots and prefetches hold it too: they may outlive the client.
  const std::shared_ptr<ClientCore> core_;
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_CLIENT_H_
