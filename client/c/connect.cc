// Clients of the C ABI: their options, their beginning and their end.
#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "client/c/handles.h"
#include "client/c/status.h"
#include "client/c/structs.h"
#include "client/settings.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

constexpr size_t kMaxServers = 65536;

absl::Status ToServers(const char* const* servers, size_t count, std::vector<std::string>& out) {
  RETURN_IF_ERROR(CheckArray(servers, count, kMaxServers, "servers"));
  for (size_t i = 0; i < count; ++i) {
    RETURN_IF_ERROR(CheckNotNull(servers[i], "servers[i]"));
    out.emplace_back(servers[i]);
  }
  return absl::OkStatus();
}

void SetLog(engram_log_fn log, void* user, ClientOptions& out) {
  if (log == nullptr) return;
  out.log = [log, user](absl::string_view line) { log(user, std::string(line).c_str()); };
}

absl::Status SetBehaviour(const engram_client_options& given, ClientSettings& out) {
  RETURN_IF_ERROR(ToServers(given.servers, given.server_count, out.client.servers));
  if (given.expect_digest != nullptr) {
    ASSIGN_OR_RETURN(out.client.expect_digest, Sha256FromHex(given.expect_digest));
  }
  if (given.missing_rows < ENGRAM_MISSING_DEFAULT || given.missing_rows > ENGRAM_MISSING_ZEROS) {
    return absl::InvalidArgumentError(
        absl::StrCat("option `missing_rows` is ", given.missing_rows, ", which is no choice"));
  }
  out.missing_rows =
      given.missing_rows == ENGRAM_MISSING_ZEROS ? MissingRows::kZeros : MissingRows::kFail;
  out.lookup_timeout = absl::Microseconds(given.lookup_timeout_us);
  out.client.allow_partial = given.allow_partial != 0;
  out.client.connect_timeout = absl::Microseconds(given.connect_timeout_us);
  out.client.resolve_interval = absl::Microseconds(given.resolve_interval_us);
  out.client.verify_share = given.verify_share;
  return absl::OkStatus();
}

absl::Status SetSpeed(const engram_client_options& given, ClientOptions& out) {
  out.credit_bytes = given.credit_bytes;
  out.rows_per_request = given.rows_per_request;
  out.io_threads = given.io_threads;
  out.max_prefetch_bytes = given.max_prefetch_bytes;
  out.cache_bytes = given.cache_bytes;
  out.cache_columns = {given.cache_columns.begin, given.cache_columns.end};
  if (given.hot_ngrams != nullptr) out.hot_ngrams = given.hot_ngrams;
  out.dedup = given.dedup != 0;
  out.spin = absl::Microseconds(given.spin_us);
  RETURN_IF_ERROR(CheckArray(given.cpus, given.cpu_count, UINT16_MAX, "cpus"));
  out.cpus.assign(given.cpus, given.cpus + given.cpu_count);
  out.hedge_share = given.hedge_share;
  out.hedge_after_least = absl::Microseconds(given.hedge_after_least_us);
  return absl::OkStatus();
}

absl::Status Connect(ClientSettings settings, engram_client** client) {
  RETURN_IF_ERROR(CheckNotNull(client, "client"));
  RETURN_IF_ERROR(settings.Validate());
  auto handle = std::make_unique<engram_client>();
  ASSIGN_OR_RETURN(handle->client, Client::Connect(std::move(settings.client)));
  const Geometry& geometry = handle->client->geometry();
  handle->defaults = {settings.lookup_timeout, settings.missing_rows,
                      geometry.params().compressed_vocab};
  handle->digest = ToHex(handle->client->digest());
  for (const LayerGeometry& layer : geometry.layers()) {
    ColumnArrays& arrays = handle->columns.emplace_back();
    for (const HashColumn& column : layer.columns) {
      arrays.first.push_back(column.offset);
      arrays.rows.push_back(column.prime);
    }
  }
  *client = handle.release();
  return absl::OkStatus();
}

}  // namespace
}  // namespace engram

using engram::Call;
using engram::CheckNotNull;
using engram::ClientSettings;

engram_status* engram_client_options_init(engram_client_options* options) {
  return Call([&]() -> absl::Status {
    RETURN_IF_ERROR(CheckNotNull(options, "options"));
    *options = ENGRAM_CLIENT_OPTIONS_INIT;
    return absl::OkStatus();
  });
}

engram_status* engram_client_connect(const engram_client_options* options, engram_client** client) {
  return Call([&]() -> absl::Status {
    engram_client_options given = ENGRAM_CLIENT_OPTIONS_INIT;
    RETURN_IF_ERROR(engram::ReadStruct(options, "options", given));
    ClientSettings settings;
    RETURN_IF_ERROR(engram::SetBehaviour(given, settings));
    RETURN_IF_ERROR(engram::SetSpeed(given, settings.client));
    engram::SetLog(given.log, given.log_user, settings.client);
    return engram::Connect(std::move(settings), client);
  });
}

engram_status* engram_client_connect_json(const char* json, engram_log_fn log, void* log_user,
                                          engram_client** client) {
  return Call([&]() -> absl::Status {
    RETURN_IF_ERROR(CheckNotNull(json, "json"));
    ASSIGN_OR_RETURN(ClientSettings settings, engram::SettingsFromJson(json, "settings"));
    engram::SetLog(log, log_user, settings.client);
    return engram::Connect(std::move(settings), client);
  });
}

engram_status* engram_client_connect_env(engram_log_fn log, void* log_user,
                                         engram_client** client) {
  return Call([&]() -> absl::Status {
    ASSIGN_OR_RETURN(ClientSettings settings, engram::SettingsFromEnvironment(environ));
    engram::SetLog(log, log_user, settings.client);
    return engram::Connect(std::move(settings), client);
  });
}

void engram_client_destroy(engram_client* client) { delete client; }

engram_status* engram_client_set_servers(engram_client* client, const char* const* servers,
                                         size_t server_count) {
  return Call([&]() -> absl::Status {
    RETURN_IF_ERROR(CheckNotNull(client, "client"));
    std::vector<std::string> names;
    RETURN_IF_ERROR(engram::ToServers(servers, server_count, names));
    return client->client->SetServers(names);
  });
}

engram_status* engram_client_save_hot_ngrams(const engram_client* client, const char* path) {
  return Call([&]() -> absl::Status {
    RETURN_IF_ERROR(CheckNotNull(client, "client"));
    RETURN_IF_ERROR(CheckNotNull(path, "path"));
    return client->client->SaveHotNgrams(path);
  });
}
