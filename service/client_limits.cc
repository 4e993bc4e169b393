#include "service/client_limits.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace engram {

absl::string_view HostOfPeer(absl::string_view peer) {
  if (!absl::StartsWith(peer, "ipv")) return peer;  // "unix:": all of this host
  return peer.substr(0, peer.rfind(':'));
}

absl::StatusOr<std::unique_ptr<ClientLimits::Stream>> ClientLimits::Open(std::string key) {
  if (max_streams_ == 0 && max_rows_ == 0) return nullptr;
  MutexLock lock(&mutex_);
  std::shared_ptr<Stream::Client>& client = clients_[key];
  if (client == nullptr) client = std::make_shared<Stream::Client>();
  if (max_streams_ != 0 && client->streams >= max_streams_) {
    return absl::ResourceExhaustedError(absl::StrCat(
        key, " has ", client->streams, " streams; one client may have ", max_streams_));
  }
  ++client->streams;
  return std::unique_ptr<Stream>(new Stream(*this, std::move(key), client));
}

ClientLimits::Stream::~Stream() {
  MutexLock lock(&limits_.mutex_);
  if (--client_->streams == 0) limits_.clients_.erase(key_);
}

absl::Status ClientLimits::Stream::Take(uint64_t rows) {
  const uint64_t before = client_->rows.fetch_add(rows, std::memory_order_relaxed);
  // One request is let through whatever its size: the server's own bound is for that.
  if (limits_.max_rows_ == 0 || before == 0 || before + rows <= limits_.max_rows_) {
    return absl::OkStatus();
  }
  GiveBack(rows);
  return absl::ResourceExhaustedError(
      absl::StrCat(key_, " has asked for ", before, " rows that are not answered yet, and for ",
                   rows, " more; one client may have ", limits_.max_rows_));
}

void ClientLimits::Stream::GiveBack(uint64_t rows) {
  client_->rows.fetch_sub(rows, std::memory_order_relaxed);
}

}  // namespace engram
