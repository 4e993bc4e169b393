#include "client/options.h"

#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"

namespace engram {
namespace {

TEST(ClientOptions, EachWrongOptionIsNamed) {
  const auto check = [](void (*change)(ClientOptions&)) {
    ClientOptions options;
    options.servers = {"a:1", "b:2"};
    change(options);
    return options.Validate();
  };
  constexpr auto kBad = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(check([](ClientOptions&) {}), IsOk());
  EXPECT_THAT(check([](ClientOptions& o) { o.servers.clear(); }), StatusIs(kBad, "`servers`"));
  EXPECT_THAT(check([](ClientOptions& o) { o.servers = {""}; }),
              StatusIs(kBad, "`servers` is wrong: address `` is neither host:port nor unix:PATH"));
  EXPECT_THAT(check([](ClientOptions& o) {
                o.servers = {"a:1", "b"};
              }),
              StatusIs(kBad, "`servers` is wrong: address `b` is neither"));
  EXPECT_THAT(check([](ClientOptions& o) { o.servers = {"unix:"}; }),
              StatusIs(kBad, "the path is empty"));
  EXPECT_THAT(check([](ClientOptions& o) {
                o.servers = {"a:1", "a:1"};
              }),
              StatusIs(kBad, "names a:1 twice"));
  EXPECT_THAT(check([](ClientOptions& o) { o.credit_bytes = 0; }),
              StatusIs(kBad, "`credit_bytes`"));
  EXPECT_THAT(check([](ClientOptions& o) { o.rows_per_request = 0; }),
              StatusIs(kBad, "`rows_per_request`"));
  EXPECT_THAT(check([](ClientOptions& o) { o.connect_timeout = absl::ZeroDuration(); }),
              StatusIs(kBad, "`connect_timeout`"));
  EXPECT_THAT(check([](ClientOptions& o) { o.io_threads = 0; }), StatusIs(kBad, "`io_threads`"));
  EXPECT_THAT(check([](ClientOptions& o) { o.spin = absl::Seconds(-1); }),
              StatusIs(kBad, "`spin`"));
}

}  // namespace
}  // namespace engram
