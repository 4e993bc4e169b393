#include "client/credentials.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "proto/base/pem.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

// Ciphertext that one recv may bring.
constexpr size_t kReadAheadBytes = 256 << 10;

absl::Status Wrong(const WatchedFile& file, absl::string_view what) {
  ERR_clear_error();
  return absl::InvalidArgumentError(absl::StrCat(file.path(), " ", what));
}

absl::Status UseAuthorities(SSL_CTX* context, const WatchedFile& file) {
  const pem::Bio bio = pem::Reader(file.content());
  X509_STORE* const store = SSL_CTX_get_cert_store(context);
  int count = 0;
  while (const pem::Certificate authority = pem::ReadCertificate(bio.get())) {
    X509_STORE_add_cert(store, authority.get());
    ++count;
  }
  ERR_clear_error();
  return count > 0 ? absl::OkStatus() : Wrong(file, "holds no certificate in PEM");
}

absl::Status UseCertificate(SSL_CTX* context, const WatchedFile& chain, const WatchedFile& key) {
  const pem::Bio chain_bio = pem::Reader(chain.content()), key_bio = pem::Reader(key.content());
  const pem::Certificate leaf = pem::ReadCertificate(chain_bio.get());
  if (leaf == nullptr || SSL_CTX_use_certificate(context, leaf.get()) != 1) {
    return Wrong(chain, "holds no certificate in PEM");
  }
  while (const pem::Certificate between = pem::ReadCertificate(chain_bio.get())) {
    SSL_CTX_add1_chain_cert(context, between.get());
  }
  ERR_clear_error();
  const pem::Key read = pem::ReadPrivateKey(key_bio.get());
  if (read == nullptr) return Wrong(key, "holds no private key in PEM without a passphrase");
  if (SSL_CTX_use_PrivateKey(context, read.get()) != 1) {
    return Wrong(key, absl::StrCat("is not the key of ", chain.path()));
  }
  return absl::OkStatus();
}

std::string HostOf(const std::string& address) {
  if (absl::StartsWith(address, "unix:")) return "localhost";
  absl::string_view host = absl::string_view(address).substr(0, address.rfind(':'));
  if (absl::ConsumePrefix(&host, "[")) absl::ConsumeSuffix(&host, "]");
  return std::string(host);
}

}  // namespace

void FreeSsl::operator()(SSL* session) const { SSL_free(session); }
void CredentialSource::FreeContext::operator()(SSL_CTX* context) const { SSL_CTX_free(context); }

absl::Status Credentials::Validate() const {
  if (certificate.empty() != key.empty()) {
    return absl::InvalidArgumentError("of a TLS certificate and its key there is only one");
  }
  if (!tls() && !certificate.empty()) {
    return absl::InvalidArgumentError(
        "a TLS certificate, but no authorities (CA) to know servers by");
  }
  if (!tls() && !server_name.empty()) {
    return absl::InvalidArgumentError("a server's TLS name, but no authorities (CA) to know it by");
  }
  return absl::OkStatus();
}

CredentialSource::CredentialSource(const Credentials& credentials)
    : credentials_(credentials),
      ca_(credentials.ca),
      certificate_(credentials.certificate),
      key_(credentials.key),
      token_(credentials.token) {}

absl::StatusOr<std::shared_ptr<CredentialSource>> CredentialSource::Create(
    const Credentials& credentials) {
  RETURN_IF_ERROR(credentials.Validate());
  std::shared_ptr<CredentialSource> source(new CredentialSource(credentials));
  RETURN_IF_ERROR(source->NewSession("localhost:1").status());
  RETURN_IF_ERROR(source->Authorization().status());
  return source;
}

// A context that cannot be made anew is not left as it was: what is there must be usable.
absl::Status CredentialSource::Refresh() {
  ASSIGN_OR_RETURN(bool changed, ca_.Refresh());
  if (!credentials_.certificate.empty()) {
    ASSIGN_OR_RETURN(const bool new_certificate, certificate_.Refresh());
    ASSIGN_OR_RETURN(const bool new_key, key_.Refresh());
    changed = changed || new_certificate || new_key;
  }
  if (!changed && context_ != nullptr) return absl::OkStatus();
  context_.reset(SSL_CTX_new(TLS_client_method()));
  SSL_CTX* const context = context_.get();
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_read_ahead(context, 1);
  SSL_CTX_set_default_read_buffer_len(context, kReadAheadBytes);
  constexpr unsigned char kH2[] = {2, 'h', '2'};
  SSL_CTX_set_alpn_protos(context, kH2, sizeof(kH2));
  absl::Status status = UseAuthorities(context, ca_);
  if (status.ok() && !credentials_.certificate.empty()) {
    status = UseCertificate(context, certificate_, key_);
  }
  if (!status.ok()) context_.reset();
  return status;
}

absl::StatusOr<TlsSession> CredentialSource::NewSession(const std::string& address) {
  if (!tls()) return nullptr;
  const std::string name =
      credentials_.server_name.empty() ? HostOf(address) : credentials_.server_name;
  MutexLock lock(&mutex_);
  RETURN_IF_ERROR(Refresh());
  TlsSession session(SSL_new(context_.get()));
  SSL_set_connect_state(session.get());
  // A certificate names a numeric address as such.
  if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session.get()), name.c_str()) != 1) {
    ERR_clear_error();
    SSL_set_hostflags(session.get(), X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (SSL_set1_host(session.get(), name.c_str()) != 1 ||
        SSL_set_tlsext_host_name(session.get(), name.c_str()) != 1) {
      return absl::InvalidArgumentError(absl::StrCat("`", name, "` is no name of a server"));
    }
  }
  return session;
}

absl::StatusOr<std::string> CredentialSource::Authorization() {
  if (credentials_.token.empty()) return "";
  MutexLock lock(&mutex_);
  RETURN_IF_ERROR(token_.Refresh().status());
  const absl::string_view token = absl::StripAsciiWhitespace(token_.content());
  if (token.empty()) return absl::InvalidArgumentError(absl::StrCat(token_.path(), " is empty"));
  return absl::StrCat("Bearer ", token);
}

}  // namespace engram
