#include "deploy/model/memory.h"
#include "proto/base/status_macros.h"

namespace engram::model {
namespace {

class RemoteRows final : public RowsAhead {
 public:
  absl::Status Submit(Client& client, std::span<const uint32_t> tokens, LookBack& state) {
    const size_t bytes = tokens.size() * client.geometry().columns() * client.layout().row_bytes();
    std::vector<LayerBuffer> layers;
    for (uint32_t layer : client.geometry().params().layer_ids) {
      rows_[layer].resize(bytes);
      layers.push_back({layer, rows_[layer]});
    }
    ASSIGN_OR_RETURN(ticket_, client.SubmitTokens(tokens, {}, state, layers, {}));
    return absl::OkStatus();
  }

  absl::StatusOr<std::span<const uint8_t>> Wait(uint32_t layer) override {
    RETURN_IF_ERROR(ticket_.Wait(layer));
    return std::span<const uint8_t>(rows_[layer]);
  }

 private:
  std::map<uint32_t, std::vector<uint8_t>> rows_;
  Ticket ticket_;  // goes first: its lookup writes into the rows
};

class RemoteMemory final : public Memory {
 public:
  explicit RemoteMemory(std::unique_ptr<Client> client) : client_(std::move(client)) {}
  const Geometry& geometry() const override { return client_->geometry(); }
  const RowLayout& layout() const override { return client_->layout(); }
  absl::StatusOr<std::unique_ptr<RowsAhead>> Fetch(std::span<const uint32_t> tokens,
                                                   LookBack& state) override {
    auto rows = std::make_unique<RemoteRows>();
    RETURN_IF_ERROR(rows->Submit(*client_, tokens, state));
    return rows;
  }

 private:
  const std::unique_ptr<Client> client_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Memory>> ConnectMemory(const ClientOptions& options) {
  ASSIGN_OR_RETURN(std::unique_ptr<Client> client, Client::Connect(options));
  if (client->token_map() == nullptr) {
    return absl::FailedPreconditionError("the servers have no token map, so no text can be run");
  }
  return std::make_unique<RemoteMemory>(std::move(client));
}

}  // namespace engram::model
