#include "service/security.h"

#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>
#include <openssl/crypto.h>
#include <pthread.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "proto/base/status_macros.h"
#include "service/client_limits.h"

namespace engram {
namespace {

constexpr absl::Duration kWatchInterval = absl::Seconds(1);
constexpr unsigned kGrpcReadsEverySeconds = 1;
constexpr absl::Duration kLogInterval = absl::Seconds(1);

absl::Status In(const std::string& file, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(file, ": ", status.message()));
}

// In a time that says nothing of where they differ.
bool SameSecret(absl::string_view a, absl::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

const char* NameOf(Right right) {
  return right == Right::kPublish ? "change what is served" : "look up";
}

}  // namespace

struct Security::Caller {
  bool verified = false;           // has a certificate that our authorities vouch for
  std::vector<std::string> names;  // of it
  absl::string_view token;         // empty: none
  std::string peer;
};

Security::Security(const SecurityOptions& options)
    : options_(options),
      certificate_(options.certificate),
      key_(options.key),
      client_ca_(options.client_ca),
      token_files_{WatchedFile(options.lookup_token), WatchedFile(options.publish_token)} {}

absl::StatusOr<std::unique_ptr<Security>> Security::Create(const SecurityOptions& options,
                                                           const std::string& listen) {
  RETURN_IF_ERROR(options.Validate(listen));
  std::unique_ptr<Security> security(new Security(options));
  RETURN_IF_ERROR(security->Load());
  const bool files =
      options.tls() || !options.lookup_token.empty() || !options.publish_token.empty();
  if (files) security->watching_ = std::thread([security = security.get()] { security->Watch(); });
  return security;
}

Security::~Security() {
  {
    MutexLock lock(&mutex_);
    over_ = true;
    changed_.NotifyOne();
  }
  if (watching_.joinable()) watching_.join();
}

// ---------------------------------------------------------------- files

absl::Status Security::Load() {
  bool changed = false;
  if (options_.tls()) {
    ASSIGN_OR_RETURN(pair_, MemoryFile::Create());
    RETURN_IF_ERROR(LoadCertificate(changed));
  }
  if (!options_.client_ca.empty()) {
    ASSIGN_OR_RETURN(authorities_, MemoryFile::Create());
    RETURN_IF_ERROR(LoadAuthorities(changed));
  }
  for (const Right right : {Right::kLookUp, Right::kPublish}) RETURN_IF_ERROR(LoadToken(right));
  return absl::OkStatus();
}

// One file holds both, so that gRPC cannot read one of the old pair and one of the new: each is
// looked for by its kind.
absl::Status Security::LoadCertificate(bool& changed) {
  ASSIGN_OR_RETURN(const bool new_certificate, certificate_.Refresh());
  ASSIGN_OR_RETURN(const bool new_key, key_.Refresh());
  if (!new_certificate && !new_key) return absl::OkStatus();
  changed = true;
  const absl::StatusOr<absl::Time> end = CheckCertificate(certificate_.content(), key_.content());
  if (!end.ok()) return In(certificate_.path(), end.status());
  RETURN_IF_ERROR(pair_->Replace(absl::StrCat(key_.content(), "\n", certificate_.content())));
  expiry_s_ = absl::ToUnixSeconds(*end);
  return absl::OkStatus();
}

absl::Status Security::LoadAuthorities(bool& changed) {
  ASSIGN_OR_RETURN(changed, client_ca_.Refresh());
  if (!changed) return absl::OkStatus();
  RETURN_IF_ERROR(In(client_ca_.path(), CheckAuthorities(client_ca_.content())));
  return authorities_->Replace(client_ca_.content());
}

absl::Status Security::LoadToken(Right right) {
  WatchedFile& file = token_files_[static_cast<size_t>(right)];
  if (file.path().empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const bool changed, file.Refresh());
  if (!changed) return absl::OkStatus();
  const absl::string_view token = absl::StripAsciiWhitespace(file.content());
  if (token.empty()) return absl::InvalidArgumentError(absl::StrCat(file.path(), ": is empty"));
  MutexLock lock(&mutex_);
  tokens_[static_cast<size_t>(right)] = std::string(token);
  return absl::OkStatus();
}

void Security::Watch() {
  pthread_setname_np(pthread_self(), "engram-certs");
  std::string last[4];
  while (true) {
    {
      MutexLock lock(&mutex_);
      const absl::Time next = absl::Now() + kWatchInterval;
      while (!over_ && changed_.WaitUntil(&mutex_, next)) {
      }
      if (over_) return;
    }
    bool changed = false;
    if (options_.tls()) {
      const absl::Status status = LoadCertificate(changed);
      if (changed && status.ok()) {
        ++reloads_ok_;
        Log(absl::StrCat("read ", options_.certificate, " again; it ends at ",
                         absl::FormatTime(absl::FromUnixSeconds(expiry_s_), absl::UTCTimeZone())));
      }
      Complain(last[0], status);
    }
    if (!options_.client_ca.empty()) {
      const absl::Status status = LoadAuthorities(changed = false);
      if (changed && status.ok()) {
        ++reloads_ok_;
        Log(absl::StrCat("read ", options_.client_ca, " again"));
      }
      Complain(last[1], status);
    }
    Complain(last[2], LoadToken(Right::kLookUp));
    Complain(last[3], LoadToken(Right::kPublish));
  }
}

// Once, until it is another complaint, or over.
void Security::Complain(std::string& last, const absl::Status& status) {
  const std::string complaint(status.message());
  if (complaint != last && !status.ok()) {
    ++reloads_failed_;
    Log(absl::StrCat("not taken, what was read before goes on: ", complaint));
  }
  last = complaint;
}

// ---------------------------------------------------------------- callers

std::shared_ptr<grpc::ServerCredentials> Security::credentials() const {
  if (!options_.tls()) return grpc::InsecureServerCredentials();
  const std::string pair = pair_->path();
  const auto provider = std::make_shared<grpc::experimental::FileWatcherCertificateProvider>(
      pair, pair, authorities_.has_value() ? authorities_->path() : "", kGrpcReadsEverySeconds);
  grpc::experimental::TlsServerCredentialsOptions options(provider);
  options.watch_identity_key_cert_pairs();
  if (authorities_.has_value()) {
    options.watch_root_certs();
    const bool tokens = !options_.lookup_token.empty() || !options_.publish_token.empty();
    options.set_cert_request_type(tokens
                                      ? GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY
                                      : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  }
  return grpc::experimental::TlsServerCredentials(options);
}

absl::Status Security::Authorize(const grpc::ServerContext& call, Right right) {
  const bool rules = !options_.client_ca.empty() || !options_.lookup_token.empty() ||
                     !options_.publish_token.empty();
  if (!rules) return absl::OkStatus();
  Caller caller;
  caller.peer = call.peer();
  if (const auto context = call.auth_context(); context != nullptr) {
    caller.verified = !options_.client_ca.empty() && context->IsPeerAuthenticated();
    for (const grpc::string_ref& name : context->FindPropertyValues(GRPC_X509_SAN_PROPERTY_NAME)) {
      caller.names.emplace_back(name.data(), name.size());
    }
  }
  if (const auto found = call.client_metadata().find("authorization");
      found != call.client_metadata().end()) {
    absl::string_view value(found->second.data(), found->second.size());
    if (absl::ConsumePrefix(&value, "Bearer ")) caller.token = absl::StripAsciiWhitespace(value);
  }
  {
    MutexLock lock(&mutex_);
    if (Allows(caller, right)) return absl::OkStatus();
  }
  return Deny(caller, right);
}

std::string Security::CallerOf(const grpc::ServerContext& call) const {
  const auto context = call.auth_context();
  if (!options_.client_ca.empty() && context != nullptr && context->IsPeerAuthenticated()) {
    const auto names = context->FindPropertyValues(GRPC_X509_SAN_PROPERTY_NAME);
    if (!names.empty()) return {names[0].data(), names[0].size()};
  }
  return std::string(HostOfPeer(call.peer()));
}

bool Security::Allows(const Caller& caller, Right right) const {
  const auto named = [&](const std::vector<std::string>& list) {
    return std::any_of(caller.names.begin(), caller.names.end(), [&](const std::string& name) {
      return std::any_of(list.begin(), list.end(),
                         [&](const std::string& pattern) { return NameMatches(pattern, name); });
    });
  };
  const auto has = [&](Right of) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const std::string& token = tokens_[static_cast<size_t>(of)];
    return !token.empty() && SameSecret(caller.token, token);
  };
  if (has(Right::kPublish) || (caller.verified && named(options_.publish_names))) return true;
  if (right == Right::kPublish) return false;
  if (has(Right::kLookUp)) return true;
  if (caller.verified) return options_.lookup_names.empty() || named(options_.lookup_names);
  // Nothing is asked of those who look up.
  return options_.client_ca.empty() && options_.lookup_token.empty();
}

absl::Status Security::Deny(const Caller& caller, Right right) {
  ++denied_;
  const bool nobody = !caller.verified && caller.token.empty();
  const std::string who =
      caller.verified
          ? absl::StrCat("a certificate of ",
                         caller.names.empty() ? "no name" : absl::StrJoin(caller.names, ", "))
      : caller.token.empty() ? "neither certificate nor token"
                             : "another token";
  const std::string what = absl::StrCat("with ", who, " one may not ", NameOf(right), " here");
  {
    MutexLock lock(&mutex_);
    ++unlogged_;
    const absl::Time now = absl::Now();
    if (now >= next_log_) {
      Log(absl::StrCat("refused ", caller.peer, " (", unlogged_,
                       " since the last such line): ", what));
      unlogged_ = 0;
      next_log_ = now + kLogInterval;
    }
  }
  return nobody ? absl::UnauthenticatedError(what) : absl::PermissionDeniedError(what);
}

void Security::Log(const std::string& line) const {
  if (options_.log) options_.log(line);
}

SecurityCounts Security::counts() const {
  return {expiry_s_, reloads_ok_, reloads_failed_, denied_};
}

}  // namespace engram
