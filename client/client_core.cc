#include "client/client_core.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "client/cache_filler.h"
#include "proto/base/status_macros.h"

namespace engram {

absl::Status ClientCore::Connect() {
  RETURN_IF_ERROR(options_.Validate());
  ASSIGN_OR_RETURN(credentials_, CredentialSource::Create(options_.credentials));
  absl::Status status = StartThreads();
  if (status.ok()) status = WaitUntilConnected();
  if (!status.ok()) Close();
  return status;
}

void ClientCore::Close() {
  for (const auto& thread : io_threads_) thread->Close();
}

absl::Status ClientCore::StartThreads() {
  for (uint32_t i = 0; i < options_.io_threads; ++i) {
    ASSIGN_OR_RETURN(io_threads_.emplace_back(), IoThread::Start(options_, credentials_.get(), i));
  }
  return absl::OkStatus();
}

absl::Status ClientCore::CheckConnection(const Connection& connection) const {
  if (!connection.conflict.ok()) return connection.conflict;
  std::string why;
  absl::StatusCode refused = absl::StatusCode::kOk;  // what a server that is there says
  for (const ServerState& server : connection.servers) {
    if (!server.status.ok()) absl::StrAppend(&why, "; ", server.status.message());
    const bool known = absl::IsFailedPrecondition(server.status) ||
                       absl::IsUnauthenticated(server.status) ||
                       absl::IsPermissionDenied(server.status);
    if (known) refused = server.status.code();
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
  // A server that is there but holds another table, or is not for us, is no matter of waiting.
  return absl::Status(refused == absl::StatusCode::kOk ? absl::StatusCode::kUnavailable : refused,
                      absl::StrCat(what, why));
}

absl::Status ClientCore::LoadTokenMap(const Connection& connection) {
  if (!table_->token_map.has_value()) return absl::OkStatus();
  absl::Status last;
  for (const ServerState& server : connection.servers) {
    if (!server.status.ok()) continue;
    absl::StatusOr<TokenMap> map =
        FetchTokenMap(server.address, *credentials_, options_.connect_timeout);
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

absl::Status ClientCore::WaitUntilConnected() {
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
      waits_ = std::make_unique<LayerWaits[]>(table_->geometry.layers().size());
    }
    // All threads are to begin with one generation, and servers may be changing theirs.
    thread->Call([&] {
      thread->fan_out().servers().Settle(table_->digest);
      thread->fan_out().TakeTable();
    });
    RETURN_IF_ERROR(CheckConnection(thread->fan_out().servers().connection()));
  }
  for (auto& thread : io_threads_) {
    ASSIGN_OR_RETURN(auto folder, Folder::Create(options_, table_->geometry, table_->layout));
    thread->fan_out().set_folder(std::move(folder));
  }
  RETURN_IF_ERROR(LoadTokenMap(io_threads_[0]->fan_out().servers().connection()));
  return options_.hot_ngrams.empty() ? absl::OkStatus() : FillCaches(*this);
}

// What any of the threads misses.
std::vector<RowRange> ClientCore::MissingRanges() const {
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

absl::Status ClientCore::SetServers(const std::vector<std::string>& servers) {
  ClientOptions options = options_;
  options.servers = servers;
  RETURN_IF_ERROR(options.Validate());
  RETURN_IF_ERROR(CheckProcess());
  for (const auto& thread : io_threads_) thread->SetServers(servers);
  return absl::OkStatus();
}

ClientStats ClientCore::stats() const {
  ClientStats stats;
  for (const auto& thread : io_threads_) thread->fan_out().AddTo(stats);
  guess_counters_.AddTo(stats);
  stats.rows = stats.row_bytes / table_->layout.row_bytes();
  for (const LayerGeometry& layer : table_->geometry.layers()) {
    const LayerWaits& waits = waits_[stats.layers.size()];
    LayerStats& sum = stats.layers.emplace_back();
    sum.layer = layer.layer_id;
    waits.stall.AddTo(sum.stall);
    waits.word.AddTo(sum.word);
  }
  for (const ServerState& server : io_threads_[0]->fan_out().servers().connection().servers) {
    ++(!server.status.ok() ? stats.gone_servers
       : server.ejected    ? stats.ejected_servers
                           : stats.connected_servers);
  }
  return stats;
}

absl::Status ClientCore::CheckProcess() const {
  if (!forked()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("the client was connected in process ", process_,
                   ", whose child this is: its threads are not here, connect again"));
}

}  // namespace engram
