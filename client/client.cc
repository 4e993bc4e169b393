#include "client/client.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "client/fan_out.h"
#include "client/io_thread.h"
#include "client/lookup.h"
#include "proto/base/status_macros.h"

namespace engram {

class Client::Impl {
 public:
  explicit Impl(ClientOptions options) : options_(std::move(options)) {}

  absl::Status StartThreads();
  absl::Status WaitUntilConnected();
  absl::StatusOr<std::shared_ptr<Lookup>> NewLookup(size_t layers, const LookupOptions& options);
  absl::Status SetLayer(LookupLayer& layer, uint32_t id, size_t rows, std::span<uint8_t> out) const;
  absl::Status Submit(const std::shared_ptr<Lookup>& lookup);
  absl::Status CheckDegraded(const Lookup& lookup, const LookupLayer& layer) const;

  const TableInfo& table() const { return *table_; }
  const std::optional<TokenMap>& token_map() const { return token_map_; }
  const RowHasher& hasher() const { return io_threads_[0]->fan_out().hasher(); }
  std::vector<RowRange> MissingRanges() const;
  absl::Status SetServers(const std::vector<std::string>& servers);
  ClientStats stats() const;
  // This is a child that was made by fork: the client's threads are not here.
  bool forked() const { return getpid() != process_; }

 private:
  absl::Status CheckConnection(const Connection& connection) const;
  absl::Status CheckProcess() const;
  absl::Status LoadTokenMap(const Connection& connection);

