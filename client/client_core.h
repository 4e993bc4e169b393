// What a client is made of, shared with the tickets, slots and prefetches that may outlive it.
#ifndef ENGRAM_CLIENT_CLIENT_CORE_H_
#define ENGRAM_CLIENT_CLIENT_CORE_H_

#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/fan_out.h"
#include "client/io_thread.h"
#include "client/lookup.h"
#include "client/options.h"
#include "client/step.h"

namespace engram {

// Lookups refer to it, and its threads to lookups: Close, which the client's end calls, undoes the
// circle. All methods but Connect and Close: any thread.
class ClientCore : public std::enable_shared_from_this<ClientCore> {
 public:
  explicit ClientCore(ClientOptions options) : options_(std::move(options)) {}

  // See Client::Connect.
  absl::Status Connect();
  // Fails outstanding lookups; returns when nothing touches their buffers. Submits are refused from
  // here on.
  void Close();

  const ClientOptions& options() const { return options_; }
  // As connected to; generations differ in digest alone.
  const TableInfo& table() const { return *table_; }
  Sha256 digest() const { return io_threads_[0]->fan_out().servers().connection().table->digest; }
  const std::optional<TokenMap>& token_map() const { return token_map_; }
  // Of one I/O thread; to be used before its first lookup.
  Folder& folder(size_t thread) { return io_threads_[thread]->fan_out().folder(); }
  const RowHasher& hasher() const { return io_threads_[0]->fan_out().hasher(); }
  std::vector<RowRange> MissingRanges() const;
  absl::Status SetServers(const std::vector<std::string>& servers);
  ClientStats stats() const;
  absl::Status SaveHotNgrams(const std::string& path) const;
  // This is a child that was made by fork: the client's threads are not here.
  bool forked() const { return getpid() != process_; }
  // FailedPrecondition: forked.
  absl::Status CheckProcess() const;
  const std::shared_ptr<std::atomic<uint64_t>>& prefetch_bytes() const { return prefetch_bytes_; }

  // `layers`, or all where there are none, ascending. InvalidArgument: not ascending. NotFound.
  absl::StatusOr<std::vector<uint32_t>> LayersOf(std::vector<uint32_t> layers) const;
  // InvalidArgument: no columns, or not the table's.
  absl::StatusOr<ColumnRange> ColumnsOf(ColumnRange columns) const;

  // FailedPrecondition: none, so that token ids cannot be looked up.
  absl::Status CheckTokenMap() const;

  // A lookup of so many layers and all columns, whose layers are to be filled.
  absl::StatusOr<std::shared_ptr<Lookup>> NewLookup(size_t layers,
                                                    const LookupOptions& options) const;
  // NotFound: no such layer. InvalidArgument: more rows than a lookup may have.
  absl::Status SetLayer(LookupLayer& layer, uint32_t id, size_t rows,
                        const RowTarget& target) const;

  // InvalidArgument: ids that are not of so many layers, a mask that is not one flag a token.
  absl::Status CheckIds(const StepIds& ids, size_t layers) const;
  // Has the layer, after SetLayer, ask for `source`, one of ids.layers. InvalidArgument: null.
  absl::Status SetIds(const StepIds& ids, const LayerIds& source, ColumnRange columns,
                      LookupLayer& layer) const;

  // The thread that the next lookups, or the next slot's, go to.
  size_t NextThread() { return next_thread_.fetch_add(1) % io_threads_.size(); }
  // InvalidArgument: a layer twice, or `degraded` is not one flag a token. Cancelled: closed.
  absl::Status Submit(const std::shared_ptr<Lookup>& lookup, size_t thread);
  // Makes it a lookup of `chunks` first, and moves their states on.
  // InvalidArgument: a token beyond the token map, dead flags that are not one a token, a chunk
  // without state, a prefetch of another client, without what is asked for or behind another state;
  // FailedPrecondition: no token map. After a failure the states are where they were.
  absl::Status SubmitChunks(const std::shared_ptr<Lookup>& lookup,
                            std::span<const StepChunk> chunks, size_t thread);
  // The same of runs of compressed ids, which are copied, each a chunk. As Submit.
  absl::Status SubmitRuns(const std::shared_ptr<Lookup>& lookup, std::span<const TokenRun> runs,
                          size_t thread);

  GuessCounters& guess_counters() { return guess_counters_; }

 private:
  absl::Status StartThreads();
  absl::Status WaitUntilConnected();
  absl::Status CheckConnection(const Connection& connection) const;
  absl::Status LoadTokenMap(const Connection& connection);
  absl::Status Compress(const StepChunk& chunk, std::vector<uint32_t>& compressed) const;
  // Moves the chunk's state past it and fills `part`. InvalidArgument: see SubmitChunks.
  absl::Status AddChunk(const StepChunk& chunk, std::span<const uint32_t> compressed,
                        LookupChunk& part) const;
  absl::Status CheckAhead(const StepChunk& chunk, const Lookup& lookup) const;

  const ClientOptions options_;
  const pid_t process_ = getpid();
  std::shared_ptr<CredentialSource> credentials_;  // const once connecting
  std::optional<TableInfo> table_;                 // const once connected
  std::optional<TokenMap> token_map_;              // const once connected
  const std::shared_ptr<std::atomic<uint64_t>> prefetch_bytes_ =
      std::make_shared<std::atomic<uint64_t>>(0);
  std::atomic<size_t> next_thread_{0};
  GuessCounters guess_counters_;
  std::unique_ptr<LayerWaits[]> waits_;  // by Geometry::layers(), once connected
  std::vector<std::unique_ptr<IoThread>> io_threads_;
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_CLIENT_CORE_H_
