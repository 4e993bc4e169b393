// Who may call a server, and by what they are known.
#ifndef ENGRAM_SERVICE_SECURITY_OPTIONS_H_
#define ENGRAM_SERVICE_SECURITY_OPTIONS_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace engram {

// Files are PEM, and are read again within two seconds of having been replaced. What cannot be used
// (cut off, a key of another certificate, expired) is refused with a line in the log, and what was
// read before goes on.
struct SecurityOptions {
  std::string certificate = {};  // the server's chain; empty: plaintext
  std::string key = {};          // of the chain's first certificate, without a passphrase
  // Authorities whose client certificates are accepted. Set, every client must have one, unless
  // tokens are an alternative. Empty: none are asked for.
  std::string client_ca = {};

  // Names (SANs: DNS names, URIs, IP addresses) of certificates that may look up; empty: any that
  // `client_ca` vouches for. "*.x" stands for one more label, "uri/*" for whatever comes behind.
  std::vector<std::string> lookup_names = {};
  // And of those that may change what is served (Publish, Activate, Retire), and look up; empty:
  // none may.
  std::vector<std::string> publish_names = {};

  // Files of a token each (surrounding space is none of it), which clients send as "authorization:
  // Bearer TOKEN"; empty: none. Who has the publishing one may look up, too.
  std::string lookup_token = {};
  std::string publish_token = {};

  // Plaintext at addresses that others than this host's processes can reach.
  bool insecure = false;

  // A line on a refused caller (rate-limited) and on files that were replaced; from any thread; may
  // be null.
  std::function<void(absl::string_view)> log = nullptr;

  bool tls() const { return !certificate.empty(); }

  // `listen`: as of ServerOptions. InvalidArgument naming what is wrong; files are not read.
  absl::Status Validate(const std::string& listen) const;
};

// Whether a certificate's name is one that the pattern of a list stands for.
bool NameMatches(absl::string_view pattern, absl::string_view name);

}  // namespace engram

#endif  // ENGRAM_SERVICE_SECURITY_OPTIONS_H_
