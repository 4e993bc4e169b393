#include "client/client.h"

#include <grpcpp/alarm.h>
#include <pthread.h>

#include <algorithm>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "client/fan_out.h"
#include "client/lookup.h"
#include "proto/base/status_macros.h"

namespace engram {

// The I/O thread and the way to it. Submitters leave commands in a list and wake the thread only
// when it sleeps.
class Client::Impl {
 public:
  explicit Impl(ClientOptions options)
      : options_(std::move(options)), fan_out_(options_, &queue_), thread_([this] { Run(); }) {}
  ~Impl();

  absl::Status WaitUntilConnected();
  absl::StatusOr<std::shared_ptr<Lookup>> NewLookup(size_t layers, const LookupOptions& options);
  absl::Status SetLayer(LookupLayer& layer, uint32_t id, size_t rows, std::span<uint8_t> out) const;
  absl::Status Submit(const std::shared_ptr<Lookup>& lookup);

  const TableInfo& table() const { return *table_; }
  const std::optional<TokenMap>& token_map() const { return token_map_; }
  Connection connection() const { return fan_out_.connection(); }

 private:
  struct Command {
    std::shared_ptr<Lookup> lookup;
    bool cancel = false;
  };

  void Post(Command command);
  void Run();
  bool RunCommands();
  void WaitForWork();
  absl::Status CheckConnection(const Connection& connection) const;
  absl::Status LoadTokenMap(const Connection& connection);

  const ClientOptions options_;
  std::optional<TableInfo> table_;     // const once connected
  std::optional<TokenMap> token_map_;  // const once connected

  grpc::CompletionQueue queue_;
  FanOut fan_out_;

  Mutex mutex_;
  std::vector<Command> commands_ ABSL_GUARDED_BY(mutex_);
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  // True while the I/O thread blocks and nobody has set the alarm. Who turns it to false owes (or
  // knows of) exactly one wake-up.
  bool asleep_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::Alarm alarm_;
  bool alarm_set_ ABSL_GUARDED_BY(mutex_) = false;

