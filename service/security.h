// What a server asks of its callers, at work.
#ifndef ENGRAM_SERVICE_SECURITY_H_
#define ENGRAM_SERVICE_SECURITY_H_

#include <grpcpp/grpcpp.h>

#include <array>
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/base/mutex.h"
#include "proto/base/watched_file.h"
#include "service/certificate.h"
#include "service/security_options.h"

namespace engram {

// What a call may do.
enum class Right {
  kLookUp,
  kPublish,  // and all else that changes what is served
};

struct SecurityCounts {
  int64_t certificate_expiry_s = 0;  // Unix time; 0: no TLS
  uint64_t reloads_ok = 0;
  uint64_t reloads_failed = 0;
  uint64_t denied_calls = 0;
};

// A thread "engram-certs" looks after the files, where there are any. All else: any thread.
class Security {
 public:
  // As SecurityOptions::Validate; also what its files are not: codes of ReadFile, CheckCertificate
  // and CheckAuthorities, naming the file.
  static absl::StatusOr<std::unique_ptr<Security>> Create(const SecurityOptions& options,
                                                          const std::string& listen);
  ~Security();

  // Of the port. Must not be used once this object is gone.
  std::shared_ptr<grpc::ServerCredentials> credentials() const;

  // Unauthenticated: the caller has not said who it is; PermissionDenied: it may not. The message
  // names the caller and never a secret. Once a call has begun.
  absl::Status Authorize(const grpc::ServerContext& call, Right right);

  // Who calls, as limits know it: the first name of a verified certificate, or the host.
  std::string CallerOf(const grpc::ServerContext& call) const;

  SecurityCounts counts() const;

 private:
  struct Caller;

  explicit Security(const SecurityOptions& options);
  absl::Status Load();
  absl::Status LoadCertificate(bool& changed);
  absl::Status LoadAuthorities(bool& changed);
  absl::Status LoadToken(Right right);
  void Watch();
  void Complain(std::string& last, const absl::Status& status);
  bool Allows(const Caller& caller, Right right) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Deny(const Caller& caller, Right right);
  void Log(const std::string& line) const;

  const SecurityOptions options_;
  // Of the thread that watches.
  WatchedFile certificate_, key_, client_ca_;
  std::array<WatchedFile, 2> token_files_;  // by Right
  // What gRPC reads.
  std::optional<MemoryFile> pair_, authorities_;

  mutable Mutex mutex_;
  CondVar changed_;
  std::array<std::string, 2> tokens_ ABSL_GUARDED_BY(mutex_);  // by Right; empty: none
  bool over_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time next_log_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  uint64_t unlogged_ ABSL_GUARDED_BY(mutex_) = 0;
  std::atomic<int64_t> expiry_s_{0};
  std::atomic<uint64_t> reloads_ok_{0}, reloads_failed_{0}, denied_{0};
  std::thread watching_;  // last: it uses all of the above
};

}  // namespace engram

#endif  // ENGRAM_SERVICE_SECURITY_H_