  const ClientOptions options_;
  const pid_t process_ = getpid();
  std::optional<TableInfo> table_;     // const once connected
  std::optional<TokenMap> token_map_;  // const once connected
  std::atomic<size_t> next_thread_{0};
  std::vector<std::unique_ptr<IoThread>> io_threads_;
};

absl::Status Client::Impl::StartThreads() {
  for (uint32_t i = 0; i < options_.io_threads; ++i) {
    ASSIGN_OR_RETURN(io_threads_.emplace_back(), IoThread::Start(options_, i));
  }
  return absl::OkStatus();
}

absl::Status Client::Impl::CheckConnection(const Connection& connection) const {
  if (!connection.conflict.ok()) return connection.conflict;
  std::string why;
  bool refused = false;
  for (const ServerState& server : connection.servers) {
    if (!server.status.ok()) absl::StrAppend(&why, "; ", server.status.message());
    refused = refused || absl::IsFailedPrecondition(server.status);
  }
  const bool any = connection.table.has_value();
  if (any && (connection.missing.empty() || options_.allow_partial)) return absl::OkStatus();
  const std::string what =
      any ? absl::StrCat("no server holds ",
                         absl::StrJoin(connection.missing, ", ",
                                       [](std::string* out, const RowRange& range) {
                                         out->append(ToString(range));
                                       }))
          : "no server can be used";
  // A server that is there but holds another table is no matter of waiting.
  if (refused) return absl::FailedPreconditionError(absl::StrCat(what, why));
  return absl::UnavailableError(absl::StrCat(what, why));
}

absl::Status Client::Impl::LoadTokenMap(const Connection& connection) {
  if (!table_->token_map.has_value()) return absl::OkStatus();
  absl::Status last;
  for (const ServerState& server : connection.servers) {
    if (!server.status.ok()) continue;
    absl::StatusOr<TokenMap> map = FetchTokenMap(server.address, options_.connect_timeout);
    if (map.ok() && map->sha256() == *table_->token_map) {
      token_map_ = *std::move(map);
      ASSIGN_OR_RETURN(const uint32_t pad,
                       token_map_->Compress(table_->geometry.params().pad_token));
      ASSIGN_OR_RETURN(const RowHasher hasher, RowHasher::Create(table_->geometry, pad));
      for (auto& thread : io_threads_) thread->fan_out().set_hasher(hasher);
      return absl::OkStatus();
    }
    last = map.ok() ? absl::DataLossError(absl::StrCat(server.label,
                                                       " sent another token map than the "
                                                       "table's"))
                    : map.status();
  }
  return last;
}

absl::Status Client::Impl::WaitUntilConnected() {
  const absl::Time deadline = absl::Now() + options_.connect_timeout;
  for (auto& thread : io_threads_) {
    const Connection connection =
        thread->fan_out().servers().WaitForConnection(deadline, [this](const Connection& c) {
          // A server of another table is no matter of waiting; one that is not there may come.
          return !c.conflict.ok() || (c.all_tried && !absl::IsUnavailable(CheckConnection(c)));
        });
    RETURN_IF_ERROR(CheckConnection(connection));
    if (!table_.has_value()) {
      table_ = connection.table;
    } else if (table_->digest != connection.table->digest) {
      return absl::FailedPreconditionError(absl::StrCat(
          connection.table->source, " serves the table of digest ", ToHex(connection.table->digest),
          ", but ", table_->source, " serves that of ", ToHex(table_->digest)));
    }
  }
  return LoadTokenMap(io_threads_[0]->fan_out().servers().connection());
}

// What any of the threads misses.
std::vector<RowRange> Client::Impl::MissingRanges() const {
  std::vector<RowRange> missing;
  for (const auto& thread : io_threads_) {
    for (const RowRange& range : thread->fan_out().servers().connection().missing) {
      if (std::find(missing.begin(), missing.end(), range) == missing.end()) {
        missing.push_back(range);
      }
    }
  }
  return missing;
}

absl::Status Client::Impl::SetServers(const std::vector<std::string>& servers) {
  ClientOptions options = options_;
  options.servers = servers;
  RETURN_IF_ERROR(options.Validate());
  RETURN_IF_ERROR(CheckProcess());
  for (const auto& thread : io_threads_) thread->SetServers(servers);
  return absl::OkStatus();
}

ClientStats Client::Impl::stats() const {
  ClientStats stats;
  for (const auto& thread : io_threads_) thread->fan_out().stats().AddTo(stats);
  return stats;
}

absl::Status Client::Impl::CheckProcess() const {
  if (!forked()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("the client was connected in process ", process_,
                   ", whose child this is: its threads are not here, connect again"));
}

absl::StatusOr<std::shared_ptr<Lookup>> Client::Impl::NewLookup(size_t layers,
                                                                const LookupOptions& options) {
  RETURN_IF_ERROR(CheckProcess());
  if (layers == 0) return absl::InvalidArgumentError("a lookup needs at least one layer");
  if ((options.missing == MissingRows::kZeros) != !options.degraded.empty()) {
    return absl::InvalidArgumentError(
        "lookup options: MissingRows::kZeros and `degraded` go together");
  }
  if (options.timeout <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError("lookup option `timeout` is not positive");
  }
  auto lookup = std::make_shared<Lookup>(layers);
  lookup->timeout = options.timeout;
  lookup->deadline = absl::Now() + options.timeout;
  lookup->priority = options.priority;
  lookup->on_done = options.on_done;
  lookup->spin = options_.spin;
  lookup->process = process_;
  lookup->on_missing = options.missing;
  lookup->degraded = options.degraded;
  return lookup;
}

absl::Status Client::Impl::SetLayer(LookupLayer& layer, uint32_t id, size_t rows,
                                    std::span<uint8_t> out) const {
  ASSIGN_OR_RETURN(layer.index, table_->geometry.LayerIndex(id));
  layer.layer = id;
  layer.out = out;
  const uint64_t expected = uint64_t{rows} * table_->layout.row_bytes();
  if (rows >= UINT32_MAX || out.size() != expected) {
    return absl::InvalidArgumentError(absl::StrCat("layer ", id, ": the buffer has ", out.size(),
                                                   " bytes, ", rows, " rows take ", expected));
  }
  return absl::OkStatus();
}

// Every layer's rows are those of as many tokens as there are flags.
absl::Status Client::Impl::CheckDegraded(const Lookup& lookup, const LookupLayer& layer) const {
  if (lookup.on_missing == MissingRows::kFail) return absl::OkStatus();
  const size_t rows = layer.out.size() / table_->layout.row_bytes();
  const size_t tokens = lookup.degraded.size();
  if (rows % tokens == 0 && (lookup.compressed.empty() || lookup.compressed.size() == tokens)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("layer ", layer.layer, ": ", rows,
                                                 " rows are not those of the ", tokens,
                                                 " tokens that `degraded` has flags for"));
}

absl::Status Client::Impl::Submit(const std::shared_ptr<Lookup>& lookup) {
  const std::vector<LookupLayer>& layers = lookup->layers();
  for (size_t i = 0; i < layers.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (layers[i].layer == layers[j].layer) {
        return absl::InvalidArgumentError(
            absl::StrCat("layer ", layers[i].layer, " stands twice in one lookup"));
      }
    }
  }
  for (const LookupLayer& layer : layers) RETURN_IF_ERROR(CheckDegraded(*lookup, layer));
  std::fill(lookup->degraded.begin(), lookup->degraded.end(), uint8_t{0});
  const size_t turn = next_thread_.fetch_add(1, std::memory_order_relaxed);
  IoThread& thread = *io_threads_[turn % io_threads_.size()];
  lookup->owner = &thread;
  thread.Submit(lookup);
  return absl::OkStatus();
}

namespace {

// Layers in the model's order: the nearest one is needed first.
template <typename Layer>
std::vector<Layer> NearestFirst(std::vector<Layer> layers) {
  std::stable_sort(layers.begin(), layers.end(),
                   [](const Layer& a, const Layer& b) { return a.layer < b.layer; });
  return layers;
}

}  // namespace

