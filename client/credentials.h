// How a client shows servers who it is, and how it knows them: TLS over its sockets, and a token.
#ifndef ENGRAM_CLIENT_CREDENTIALS_H_
#define ENGRAM_CLIENT_CREDENTIALS_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/base/mutex.h"
#include "proto/base/watched_file.h"

typedef struct ssl_st SSL;
typedef struct ssl_ctx_st SSL_CTX;

namespace engram {

// Files are PEM, and are read again for a new connection when they were replaced; connections that
// there are go on with what they began with.
struct Credentials {
  // Authorities that vouch for servers; empty: plaintext.
  std::string ca = {};
  // The client's chain and its key without a passphrase, for servers that ask for one; both or
  // none.
  std::string certificate = {};
  std::string key = {};
  // The name that servers' certificates must have; empty: the host of their address ("localhost"
  // of a unix socket).
  std::string server_name = {};
  // File of a token that is sent with each call; empty: none. Goes over plaintext, too, where that
  // is what the server speaks.
  std::string token = {};

  bool tls() const { return !ca.empty(); }
  // InvalidArgument. Files are not read.
  absl::Status Validate() const;
};

struct FreeSsl {
  void operator()(SSL* session) const;
};
// One connection's TLS.
using TlsSession = std::unique_ptr<SSL, FreeSsl>;

// What new connections begin with. Any thread.
class CredentialSource {
 public:
  // As Credentials::Validate; also codes of ReadFile, and InvalidArgument naming a file that is not
  // what it is said to be.
  static absl::StatusOr<std::shared_ptr<CredentialSource>> Create(const Credentials& credentials);

  bool tls() const { return credentials_.tls(); }
  // Of a connection to `address`, as the caller names it; null without TLS. Codes as Create, where
  // what was replaced cannot be used.
  absl::StatusOr<TlsSession> NewSession(const std::string& address);
  // Value of the header `authorization`; empty: none. Codes of ReadFile.
  absl::StatusOr<std::string> Authorization();

 private:
  struct FreeContext {
    void operator()(SSL_CTX* context) const;
  };

  explicit CredentialSource(const Credentials& credentials);
  absl::Status Refresh() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Credentials credentials_;
  Mutex mutex_;
  WatchedFile ca_ ABSL_GUARDED_BY(mutex_), certificate_ ABSL_GUARDED_BY(mutex_),
      key_ ABSL_GUARDED_BY(mutex_), token_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<SSL_CTX, FreeContext> context_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_CREDENTIALS_H_
