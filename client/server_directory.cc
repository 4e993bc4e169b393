#include "client/server_directory.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"

namespace engram {

void ServerDirectory::SetNames(const std::vector<std::string>& names) {
  std::vector<Name> old = std::move(names_);
  std::move(leaving_.begin(), leaving_.end(), std::back_inserter(old));
  names_.clear();
  for (const std::string& name : names) {
    const auto known =
        std::find_if(old.begin(), old.end(), [&](const Name& each) { return each.name == name; });
    if (known != old.end()) {
      names_.push_back(std::move(*known));
      old.erase(known);
    } else {
      names_.emplace_back().name = name;
    }
  }
  leaving_ = std::move(old);
  leave_at_.reset();
  changed_ = true;
}

bool ServerDirectory::Tick(absl::Time now) {
  bool changed = std::exchange(changed_, false);
  if (!leaving_.empty() && !leave_at_.has_value()) leave_at_ = now + refresh_;
  if (leave_at_.has_value() && now >= *leave_at_) {
    leaving_.clear();
    leave_at_.reset();
    changed = true;
  }
  for (Name& name : names_) {
    if (name.lookup == nullptr && now >= name.next) {
      name.lookup = resolver_->Resolve(name.name, wake_);
    }
    if (name.lookup != nullptr && name.lookup->done()) changed = Take(name, now) || changed;
  }
  return changed;
}

// A lookup is done: whether the name stands for something else now.
bool ServerDirectory::Take(Name& name, absl::Time now) {
  Resolution::Addresses found = name.lookup->addresses();
  // What needs no lookup (numbers, unix sockets) never changes.
  name.next = name.lookup->at_once() ? absl::InfiniteFuture() : now + refresh_;
  name.lookup = nullptr;
  name.tried = true;
  name.status = found.status();
  if (!found.ok()) return false;
  std::sort(found->begin(), found->end());
  found->erase(std::unique(found->begin(), found->end()), found->end());
  std::vector<SocketAddress> addresses;
  std::set_union(found->begin(), found->end(), name.found.begin(), name.found.end(),
                 std::back_inserter(addresses));
  name.found = *std::move(found);
  if (addresses == name.addresses) return false;
  name.addresses = std::move(addresses);
  return true;
}

absl::Time ServerDirectory::next_tick() const {
  absl::Time next = absl::InfiniteFuture();
  for (const Name& name : names_) {
    if (name.lookup == nullptr) next = std::min(next, name.next);
  }
  if (leave_at_.has_value()) next = std::min(next, *leave_at_);
  return changed_ ? absl::InfinitePast() : next;
}

std::vector<Endpoint> ServerDirectory::endpoints() const {
  std::vector<Endpoint> endpoints;
  for (const std::vector<Name>* const names : {&names_, &leaving_}) {
    for (const Name& name : *names) {
      for (const SocketAddress& address : name.addresses) {
        std::string label = name.name;
        if (name.addresses.size() > 1) absl::StrAppend(&label, " (", ToString(address), ")");
        endpoints.push_back({name.name, std::move(label), address});
      }
    }
  }
  return endpoints;
}

std::vector<std::pair<std::string, absl::Status>> ServerDirectory::unresolved() const {
  std::vector<std::pair<std::string, absl::Status>> unresolved;
  for (const Name& name : names_) {
    if (!name.addresses.empty()) continue;
    unresolved.emplace_back(name.name, name.tried ? name.status
                                                  : absl::UnavailableError(absl::StrCat(
                                                        name.name, ": not looked up yet")));
  }
  return unresolved;
}

bool ServerDirectory::all_tried() const {
  return std::all_of(names_.begin(), names_.end(), [](const Name& name) { return name.tried; });
}

}  // namespace engram
