#include <gtest/gtest.h>

#include "service/health_port.h"
#include "tests/service/test_server.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

std::unique_ptr<Health::Stub> HealthStub(const std::string& address) {
  return Health::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
}

HealthCheckRequest For(const std::string& service) {
  HealthCheckRequest request;
  request.set_service(service);
  return request;
}

HealthCheckResponse::ServingStatus Check(Health::Stub& stub, const std::string& service) {
  HealthCheckResponse response;
  EXPECT_TRUE(stub.Check(TestContext().get(), For(service), &response).ok());
  return response.status();
}

ServerOptions TwoPorts() {
  ServerOptions options = TestOptions();
  options.health = "127.0.0.1:0";
  return options;
}

TEST(Health, BothPortsAnswerChecks) {
  TestServer server(TwoPorts());
  ASSERT_NE(server.server().health_address(), server.server().address());
  for (const std::string& address : {server.server().address(), server.server().health_address()}) {
    const auto stub = HealthStub(address);
    for (const char* service : {"", "engram.v1.EngramService"}) {
      EXPECT_EQ(Check(*stub, service), HealthCheckResponse::SERVING);
    }
    HealthCheckResponse response;
    EXPECT_EQ(stub->Check(TestContext().get(), For("other"), &response).error_code(),
              grpc::StatusCode::NOT_FOUND);
  }
  server.server().BeginDrain();
  for (const std::string& address : {server.server().address(), server.server().health_address()}) {
    EXPECT_EQ(Check(*HealthStub(address), ""), HealthCheckResponse::NOT_SERVING);
    EXPECT_EQ(Check(*HealthStub(address), "liveness"), HealthCheckResponse::SERVING);
  }
}

TEST(Health, ThePortIsThereBeforeThereIsAServer) {
  ASSERT_OK_AND_ASSIGN(const auto port, HealthPort::Start("127.0.0.1:0"));
  const auto stub = HealthStub(port->address());
  EXPECT_EQ(Check(*stub, "liveness"), HealthCheckResponse::SERVING);
  const auto context = TestContext();
  const auto watch = stub->Watch(context.get(), For("engram.v1.EngramService"));
  HealthCheckResponse response;
  for (const bool ready : {false, true, false}) {
    port->SetReady(ready);
    ASSERT_TRUE(watch->Read(&response));
    const auto expected = ready ? HealthCheckResponse::SERVING : HealthCheckResponse::NOT_SERVING;
    EXPECT_EQ(response.status(), expected);
    EXPECT_EQ(Check(*stub, ""), expected);
    EXPECT_EQ(Check(*stub, "liveness"), HealthCheckResponse::SERVING);
  }
}

TEST(Health, APortEndsWithItsWatches) {
  ASSERT_OK_AND_ASSIGN(auto port, HealthPort::Start("127.0.0.1:0"));
  const auto stub = HealthStub(port->address());
  const auto context = TestContext();
  const auto watch = stub->Watch(context.get(), For(""));
  HealthCheckResponse response;
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_THAT(HealthPort::Start(port->address()),
              StatusIs(absl::StatusCode::kUnavailable, port->address()));
  port.reset();
  EXPECT_FALSE(watch->Read(&response));
}

TEST(Health, APortThatIsGivenIsReadyWhileItsServerServes) {
  ASSERT_OK_AND_ASSIGN(std::shared_ptr<HealthPort> port, HealthPort::Start("127.0.0.1:0"));
  const auto stub = HealthStub(port->address());
  EXPECT_EQ(Check(*stub, ""), HealthCheckResponse::NOT_SERVING);
  const TestTable table = MakeTable();
  ASSERT_OK_AND_ASSIGN(const auto server, Server::Start(table.table, TestOptions(), nullptr, port));
  EXPECT_EQ(Check(*stub, ""), HealthCheckResponse::SERVING);
  server->Stop(absl::ZeroDuration(), absl::ZeroDuration());
  EXPECT_EQ(Check(*stub, ""), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(Check(*stub, "liveness"), HealthCheckResponse::SERVING);
}

TEST(Health, TheSecondPortServesNoRows) {
  TestServer server(TwoPorts());
  const auto stub = v1::EngramService::NewStub(
      grpc::CreateChannel(server.server().health_address(), grpc::InsecureChannelCredentials()));
  v1::DescribeResponse response;
  EXPECT_EQ(stub->Describe(TestContext().get(), {}, &response).error_code(),
            grpc::StatusCode::UNIMPLEMENTED);
}

TEST(Health, AWatchHearsOfTheDrainAndEndsWithTheServer) {
  TestServer server(TwoPorts());
  for (const std::string& address : {server.server().address(), server.server().health_address()}) {
    EXPECT_EQ(Check(*HealthStub(address), ""), HealthCheckResponse::SERVING);
  }
  const auto stub = HealthStub(server.server().health_address());
  const auto context = TestContext();
  const auto watch = stub->Watch(context.get(), For(""));
  HealthCheckResponse response;
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
  server.server().BeginDrain();
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  server.server().Stop(absl::ZeroDuration(), absl::Seconds(20));
  EXPECT_FALSE(watch->Read(&response));
}

TEST(Health, AStoreThatFailsMakesTheServerUnready) {
  TestServer server(TwoPorts());
  const auto stub = HealthStub(server.server().health_address());
  const auto context = TestContext();
  const auto watch = stub->Watch(context.get(), For(""));
  HealthCheckResponse response;
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
  server.store().state().Fail(absl::DataLossError("rows are lost"));
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(Check(*HealthStub(server.server().address()), ""), HealthCheckResponse::NOT_SERVING);
  v1::DescribeResponse description;
  ASSERT_TRUE(server.stub().Describe(TestContext().get(), {}, &description).ok());
  EXPECT_EQ(description.state(), v1::SERVER_STATE_FAILED);
  EXPECT_EQ(description.failure(), "rows are lost");
}

TEST(Health, AStoreThatHasFailedBeforeTheStartIsUnready) {
  TestTable table = MakeTable();
  table.store->state().Fail(absl::DataLossError("rows are lost"));
  TestServer server(TwoPorts(), table);
  EXPECT_EQ(Check(*HealthStub(server.server().address()), ""), HealthCheckResponse::NOT_SERVING);
}

TEST(Health, AWatchOfAnUnknownServiceStaysOpen) {
  TestServer server;
  const auto stub = HealthStub(server.server().address());
  const auto context = TestContext();
  const auto watch = stub->Watch(context.get(), For("other"));
  HealthCheckResponse response;
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVICE_UNKNOWN);
  context->TryCancel();
  EXPECT_EQ(watch->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(Check(*stub, ""), HealthCheckResponse::SERVING);
}

}  // namespace
}  // namespace engram
