#include "service/security_options.h"

#include <arpa/inet.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace engram {
namespace {

// Only processes of this host can reach it.
bool IsLocal(const std::string& listen) {
  if (absl::StartsWith(listen, "unix:")) return true;
  absl::string_view host = absl::string_view(listen).substr(0, listen.rfind(':'));
  if (absl::ConsumePrefix(&host, "[")) absl::ConsumeSuffix(&host, "]");
  if (host == "localhost" || host == "::1") return true;
  in_addr address;
  return inet_pton(AF_INET, std::string(host).c_str(), &address) == 1 &&
         (ntohl(address.s_addr) >> 24) == 127;
}

absl::Status CheckNames(absl::string_view list, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    const size_t star = name.find('*');
    const bool label = star == 0 && absl::StartsWith(name, "*.") && name.size() > 2;
    const bool path = star + 1 == name.size() && absl::EndsWith(name, "/*");
    if (name.empty() || (star != std::string::npos && !label && !path)) {
      return absl::InvalidArgumentError(
          absl::StrCat("`", name, "` of ", list,
                       " is no name: a SAN as it is, *.REST for one label more, or URI/*"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status SecurityOptions::Validate(const std::string& listen) const {
  if (certificate.empty() != key.empty()) {
    return absl::InvalidArgumentError(certificate.empty() ? "a TLS key without a certificate"
                                                          : "a TLS certificate without a key");
  }
  if (!tls() && !client_ca.empty()) {
    return absl::InvalidArgumentError("authorities of clients, but no TLS certificate of our own");
  }
  if (client_ca.empty() && !(lookup_names.empty() && publish_names.empty())) {
    return absl::InvalidArgumentError(
        "names of clients, but no authorities that vouch for them (--tls-client-ca)");
  }
  if (absl::Status status = CheckNames("--lookup-names", lookup_names); !status.ok()) return status;
  if (absl::Status status = CheckNames("--publish-names", publish_names); !status.ok()) {
    return status;
  }
  if (!tls() && !insecure && !IsLocal(listen)) {
    return absl::InvalidArgumentError(
        absl::StrCat("plaintext at ", listen,
                     ", which other hosts can reach: give the server a certificate "
                     "(--tls-cert, --tls-key, --tls-client-ca), or say --insecure"));
  }
  return absl::OkStatus();
}

bool NameMatches(absl::string_view pattern, absl::string_view name) {
  if (absl::ConsumePrefix(&pattern, "*.")) {
    const size_t dot = name.find('.');
    return dot != absl::string_view::npos && dot > 0 &&
           absl::EqualsIgnoreCase(name.substr(dot + 1), pattern);
  }
  if (absl::EndsWith(pattern, "/*")) {
    pattern.remove_suffix(1);
    return name.size() > pattern.size() && absl::StartsWith(name, pattern);
  }
  // DNS names know no case; of a URI it would be another's.
  return absl::StrContains(pattern, "/") ? pattern == name : absl::EqualsIgnoreCase(pattern, name);
}

}  // namespace engram
