// What is read of PEM text, by OpenSSL.
#ifndef ENGRAM_PROTO_BASE_PEM_H_
#define ENGRAM_PROTO_BASE_PEM_H_

#include <openssl/pem.h>
#include <openssl/x509.h>

#include <memory>
#include <string>

namespace engram::pem {

template <auto Free>
struct Freed {
  template <typename T>
  void operator()(T* object) const {
    Free(object);
  }
};
using Bio = std::unique_ptr<BIO, Freed<BIO_free>>;
using Certificate = std::unique_ptr<X509, Freed<X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;

// Borrows `text`.
inline Bio Reader(const std::string& text) {
  return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

// Nobody is there to be asked for one.
inline int NoPassphrase(char*, int, int, void*) { return -1; }

// The next one. Null: there is none, or it is damaged; OpenSSL's queue of errors says which.
inline Certificate ReadCertificate(BIO* bio) {
  return Certificate(PEM_read_bio_X509(bio, nullptr, NoPassphrase, nullptr));
}
inline Key ReadPrivateKey(BIO* bio) {
  return Key(PEM_read_bio_PrivateKey(bio, nullptr, NoPassphrase, nullptr));
}

}  // namespace engram::pem

#endif  // ENGRAM_PROTO_BASE_PEM_H_
