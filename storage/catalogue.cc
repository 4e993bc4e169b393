#include "storage/catalogue.h"

#include <algorithm>
#include <span>

#include "absl/strings/str_cat.h"
#include "engram/storage/v1/catalogue.pb.h"
#include "proto/base/file.h"
#include "proto/base/status_macros.h"
#include "storage/file_frame.h"

namespace engram {
namespace {

constexpr FileFormat kCatalogueFile = {"ENGRCATA", 1, "a catalogue file"};
constexpr uint64_t kMaxCatalogueBytes = uint64_t{1} << 28;

absl::StatusOr<KeptState> StateOf(storage::v1::CatalogueState state) {
  switch (state) {
    case storage::v1::CATALOGUE_STATE_PREPARED:
      return KeptState::kPrepared;
    case storage::v1::CATALOGUE_STATE_ACTIVE:
      return KeptState::kActive;
    case storage::v1::CATALOGUE_STATE_RETIRED:
      return KeptState::kRetired;
    default:
      return absl::DataLossError(absl::StrCat("a generation has the unknown state ", state));
  }
}

storage::v1::CatalogueState ToMessage(KeptState state) {
  switch (state) {
    case KeptState::kPrepared:
      return storage::v1::CATALOGUE_STATE_PREPARED;
    case KeptState::kActive:
      return storage::v1::CATALOGUE_STATE_ACTIVE;
    case KeptState::kRetired:
      break;
  }
  return storage::v1::CATALOGUE_STATE_RETIRED;
}

absl::StatusOr<Catalogue> FromMessage(const storage::v1::Catalogue& message) {
  Catalogue catalogue;
  for (const auto& range : message.ranges()) {
    catalogue.ranges.push_back({range.layer(), range.begin(), range.end()});
  }
  size_t active = 0;
  for (const auto& each : message.generations()) {
    KeptGeneration generation{each.id(), each.parent(), {}, KeptState::kPrepared};
    ASSIGN_OR_RETURN(generation.digest, Sha256FromBytes(each.digest()));
    ASSIGN_OR_RETURN(generation.state, StateOf(each.state()));
    const bool first = catalogue.generations.empty();
    if (generation.id == 0 || catalogue.Find(generation.id) != nullptr ||
        (first ? generation.parent != 0 : catalogue.Find(generation.parent) == nullptr) ||
        (generation.state != KeptState::kRetired &&
         catalogue.FindServed(generation.digest) != nullptr)) {
      return absl::DataLossError(
          absl::StrCat("generation ", generation.id, " contradicts the ones before it"));
    }
    active += generation.state == KeptState::kActive;
    catalogue.generations.push_back(generation);
  }
  if (active != 1) return absl::DataLossError(absl::StrCat(active, " generations are active"));
  if (!message.base().empty()) {
    ASSIGN_OR_RETURN(catalogue.base, Sha256FromBytes(message.base()));
  }
  return catalogue;
}

}  // namespace

const KeptGeneration* Catalogue::Find(uint64_t id) const {
  const auto it = std::find_if(generations.begin(), generations.end(),
                               [id](const KeptGeneration& each) { return each.id == id; });
  return it == generations.end() ? nullptr : &*it;
}

const KeptGeneration* Catalogue::FindServed(const Sha256& digest) const {
  const auto it =
      std::find_if(generations.begin(), generations.end(), [&](const KeptGeneration& each) {
        return each.digest == digest && each.state != KeptState::kRetired;
      });
  return it == generations.end() ? nullptr : &*it;
}

const KeptGeneration& Catalogue::active() const {
  return *std::find_if(generations.begin(), generations.end(),
                       [](const KeptGeneration& each) { return each.state == KeptState::kActive; });
}

uint64_t Catalogue::next_id() const {
  uint64_t last = 0;
  for (const KeptGeneration& each : generations) last = std::max(last, each.id);
  return last + 1;
}

std::vector<uint64_t> Catalogue::Prune() {
  std::vector<uint64_t> pruned;
  // From the last on: what goes may have been the last that was built on another.
  for (size_t i = generations.size(); i-- > 1;) {
    const uint64_t id = generations[i].id;
    const bool needed =
        generations[i].state != KeptState::kRetired ||
        std::any_of(generations.begin(), generations.end(),
                    [id](const KeptGeneration& other) { return other.parent == id; });
    if (needed) continue;
    pruned.push_back(id);
    generations.erase(generations.begin() + static_cast<ptrdiff_t>(i));
  }
  return pruned;
}

std::vector<KeptGeneration> Catalogue::Trunk() const {
  std::vector<KeptGeneration> trunk = {generations[0]};
  while (trunk.back().state == KeptState::kRetired) {
    const auto on_it = [&](const KeptGeneration& each) { return each.parent == trunk.back().id; };
    const auto only = std::find_if(generations.begin(), generations.end(), on_it);
    if (std::count_if(generations.begin(), generations.end(), on_it) != 1) break;
    trunk.push_back(*only);
  }
  return trunk;
}

bool Catalogue::BeginAt(const Sha256& digest) {
  const std::vector<KeptGeneration> trunk = Trunk();
  size_t at = trunk.size();
  while (at > 0 && trunk[at - 1].digest != digest) --at;
  if (at == 0) return false;
  if (--at == 0) return true;
  base = trunk[trunk[0].digest == digest ? at - 1 : 0].digest;
  const std::span<const KeptGeneration> before(trunk.data(), at);
  std::erase_if(generations, [&](const KeptGeneration& each) {
    return std::find(before.begin(), before.end(), each) != before.end();
  });
  generations[0].parent = 0;
  return true;
}

absl::StatusOr<Catalogue> ReadCatalogue(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path, kMaxCatalogueBytes));
  ASSIGN_OR_RETURN(const absl::string_view payload, UnframeWhole(kCatalogueFile, bytes, path));
  storage::v1::Catalogue message;
  if (!message.ParseFromArray(payload.data(), static_cast<int>(payload.size()))) {
    return absl::DataLossError(absl::StrCat(path, ": the payload is not a catalogue message"));
  }
  absl::StatusOr<Catalogue> catalogue = FromMessage(message);
  if (!catalogue.ok()) {
    return absl::DataLossError(absl::StrCat(path, ": ", catalogue.status().message()));
  }
  return catalogue;
}

absl::Status WriteCatalogue(const std::string& path, const Catalogue& catalogue) {
  storage::v1::Catalogue message;
  for (const RowRange& range : catalogue.ranges) {
    storage::v1::CatalogueRange* out = message.add_ranges();
    out->set_layer(range.layer);
    out->set_begin(range.begin);
    out->set_end(range.end);
  }
  for (const KeptGeneration& generation : catalogue.generations) {
    storage::v1::CatalogueGeneration* out = message.add_generations();
    out->set_id(generation.id);
    out->set_parent(generation.parent);
    out->set_digest(generation.digest.data(), generation.digest.size());
    out->set_state(ToMessage(generation.state));
  }
  if (catalogue.base.has_value()) {
    message.set_base(catalogue.base->data(), catalogue.base->size());
  }
  RETURN_IF_ERROR(WriteFileAtomically(path, Frame(kCatalogueFile, message.SerializeAsString())));
  return SyncDirectoryOf(path);
}

}  // namespace engram
