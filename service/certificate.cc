#include "service/certificate.h"

#include <fcntl.h>
#include <openssl/err.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/base/file.h"
#include "proto/base/pem.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

absl::StatusOr<int> CountCertificates(const std::string& text) {
  const pem::Bio bio = pem::Reader(text);
  int count = 0;
  while (pem::ReadCertificate(bio.get()) != nullptr) ++count;
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  ERR_clear_error();
  if (count == 0) return absl::InvalidArgumentError("holds no certificate in PEM");
  if (!at_end) return absl::InvalidArgumentError("holds a damaged certificate");
  return count;
}

}  // namespace

absl::StatusOr<absl::Time> CheckCertificate(const std::string& chain, const std::string& key) {
  if (const absl::StatusOr<int> count = CountCertificates(chain); !count.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("the chain ", count.status().message()));
  }
  const pem::Bio chain_bio = pem::Reader(chain), key_bio = pem::Reader(key);
  const pem::Certificate leaf = pem::ReadCertificate(chain_bio.get());
  const pem::Key read = pem::ReadPrivateKey(key_bio.get());
  const bool fits = read != nullptr && X509_check_private_key(leaf.get(), read.get()) == 1;
  ERR_clear_error();
  if (read == nullptr) {
    return absl::InvalidArgumentError("the key is no private key in PEM without a passphrase");
  }
  if (!fits) return absl::InvalidArgumentError("the key is not that of the certificate");
  std::tm time = {};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(leaf.get()), &time) != 1) {
    return absl::InvalidArgumentError("the certificate has no time at which it ends");
  }
  const absl::Time end = absl::FromTimeT(timegm(&time));
  if (end <= absl::Now()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the certificate has ended at ", absl::FormatTime(end, absl::UTCTimeZone())));
  }
  return end;
}

absl::Status CheckAuthorities(const std::string& text) { return CountCertificates(text).status(); }

absl::StatusOr<MemoryFile> MemoryFile::Create() {
  const int fd = memfd_create("engram-certificate", MFD_CLOEXEC);
  if (fd < 0) return SystemError(errno, "memfd_create");
  return MemoryFile(fd);
}

MemoryFile::MemoryFile(MemoryFile&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
MemoryFile& MemoryFile::operator=(MemoryFile&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}
MemoryFile::~MemoryFile() {
  if (fd_ >= 0) close(fd_);
}

// The new content is another file, which then takes the old one's number.
absl::Status MemoryFile::Replace(const std::string& content) {
  ASSIGN_OR_RETURN(const MemoryFile next, Create());
  size_t written = 0;
  while (written < content.size()) {
    const ssize_t count = write(next.fd_, content.data() + written, content.size() - written);
    if (count < 0 && errno != EINTR) return SystemError(errno, "write a certificate to memory");
    if (count > 0) written += static_cast<size_t>(count);
  }
  if (dup3(next.fd_, fd_, O_CLOEXEC) < 0) return SystemError(errno, "dup3");
  return absl::OkStatus();
}

std::string MemoryFile::path() const { return absl::StrCat("/proc/self/fd/", fd_); }

}  // namespace engram
