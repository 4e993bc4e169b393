// What a server counts, and what of it is exported.
#include "service/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "service/metrics_exporter.h"
#include "tests/service/test_server.h"
#include "tests/support/certificates.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

// Counts are written when answers have left, which clients may see first.
template <typename Condition>
testing::AssertionResult Becomes(const TestServer& server, Condition condition) {
  const absl::Time limit = absl::Now() + absl::Seconds(20);
  while (!condition(const_cast<TestServer&>(server).server().counts())) {
    if (absl::Now() > limit) return testing::AssertionFailure() << "not within 20 s";
    absl::SleepFor(absl::Milliseconds(1));
  }
  return testing::AssertionSuccess();
}

uint64_t Errors(TestServer& server, ErrorReason reason) {
  return server.server().counts().errors[static_cast<size_t>(reason)];
}

// Of a server, by reason; those at 0 left out.
std::map<std::string, uint64_t> AllErrors(TestServer& server) {
  std::map<std::string, uint64_t> errors;
  const ServerCounts counts = server.server().counts();
  for (size_t i = 0; i < kErrorReasons.size(); ++i) {
    if (counts.errors[i] != 0) errors[kErrorReasons[i]] = counts.errors[i];
  }
  return errors;
}

TEST(ServerMetrics, RequestsRowsAndStages) {
  TestServer server;
  TestStream stream(server.stub());
  stream.Send(server.Request(1, 16));
  stream.Send(server.Request(2, 3000, v1::PRIORITY_PREFILL));  // several pieces, one request
  Answer first, second;
  for (int last = 0; last < 2;) {
    const v1::GatherStreamResponse response = stream.Receive();
    TestStream::Add(response, response.request_id() == 1 ? first : second);
    last += response.last() ? 1 : 0;
  }
  ASSERT_TRUE(Becomes(server, [](const ServerCounts& c) { return c.duration.count() == 2; }));
  const ServerCounts counts = server.server().counts();
  EXPECT_THAT(counts.requests, testing::ElementsAre(1, 1));
  EXPECT_EQ(counts.rows.count(), 2u);
  EXPECT_EQ(counts.rows.sum, 3016u);
  EXPECT_EQ(counts.sent_rows, 3016u);
  EXPECT_EQ(counts.sent_row_bytes, 3016u * kRowBytes);
  for (const HistogramCounts* stage : {&counts.queue, &counts.gather, &counts.send}) {
    EXPECT_EQ(stage->count(), 2u);
  }
  // The parts are the whole.
  EXPECT_EQ(counts.queue.sum + counts.gather.sum + counts.send.sum, counts.duration.sum);
  EXPECT_EQ(counts.streams, 1u);
  EXPECT_EQ(counts.in_flight, 0u);
  EXPECT_EQ(counts.in_flight_rows, 0u);
  EXPECT_TRUE(AllErrors(server).empty());
}

TEST(ServerMetrics, AStoreThatHoldsAGatherUpIsSeenInItsStage) {
  constexpr absl::Duration kHeld = absl::Milliseconds(100);
  TestServer server;
  TestStream stream(server.stub());
  server.store().Close();
  stream.Send(server.Request(1, 16));
  ASSERT_TRUE(server.store().WaitUntilBlocked());
  EXPECT_EQ(server.server().counts().in_flight, 1u);
  EXPECT_EQ(server.server().counts().in_flight_rows, 16u);
  absl::SleepFor(kHeld);
  server.store().Open();
  EXPECT_EQ(stream.ReceiveAnswer(1).code, 0u);
  ASSERT_TRUE(Becomes(server, [](const ServerCounts& c) { return c.duration.count() == 1; }));
  const ServerCounts counts = server.server().counts();
  EXPECT_GE(counts.gather.sum, static_cast<uint64_t>(absl::ToInt64Nanoseconds(kHeld)));
  EXPECT_LT(counts.send.sum + counts.queue.sum, counts.duration.sum);
}

