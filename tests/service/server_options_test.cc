#include "service/server_options.h"

#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"

namespace engram {
namespace {

TEST(ServerOptions, EachWrongOptionIsNamed) {
  const auto check = [](void (*change)(ServerOptions&)) {
    ServerOptions options;
    change(options);
    return options.Validate();
  };
  constexpr auto kBad = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(check([](ServerOptions&) {}), IsOk());
  EXPECT_THAT(check([](ServerOptions& o) { o.listen.clear(); }), StatusIs(kBad, "`listen`"));
  EXPECT_THAT(check([](ServerOptions& o) { o.max_rows_per_request = 0; }),
              StatusIs(kBad, "`max_rows_per_request`"));
  EXPECT_THAT(check([](ServerOptions& o) { o.max_rows_per_request = uint64_t{1} << 40; }),
              StatusIs(kBad, "`max_rows_per_request`"));
  EXPECT_THAT(check([](ServerOptions& o) { o.max_request_bytes = 65536 * 8; }),
              StatusIs(kBad, "`max_request_bytes`"));
  EXPECT_THAT(check([](ServerOptions& o) { o.max_request_bytes = uint64_t{1} << 40; }),
              StatusIs(kBad, "`max_request_bytes`"));
  EXPECT_THAT(check([](ServerOptions& o) { o.max_requests_in_flight = 0; }),
              StatusIs(kBad, "`max_requests_in_flight`"));
  EXPECT_THAT(check([](ServerOptions& o) { o.threads = 1025; }), StatusIs(kBad, "`threads`"));
  EXPECT_THAT(check([](ServerOptions& o) { o.spin = absl::Seconds(-1); }),
              StatusIs(kBad, "`spin`"));
  EXPECT_THAT(check([](ServerOptions& o) { o.spin = absl::Seconds(2); }), StatusIs(kBad, "`spin`"));
}

}  // namespace
}  // namespace engram
