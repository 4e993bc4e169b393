// Certificates for tests, made by the command `openssl`.
#ifndef ENGRAM_TESTS_SUPPORT_CERTIFICATES_H_
#define ENGRAM_TESTS_SUPPORT_CERTIFICATES_H_

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/support/checkpoint_builder.h"

namespace engram {

// An authority and what it has signed, in a directory of its own.
class TestAuthority {
 public:
  TestAuthority() { Make("ca ca"); }

  std::string ca() const { return File("ca.pem"); }
  std::string File(const std::string& name) const { return directory_.File(name); }
  std::string Certificate(const std::string& name) const { return File(name + ".pem"); }
  std::string Key(const std::string& name) const { return File(name + ".key"); }

  // `names`: SANs as openssl.cnf has them, "DNS:localhost,IP:127.0.0.1". Ends in `days`; in the
  // past, if that is negative.
  void Issue(const std::string& name, const std::string& names, int days = 1) {
    Make(absl::StrCat("cert ", name, " ca ", names, " ", days));
  }

 private:
  void Make(const std::string& what) {
    ASSERT_EQ(
        std::system(absl::StrCat(ENGRAM_MAKE_CERTS, " ", directory_.path(), " ", what).c_str()), 0)
        << what;
  }

  const TempDir directory_;
};

}  // namespace engram

#endif  // ENGRAM_TESTS_SUPPORT_CERTIFICATES_H_