TEST(ServerMetrics, EachErrorHasItsReason) {
  ServerOptions options = TestOptions();
  options.max_requests_in_flight = 2;
  TestServer server(options);
  TestStream stream(server.stub());
  uint64_t id = 0;
  const auto fails = [&](v1::GatherStreamRequest request, ErrorReason reason) {
    const uint64_t before = Errors(server, reason);
    stream.Send(request);
    EXPECT_NE(stream.ReceiveAnswer(request.request_id()).code, 0u);
    EXPECT_EQ(Errors(server, reason), before + 1) << kErrorReasons[static_cast<size_t>(reason)];
  };
  v1::GatherStreamRequest request = server.Request(++id, 1);
  request.set_digest(std::string(32, '\x01'));
  fails(request, ErrorReason::kVersionMismatch);
  request = server.Request(++id, 0);
  request.add_rows(kHeldRows);
  fails(request, ErrorReason::kWrongShard);
  request = server.Request(++id, 0);
  request.add_rows(200000);
  fails(request, ErrorReason::kOutOfRange);
  request = server.Request(++id, 1);
  request.set_layer(2);
  fails(request, ErrorReason::kInvalid);
  request = server.Request(++id, 1);
  request.set_digest("short");
  fails(request, ErrorReason::kInvalid);
  request = server.Request(++id, 1);
  request.set_flags(64);
  fails(request, ErrorReason::kUnsupported);
  server.store().FailWith(absl::DataLossError("gone"));
  fails(server.Request(++id, 1), ErrorReason::kDataLoss);
  server.store().FailWith(absl::InternalError("a bug"));
  fails(server.Request(++id, 1), ErrorReason::kInternal);
  server.store().FailWith(absl::OkStatus());

  server.store().Close();
  request = server.Request(++id, 3000);
  request.set_budget_us(100'000);
  stream.Send(request);
  ASSERT_TRUE(server.store().WaitUntilBlocked());
  absl::SleepFor(absl::Milliseconds(100));
  server.store().Open();
  EXPECT_NE(stream.ReceiveAnswer(id).code, 0u);
  EXPECT_EQ(Errors(server, ErrorReason::kDeadline), 1u);

  // Nothing reads: the third waits behind two that stay unfinished.
  for (int i = 0; i < 3; ++i) stream.Send(server.Request(++id, kManyRows));
  ASSERT_TRUE(Becomes(server, [](const ServerCounts& counts) {
    return counts.errors[static_cast<size_t>(ErrorReason::kOverload)] == 1;
  }));
  stream.Cancel(id - 1);
  ASSERT_TRUE(Becomes(server, [](const ServerCounts& counts) {
    return counts.errors[static_cast<size_t>(ErrorReason::kCancelled)] == 1;
  }));
  stream.Break();  // One is left.
  ASSERT_TRUE(Becomes(server, [](const ServerCounts& counts) { return counts.streams == 0; }));
  const ServerCounts counts = server.server().counts();
  EXPECT_EQ(counts.errors[static_cast<size_t>(ErrorReason::kCancelled)], 2u);
  EXPECT_EQ(counts.in_flight, 0u);
  EXPECT_EQ(counts.in_flight_rows, 0u);
  EXPECT_EQ(counts.requests[0], id);
  uint64_t errors = 0;
  for (const uint64_t count : counts.errors) errors += count;
  EXPECT_EQ(errors, id);
}

TEST(ServerMetrics, ADrainingServerCountsWhatItRefuses) {
  TestServer server;
  TestStream stream(server.stub());
  stream.Send(server.Request(1, 1));
  EXPECT_EQ(stream.ReceiveAnswer(1).code, 0u);
  server.server().BeginDrain();
  EXPECT_EQ(stream.Receive().kind(), v1::STREAM_RESPONSE_KIND_DRAINING);
  stream.Send(server.Request(2, 1));
  EXPECT_NE(stream.ReceiveAnswer(2).code, 0u);
  EXPECT_EQ(AllErrors(server), (std::map<std::string, uint64_t>{{"draining", 1}}));
  EXPECT_TRUE(server.server().draining());
}

TEST(ServerMetrics, UnaryCallsByTheirStatus) {
  TestServer server;
  v1::GatherRequest request;
  request.set_digest(server.table().digest.data(), server.table().digest.size());
  request.set_layer(kLayer);
  for (const uint32_t row : {1, 2, 3}) request.add_rows(row);
  v1::GatherResponse response;
  EXPECT_TRUE(server.stub().Gather(TestContext().get(), request, &response).ok());
  request.set_layer(2);
  EXPECT_EQ(server.stub().Gather(TestContext().get(), request, &response).error_code(),
            grpc::StatusCode::NOT_FOUND);
  const ServerCounts counts = server.server().counts();
  const ServerCounts::Unary& gather = counts.unary[static_cast<size_t>(UnaryMethod::kGather)];
  EXPECT_EQ(gather.started, 2u);
  for (size_t i = 0; i < kCallCodes.size(); ++i) {
    const bool expected =
        kCallCodes[i] == absl::StatusCode::kOk || kCallCodes[i] == absl::StatusCode::kNotFound;
    EXPECT_EQ(gather.durations[i].count(), expected ? 1u : 0u) << kCallCodes[i];
  }
  EXPECT_EQ(counts.unary[static_cast<size_t>(UnaryMethod::kDescribe)].started, 0u);
  EXPECT_EQ(counts.requests[0], 2u);
  EXPECT_EQ(counts.sent_rows, 3u);
  EXPECT_EQ(AllErrors(server), (std::map<std::string, uint64_t>{{"invalid", 1}}));
}

// name{label names}: what scrapes and rules know a series by.
std::set<std::string> SeriesOf(const std::vector<MetricFamily>& families) {
  std::set<std::string> series;
  for (const MetricFamily& family : families) {
    EXPECT_NE(family.help, "") << family.name;
    for (const MetricSample& sample : family.samples) {
      std::string name = family.name;
      for (const auto& [label, value] : sample.labels) {
        absl::StrAppend(&name, " ", label, family.name == "engram_table_info" ? "" : value);
      }
      EXPECT_TRUE(series.insert(name).second) << name;
    }
  }
  return series;
}

double ValueOf(const MetricsExporter& exporter, const std::string& name) {
  for (const MetricFamily& family : exporter.Collect()) {
    if (family.name == name) return family.samples[0].value;
  }
  return -1;
}

TEST(MetricsExporter, EverySeriesIsThereWhileATableLoads) {
  Startup startup(nullptr);
  ASSERT_OK_AND_ASSIGN(const auto exporter,
                       MetricsExporter::Start({"127.0.0.1:0", "0/1", "memory", &startup}));
  EXPECT_EQ(ValueOf(*exporter, "engram_ready"), 0);
  EXPECT_TRUE(std::isnan(ValueOf(*exporter, "engram_load_remaining_seconds")));
  startup.Enter(StartupState::kLoading);
  startup.progress().total_bytes = 1000;
  startup.progress().done_bytes = 250;
  EXPECT_GT(ValueOf(*exporter, "engram_load_remaining_seconds"), 0);
  EXPECT_EQ(ValueOf(*exporter, "engram_load_progress_ratio"), 0.25);
  EXPECT_EQ(ValueOf(*exporter, "engram_table_info"), 0);
  const std::set<std::string> before = SeriesOf(exporter->Collect());

  const TestTable table = MakeTable();
  Generations generations(table.table);
  TestAuthority authority;
  authority.Issue("server", "DNS:localhost", 2);
  ServerOptions options = TestOptions();
  options.security.certificate = authority.Certificate("server");
  options.security.key = authority.Key("server");
  ASSERT_OK_AND_ASSIGN(const auto server, Server::Start(table.table, options, &generations));
  startup.Enter(StartupState::kServing);
  EXPECT_EQ(ValueOf(*exporter, "engram_load_remaining_seconds"), 0);
  exporter->SetServing(table.table.get(), &generations, server.get());
  EXPECT_EQ(SeriesOf(exporter->Collect()), before);
  EXPECT_EQ(ValueOf(*exporter, "engram_ready"), 1);
  EXPECT_EQ(ValueOf(*exporter, "engram_load_progress_ratio"), 1);
  EXPECT_EQ(ValueOf(*exporter, "engram_table_info"), 1);
  EXPECT_EQ(ValueOf(*exporter, "engram_generations"), 1);
  EXPECT_NEAR(ValueOf(*exporter, "engram_certificate_expiry_seconds"),
              static_cast<double>(absl::ToUnixSeconds(absl::Now() + absl::Hours(48))), 120);
  EXPECT_EQ(ValueOf(*exporter, "engram_certificate_reloads_total"), 0);
  EXPECT_EQ(ValueOf(*exporter, "engram_denied_calls_total"), 0);
  server->BeginDrain();
  EXPECT_EQ(ValueOf(*exporter, "engram_ready"), 0);
}

TEST(MetricsExporter, AddressesThatCannotBeListenedOnAreNamed) {
  for (const char* const address : {"nohost", ":80", "127.0.0.1:x", "127.0.0.1:70000"}) {
    EXPECT_THAT(MetricsServer::Start(address, [] { return std::vector<MetricFamily>(); }),
                StatusIs(kInvalid, address));
  }
  ASSERT_OK_AND_ASSIGN(const auto first, MetricsServer::Start("127.0.0.1:0", [] {
                         return std::vector<MetricFamily>();
                       }));
  EXPECT_THAT(MetricsServer::Start(first->address(), [] { return std::vector<MetricFamily>(); }),
              StatusIs(absl::StatusCode::kUnavailable, first->address()));
}

}  // namespace
}  // namespace engram
