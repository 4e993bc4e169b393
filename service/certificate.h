// A server's certificate, as gRPC wants it and as it can be trusted to work.
#ifndef ENGRAM_SERVICE_CERTIFICATE_H_
#define ENGRAM_SERVICE_CERTIFICATE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace engram {

// When a chain's first certificate ends. `key`: its private key. InvalidArgument: either is no PEM,
// or the key is another certificate's; FailedPrecondition: the certificate has ended.
absl::StatusOr<absl::Time> CheckCertificate(const std::string& chain, const std::string& key);

// InvalidArgument: not one certificate in PEM.
absl::Status CheckAuthorities(const std::string& text);

// A file in memory whose content is replaced as a whole, for libraries that read files by name:
// gRPC 1.51 takes certificates that change from nowhere else, and drops those that work before it
// looks at new ones.
class MemoryFile {
 public:
  // The system's code.
  static absl::StatusOr<MemoryFile> Create();
  MemoryFile(MemoryFile&& other) noexcept;
  MemoryFile& operator=(MemoryFile&& other) noexcept;
  ~MemoryFile();

  // Whoever opens path() sees the old content or the new one.
  absl::Status Replace(const std::string& content);
  std::string path() const;  // within this process, while this object lives

 private:
  explicit MemoryFile(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace engram

#endif  // ENGRAM_SERVICE_CERTIFICATE_H_