Ticket::Ticket() = default;
Ticket::Ticket(std::shared_ptr<Lookup> lookup) : lookup_(std::move(lookup)) {}
Ticket::Ticket(Ticket&&) noexcept = default;

Ticket& Ticket::operator=(Ticket&& other) noexcept {
  std::swap(lookup_, other.lookup_);
  return *this;
}

Ticket::~Ticket() {
  if (lookup_ == nullptr || lookup_->over() || lookup_->forked()) return;
  if (!lookup_->AllDone()) lookup_->owner->Cancel(lookup_);
  lookup_->WaitUntilOver();
}

absl::Status Ticket::Wait(uint32_t layer, absl::Time deadline) {
  if (lookup_ == nullptr) return absl::FailedPreconditionError("the ticket is empty");
  return lookup_->Wait(layer, deadline);
}

absl::Status Ticket::WaitAll(absl::Time deadline) {
  if (lookup_ == nullptr) return absl::FailedPreconditionError("the ticket is empty");
  return lookup_->WaitAll(deadline);
}

bool Ticket::Done(uint32_t layer) const { return lookup_ != nullptr && lookup_->Done(layer); }

Client::Client(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Client::~Client() {
  // Threads that are not here cannot be waited for, nor what they had in their hands be freed.
  if (impl_->forked()) static_cast<void>(impl_.release());
}

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(ClientOptions options) {
  RETURN_IF_ERROR(options.Validate());
  auto impl = std::make_unique<Impl>(std::move(options));
  RETURN_IF_ERROR(impl->StartThreads());
  RETURN_IF_ERROR(impl->WaitUntilConnected());
  return std::unique_ptr<Client>(new Client(std::move(impl)));
}

const std::string& Client::model() const { return impl_->table().model; }
const Geometry& Client::geometry() const { return impl_->table().geometry; }
const RowLayout& Client::layout() const { return impl_->table().layout; }
const Sha256& Client::digest() const { return impl_->table().digest; }

const TokenMap* Client::token_map() const {
  return impl_->token_map().has_value() ? &*impl_->token_map() : nullptr;
}

std::vector<RowRange> Client::MissingRanges() const { return impl_->MissingRanges(); }
ClientStats Client::stats() const { return impl_->stats(); }

absl::Status Client::SetServers(const std::vector<std::string>& servers) {
  return impl_->SetServers(servers);
}

absl::StatusOr<Ticket> Client::SubmitRows(const std::vector<RowsLookup>& layers,
                                          const LookupOptions& options) {
  ASSIGN_OR_RETURN(auto lookup, impl_->NewLookup(layers.size(), options));
  LookupLayer* layer = lookup->layers().data();
  for (const RowsLookup& source : NearestFirst(layers)) {
    RETURN_IF_ERROR(impl_->SetLayer(*layer, source.layer, source.rows.size(), source.out));
    layer->ids = source.rows;
    ++layer;
  }
  RETURN_IF_ERROR(impl_->Submit(lookup));
  return Ticket(std::move(lookup));
}

absl::StatusOr<Ticket> Client::SubmitTokens(std::span<const uint32_t> tokens,
                                            std::span<const uint8_t> dead, LookBack& state,
                                            const std::vector<LayerBuffer>& layers,
                                            const LookupOptions& options) {
  if (token_map() == nullptr) {
    return absl::FailedPreconditionError(
        "the servers have no token map: look up by row ids, or serve a checkpoint with a "
        "tokenizer");
  }
  if (!dead.empty() && dead.size() != tokens.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(dead.size(), " dead flags for ", tokens.size(), " tokens"));
  }
  ASSIGN_OR_RETURN(auto lookup, impl_->NewLookup(layers.size(), options));
  const std::span<const uint32_t> map = token_map()->compressed();
  lookup->compressed.resize(tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] >= map.size()) {
      // A dead position (an image span, say) may carry any id: it is never hashed.
      if (!dead.empty() && dead[i] != 0) continue;
      return absl::InvalidArgumentError(absl::StrCat("token id ", tokens[i], " at position ", i,
                                                     " is beyond the token map of ", map.size(),
                                                     " tokens"));
    }
    lookup->compressed[i] = map[tokens[i]];
  }
  lookup->dead = dead;
  lookup->before = state;
  const size_t rows = tokens.size() * geometry().columns();
  LookupLayer* layer = lookup->layers().data();
  for (const LayerBuffer& source : NearestFirst(layers)) {
    RETURN_IF_ERROR(impl_->SetLayer(*layer, source.layer, rows, source.out));
    ++layer;
  }
  RETURN_IF_ERROR(impl_->Submit(lookup));
  impl_->hasher().Advance(lookup->compressed, dead, state);
  return Ticket(std::move(lookup));
}

}  // namespace engram
