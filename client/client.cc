#include "client/client.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "client/client_core.h"
#include "client/lookup.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

// Layers in the model's order: the nearest one is needed first.
template <typename Layer>
std::vector<Layer> NearestFirst(std::vector<Layer> layers) {
  std::stable_sort(layers.begin(), layers.end(),
                   [](const Layer& a, const Layer& b) { return a.layer < b.layer; });
  return layers;
}

absl::Status SetBuffer(const ClientCore& core, uint32_t id, size_t rows, std::span<uint8_t> out,
                       LookupLayer& layer) {
  const size_t row_bytes = core.table().layout.row_bytes();
  RETURN_IF_ERROR(core.SetLayer(layer, id, rows, RowTarget::Rows(out.data(), row_bytes)));
  if (out.size() == rows * row_bytes) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("layer ", id, ": the buffer has ", out.size(),
                                                 " bytes, ", rows, " rows take ",
                                                 rows * row_bytes));
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
  lookup_->Drop();
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

Client::Client(std::shared_ptr<ClientCore> core) : core_(std::move(core)) {}
Client::~Client() {
  if (core_->forked()) {
    // Threads that are not here cannot be waited for, nor what they had in their hands be freed.
    static_cast<void>(new std::shared_ptr<ClientCore>(std::move(core_)));
    return;
  }
  core_->Close();
}

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(ClientOptions options) {
  auto core = std::make_shared<ClientCore>(std::move(options));
  RETURN_IF_ERROR(core->Connect());
  return std::unique_ptr<Client>(new Client(std::move(core)));
}

const std::string& Client::model() const { return core_->table().model; }
const Geometry& Client::geometry() const { return core_->table().geometry; }
const RowLayout& Client::layout() const { return core_->table().layout; }
Sha256 Client::digest() const { return core_->digest(); }

const TokenMap* Client::token_map() const {
  return core_->token_map().has_value() ? &*core_->token_map() : nullptr;
}

std::vector<RowRange> Client::MissingRanges() const { return core_->MissingRanges(); }
ClientStats Client::stats() const { return core_->stats(); }

absl::Status Client::SetServers(const std::vector<std::string>& servers) {
  return core_->SetServers(servers);
}

absl::Status Client::SaveHotNgrams(const std::string& path) const {
  return core_->SaveHotNgrams(path);
}

uint64_t Client::prefetch_bytes() const { return core_->prefetch_bytes()->load(); }

absl::StatusOr<Ticket> Client::SubmitRows(const std::vector<RowsLookup>& layers,
                                          const LookupOptions& options) {
  ASSIGN_OR_RETURN(auto lookup, core_->NewLookup(layers.size(), options));
  LookupLayer* layer = lookup->layers().data();
  for (const RowsLookup& source : NearestFirst(layers)) {
    RETURN_IF_ERROR(SetBuffer(*core_, source.layer, source.rows.size(), source.out, *layer));
    layer->ids = source.rows;
    ++layer;
  }
  RETURN_IF_ERROR(core_->Submit(lookup, core_->NextThread()));
  return Ticket(std::move(lookup));
}

absl::StatusOr<Ticket> Client::SubmitIds(const StepIds& ids, const std::vector<LayerBuffer>& layers,
                                         const LookupOptions& options) {
  struct Source {
    uint32_t layer;
    std::span<uint8_t> out;
    const LayerIds* ids;
  };
  RETURN_IF_ERROR(core_->CheckIds(ids, layers.size()));
  std::vector<Source> sources;
  for (size_t i = 0; i < layers.size(); ++i) {
    sources.push_back({layers[i].layer, layers[i].out, &ids.layers[i]});
  }
  ASSIGN_OR_RETURN(auto lookup, core_->NewLookup(layers.size(), options));
  const size_t rows = size_t{ids.tokens} * geometry().columns();
  LookupLayer* layer = lookup->layers().data();
  for (const Source& source : NearestFirst(std::move(sources))) {
    RETURN_IF_ERROR(SetBuffer(*core_, source.layer, rows, source.out, *layer));
    RETURN_IF_ERROR(core_->SetIds(ids, *source.ids, lookup->columns, *layer));
    ++layer;
  }
  RETURN_IF_ERROR(core_->Submit(lookup, core_->NextThread()));
  return Ticket(std::move(lookup));
}

absl::StatusOr<Ticket> Client::SubmitTokens(std::span<const uint32_t> tokens,
                                            std::span<const uint8_t> dead, LookBack& state,
                                            const std::vector<LayerBuffer>& layers,
                                            const LookupOptions& options) {
  RETURN_IF_ERROR(core_->CheckTokenMap());
  ASSIGN_OR_RETURN(auto lookup, core_->NewLookup(layers.size(), options));
  const size_t rows = tokens.size() * geometry().columns();
  LookupLayer* layer = lookup->layers().data();
  for (const LayerBuffer& source : NearestFirst(layers)) {
    RETURN_IF_ERROR(SetBuffer(*core_, source.layer, rows, source.out, *layer));
    ++layer;
  }
  const StepChunk chunk{.tokens = tokens, .dead = dead, .state = &state};
  RETURN_IF_ERROR(core_->SubmitChunks(lookup, {&chunk, 1}, core_->NextThread()));
  return Ticket(std::move(lookup));
}

}  // namespace engram