  std::thread thread_;  // last: it uses all of the above
};

void Client::Impl::Post(Command command) {
  MutexLock lock(&mutex_);
  commands_.push_back(std::move(command));
  if (asleep_ && !alarm_set_) {
    alarm_set_ = true;
    alarm_.Set(&queue_, gpr_now(GPR_CLOCK_MONOTONIC), nullptr);
  }
}

bool Client::Impl::RunCommands() {
  std::vector<Command> commands;
  {
    MutexLock lock(&mutex_);
    commands.swap(commands_);
  }
  for (Command& command : commands) {
    if (command.cancel) {
      fan_out_.Cancel(*command.lookup, absl::CancelledError("the ticket was dropped"));
    } else {
      fan_out_.Start(std::move(command.lookup));
    }
  }
  return !commands.empty();
}

// Takes one event off the queue, polling for `spin` before it blocks.
void Client::Impl::WaitForWork() {
  void* tag = nullptr;
  bool ok = false;
  const auto poll = [&](gpr_timespec deadline) {
    if (queue_.AsyncNext(&tag, &ok, deadline) != grpc::CompletionQueue::GOT_EVENT) return false;
    if (tag == nullptr) {
      MutexLock lock(&mutex_);
      alarm_set_ = false;
    } else {
      static_cast<Completion*>(tag)->Run(ok);
    }
    return true;
  };
  if (poll(gpr_time_0(GPR_CLOCK_MONOTONIC))) return;
  if (options_.spin > absl::ZeroDuration()) {
    const absl::Time until = std::min(absl::Now() + options_.spin, fan_out_.NextTick());
    while (absl::Now() < until) {
      if (RunCommands() || poll(gpr_time_0(GPR_CLOCK_MONOTONIC))) return;
    }
  }
  {
    MutexLock lock(&mutex_);
    if (!commands_.empty()) return;
    asleep_ = true;
  }
  const absl::Duration left = std::min(fan_out_.NextTick() - absl::Now(), absl::Seconds(1));
  poll(gpr_time_add(
      gpr_now(GPR_CLOCK_MONOTONIC),
      gpr_time_from_micros(std::max<int64_t>(0, absl::ToInt64Microseconds(left)), GPR_TIMESPAN)));
  MutexLock lock(&mutex_);
  asleep_ = false;
}

void Client::Impl::Run() {
  pthread_setname_np(pthread_self(), "engram-io");
  bool closing = false;
  while (!closing) {
    RunCommands();
    fan_out_.Tick(absl::Now());
    WaitForWork();
    MutexLock lock(&mutex_);
    closing = closing_;
  }
  RunCommands();
  fan_out_.Shutdown();
  while (!fan_out_.idle()) WaitForWork();
  alarm_.Cancel();
  queue_.Shutdown();
  void* tag = nullptr;
  bool ok = false;
  while (queue_.Next(&tag, &ok)) {
  }
}

Client::Impl::~Impl() {
  {
    MutexLock lock(&mutex_);
    closing_ = true;
    if (asleep_ && !alarm_set_) {
      alarm_set_ = true;
      alarm_.Set(&queue_, gpr_now(GPR_CLOCK_MONOTONIC), nullptr);
    }
  }
  thread_.join();
}

absl::Status Client::Impl::CheckConnection(const Connection& connection) const {
  if (!connection.conflict.ok()) return connection.conflict;
  std::string why;
  bool refused = false;
  for (const auto& [address, status] : connection.servers) {
    if (!status.ok()) absl::StrAppend(&why, "; ", status.message());
    refused = refused || status.code() == absl::StatusCode::kFailedPrecondition;
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
  for (const auto& [address, status] : connection.servers) {
    if (!status.ok()) continue;
    absl::StatusOr<TokenMap> map = FetchTokenMap(address, options_.connect_timeout);
    if (map.ok() && map->sha256() == *table_->token_map) {
      token_map_ = *std::move(map);
      ASSIGN_OR_RETURN(const uint32_t pad,
                       token_map_->Compress(table_->geometry.params().pad_token));
      ASSIGN_OR_RETURN(RowHasher hasher, RowHasher::Create(table_->geometry, pad));
      fan_out_.set_hasher(std::move(hasher));
      return absl::OkStatus();
    }
    last = map.ok() ? absl::DataLossError(absl::StrCat(address,
                                                       " sent another token map than the "
                                                       "table's"))
                    : map.status();
  }
  return last;
}

absl::Status Client::Impl::WaitUntilConnected() {
  const Connection connection = fan_out_.WaitForConnection(
      absl::Now() + options_.connect_timeout, [this](const Connection& c) {
        // A server of another table is no matter of waiting; one that is not there may come.
        return !c.conflict.ok() || (c.all_tried && !absl::IsUnavailable(CheckConnection(c)));
      });
  RETURN_IF_ERROR(CheckConnection(connection));
  table_ = connection.table;
  return LoadTokenMap(connection);
}

absl::StatusOr<std::shared_ptr<Lookup>> Client::Impl::NewLookup(size_t layers,
                                                                const LookupOptions& options) {
  if (layers == 0) return absl::InvalidArgumentError("a lookup needs at least one layer");
  if (options.timeout <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError("lookup option `timeout` is not positive");
  }
  auto lookup = std::make_shared<Lookup>(layers);
  lookup->timeout = options.timeout;
  lookup->deadline = absl::Now() + options.timeout;
  lookup->priority = options.priority;
  lookup->spin = options_.spin;
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
  const std::weak_ptr<Lookup> weak = lookup;
  lookup->cancel = [this, weak] {
    if (auto strong = weak.lock()) Post({std::move(strong), true});
  };
  Post({lookup, false});
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
  if (lookup_ == nullptr || lookup_->AllDone()) return;
  lookup_->cancel();
  lookup_->WaitAll(absl::InfiniteFuture()).IgnoreError();
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
Client::~Client() = default;

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(ClientOptions options) {
  RETURN_IF_ERROR(options.Validate());
  auto impl = std::make_unique<Impl>(std::move(options));
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

std::vector<RowRange> Client::MissingRanges() const { return impl_->connection().missing; }

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
  RowHasher::Advance(lookup->compressed, dead, state);
  return Ticket(std::move(lookup));
}

}  // namespace engram
