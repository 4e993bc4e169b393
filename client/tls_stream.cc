#include "client/tls_stream.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace engram {
namespace {

// Plaintext of one record: SSL_read gives so much at most.
constexpr size_t kRecordBytes = 16 << 10;

int DescriptorOf(BIO* bio) {
  return static_cast<int>(reinterpret_cast<intptr_t>(BIO_get_data(bio)));
}

template <typename Transfer>
int Transferred(BIO* bio, const Transfer& transfer) {
  BIO_clear_retry_flags(bio);
  ssize_t count = 0;
  do {
    count = transfer(DescriptorOf(bio));
  } while (count < 0 && errno == EINTR);
  if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
    BIO_set_flags(bio, BIO_FLAGS_SHOULD_RETRY);
  return static_cast<int>(count);
}

// OpenSSL's own would raise SIGPIPE in the host process when the other side is gone.
const BIO_METHOD* SocketMethod() {
  static const BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "engram socket");
    BIO_meth_set_read(made, [](BIO* bio, char* into, int size) {
      const int got =
          Transferred(bio, [&](int fd) { return recv(fd, into, static_cast<size_t>(size), 0); });
      if (BIO_should_retry(bio)) BIO_set_retry_read(bio);
      return got;
    });
    BIO_meth_set_write(made, [](BIO* bio, const char* bytes, int size) {
      const int sent = Transferred(
          bio, [&](int fd) { return send(fd, bytes, static_cast<size_t>(size), MSG_NOSIGNAL); });
      if (BIO_should_retry(bio)) BIO_set_retry_write(bio);
      return sent;
    });
    BIO_meth_set_ctrl(made, [](BIO*, int command, long, void*) -> long {
      return command == BIO_CTRL_FLUSH ? 1 : 0;
    });
    return made;
  }();
  return method;
}

absl::Status Closed() { return absl::UnavailableError("the server closed the connection"); }

}  // namespace

TlsStream::TlsStream(TlsSession session, int fd) : session_(std::move(session)) {
  BIO* const bio = BIO_new(SocketMethod());
  BIO_set_data(bio, reinterpret_cast<void*>(static_cast<intptr_t>(fd)));
  BIO_set_init(bio, 1);
  SSL_set_bio(session_.get(), bio, bio);  // takes it
}

absl::StatusOr<size_t> TlsStream::Read(std::span<uint8_t> into) {
  size_t total = 0;
  pending_ = false;
  // Until nothing is left, so that the descriptor tells of what comes next.
  while (total == 0 || into.size() - total >= kRecordBytes) {
    ERR_clear_error();
    size_t got = 0;
    const int result = SSL_read_ex(session_.get(), into.data() + total, into.size() - total, &got);
    if (result == 1) {
      total += got;
      continue;
    }
    const int error_number = errno;
    const int error = SSL_get_error(session_.get(), result);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return total;
    if (total == 0) return Failure(error, error_number);
    pending_ = true;  // The failure comes with the next call.
    return total;
  }
  pending_ = SSL_has_pending(session_.get()) == 1;
  return total;
}

absl::StatusOr<size_t> TlsStream::Write(std::span<const uint8_t> bytes) {
  ERR_clear_error();
  size_t sent = 0;
  const int result = SSL_write_ex(session_.get(), bytes.data(), bytes.size(), &sent);
  waits_for_input_ = false;
  if (result == 1) return sent;
  const int error_number = errno;
  const int error = SSL_get_error(session_.get(), result);
  waits_for_input_ = error == SSL_ERROR_WANT_READ;
  if (waits_for_input_ || error == SSL_ERROR_WANT_WRITE) return 0;
  return Failure(error, error_number);
}

// `error`: SSL_get_error's.
absl::Status TlsStream::Failure(int error, int error_number) const {
  if (error == SSL_ERROR_ZERO_RETURN) return Closed();
  const unsigned long code = ERR_get_error();
  const int reason = ERR_GET_REASON(code);
  if (error == SSL_ERROR_SYSCALL && code == 0) {
    if (error_number == 0) return Closed();
    return absl::UnavailableError(absl::StrCat("connection lost: ", std::strerror(error_number)));
  }
  if (reason == SSL_R_UNEXPECTED_EOF_WHILE_READING) return Closed();
  if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
    return absl::UnauthenticatedError(
        absl::StrCat("TLS: the server's certificate is not accepted: ",
                     X509_verify_cert_error_string(SSL_get_verify_result(session_.get()))));
  }
  const char* const text = ERR_reason_error_string(code);
  const std::string what = text == nullptr ? absl::StrCat("error ", code) : text;
  if (reason > SSL_AD_REASON_OFFSET) {
    return absl::UnauthenticatedError(absl::StrCat("TLS: the server refused us: ", what));
  }
  return absl::UnauthenticatedError(absl::StrCat("TLS with the server failed: ", what));
}

}  // namespace engram
