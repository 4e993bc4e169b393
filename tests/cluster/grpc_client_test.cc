// The server's stream as an ordinary protobuf client sees it: generated stubs, nothing of ours.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engram/v1/engram.grpc.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "proto/crc32c.h"
#include "tests/cluster/test_cluster.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckResponse;
using testing::HasSubstr;

class GrpcClientTest : public testing::Test {
 protected:
  GrpcClientTest()
      : cluster_(2),
        channel_(grpc::CreateChannel(cluster_.addresses()[0], grpc::InsecureChannelCredentials())),
        stub_(v1::EngramService::NewStub(channel_)),
        stream_(stub_->GatherStream(&stream_context_)) {
    grpc::ClientContext context;
    EXPECT_TRUE(stub_->Describe(&context, {}, &description_).ok());
  }
  ~GrpcClientTest() override { stream_context_.TryCancel(); }

  v1::GatherStreamRequest Request(uint64_t id, std::vector<uint32_t> rows) const {
    v1::GatherStreamRequest request;
    request.set_request_id(id);
    request.set_kind(v1::STREAM_REQUEST_KIND_GATHER);
    request.set_digest(description_.generations(0).digest());
    request.set_layer(1);
    request.mutable_rows()->Add(rows.begin(), rows.end());
    return request;
  }

  // Sends a request and reads one message.
  v1::GatherStreamResponse Ask(const v1::GatherStreamRequest& request) {
    EXPECT_TRUE(stream_->Write(request));
    return Next();
  }
  v1::GatherStreamResponse Next() {
    v1::GatherStreamResponse response;
    EXPECT_TRUE(stream_->Read(&response));
    return response;
  }
  void ExpectError(const v1::GatherStreamRequest& request, grpc::StatusCode code,
                   const std::string& text) {
    const v1::GatherStreamResponse response = Ask(request);
    EXPECT_EQ(response.request_id(), request.request_id());
    EXPECT_EQ(response.code(), static_cast<uint32_t>(code)) << response.message();
    EXPECT_THAT(response.message(), HasSubstr(text));
    EXPECT_TRUE(response.last());
    EXPECT_EQ(response.rows(), "");
    EXPECT_EQ(Ask(Request(request.request_id() + 1000, {0})).code(), 0u) << "the stream goes on";
  }

  TestCluster cluster_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::EngramService::Stub> stub_;
  v1::DescribeResponse description_;
  grpc::ClientContext stream_context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::GatherStreamRequest, v1::GatherStreamResponse>>
      stream_;
};

std::string SynthRowBytes(uint64_t row) {
  uint8_t bytes[kSynthRowBytes];
  SynthRow(0, 1, row, bytes);
  return std::string(reinterpret_cast<const char*>(bytes), kSynthRowBytes);
}

TEST_F(GrpcClientTest, RowsAndChecksums) {
  v1::GatherStreamRequest request = Request(7, {3, 0xFFFFFFFF, 0});
  request.set_flags(v1::REQUEST_FLAG_CHECKSUMS);
  const v1::GatherStreamResponse response = Ask(request);
  EXPECT_EQ(response.request_id(), 7u);
  EXPECT_TRUE(response.last());
  const std::string zeros(kSynthRowBytes, '\0');
  EXPECT_EQ(response.rows(), SynthRowBytes(3) + zeros + SynthRowBytes(0));
  ASSERT_EQ(response.checksums_size(), 3);
  EXPECT_EQ(response.checksums(0), Crc32c(SynthRowBytes(3).data(), kSynthRowBytes));
  EXPECT_EQ(response.checksums(1), Crc32c(zeros.data(), kSynthRowBytes));
}

TEST_F(GrpcClientTest, LargeAnswersComeInPiecesInOrder) {
  const v1::GatherStreamRequest request = Request(1, std::vector<uint32_t>(4096, 5));
  ASSERT_TRUE(stream_->Write(request));
  std::string rows;
  for (uint32_t piece = 0;; ++piece) {
    const v1::GatherStreamResponse response = Next();
    ASSERT_EQ(response.piece(), piece);
    EXPECT_LE(response.rows().size(), 256u << 10);
    rows += response.rows();
    if (response.last()) break;
  }
  EXPECT_EQ(rows.size(), 4096 * kSynthRowBytes);
}

TEST_F(GrpcClientTest, BadRequestsGetAnErrorAndTheStreamGoesOn) {
  v1::GatherStreamRequest request = Request(1, {0});
  request.set_digest(std::string(32, 'x'));
  ExpectError(request, grpc::StatusCode::FAILED_PRECONDITION, "this server serves");
  request = Request(2, {0});
  request.set_digest("short");
  ExpectError(request, grpc::StatusCode::INVALID_ARGUMENT, "5 bytes");
  request = Request(3, {0});
  request.set_layer(2);
  ExpectError(request, grpc::StatusCode::NOT_FOUND, "layer 2");
  ExpectError(Request(4, {0, 99'000'000}), grpc::StatusCode::OUT_OF_RANGE, "row id 99000000");
  const auto last = static_cast<uint32_t>(description_.geometry().rows_per_layer(0) - 1);
  ExpectError(Request(5, {last}), grpc::StatusCode::FAILED_PRECONDITION, "not held by this server");
  ExpectError(Request(6, std::vector<uint32_t>(4097, 0)), grpc::StatusCode::INVALID_ARGUMENT,
              "more than 4096 rows");
  request = Request(7, {0});
  request.set_flags(1 << 20);
  ExpectError(request, grpc::StatusCode::UNIMPLEMENTED, "flags");
  request = Request(8, {0});
  request.set_kind(static_cast<v1::StreamRequestKind>(77));
  ExpectError(request, grpc::StatusCode::UNIMPLEMENTED, "kind 77");
  request = Request(9, {});
  request.add_wide_rows(0);
  ExpectError(request, grpc::StatusCode::INVALID_ARGUMENT, "`rows`");
  ExpectError(Request(0, {0}), grpc::StatusCode::INVALID_ARGUMENT, "request id 0");
}

TEST_F(GrpcClientTest, UnaryGather) {
  v1::GatherRequest request;
  request.set_digest(description_.generations(0).digest());
  request.set_layer(1);
  request.add_rows(9);
  v1::GatherResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(stub_->Gather(&context, request, &response).ok());
  EXPECT_EQ(response.rows(), SynthRowBytes(9));
  request.mutable_rows()->Resize(
      static_cast<int>(description_.limits().max_rows_per_unary_request()) + 1, 0);
  grpc::ClientContext second;
  EXPECT_EQ(stub_->Gather(&second, request, &response).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  request.mutable_rows()->RemoveLast();
  grpc::ClientContext third;
  EXPECT_TRUE(stub_->Gather(&third, request, &response).ok()) << "a default client can receive it";
}

TEST_F(GrpcClientTest, HealthAndDrain) {
  const auto health = Health::NewStub(channel_);
  const auto check = [&](const std::string& service) {
    grpc::ClientContext context;
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(service);
    HealthCheckResponse response;
    const grpc::Status status = health->Check(&context, request, &response);
    return status.ok() ? static_cast<int>(response.status()) : -status.error_code();
  };
  EXPECT_EQ(check(""), HealthCheckResponse::SERVING);
  EXPECT_EQ(check("engram.v1.EngramService"), HealthCheckResponse::SERVING);
  EXPECT_EQ(check("other"), -grpc::StatusCode::NOT_FOUND);

  grpc::ClientContext context;
  const auto watch = health->Watch(&context, {});
  HealthCheckResponse state;
  ASSERT_TRUE(watch->Read(&state));
  EXPECT_EQ(state.status(), HealthCheckResponse::SERVING);
  EXPECT_EQ(Ask(Request(1, {0})).code(), 0u);
  cluster_.server(0).BeginDrain();
  ASSERT_TRUE(watch->Read(&state));
  EXPECT_EQ(state.status(), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(Next().kind(), v1::STREAM_RESPONSE_KIND_DRAINING);
  const v1::GatherStreamResponse refused = Ask(Request(2, {0}));
  EXPECT_EQ(refused.code(), static_cast<uint32_t>(grpc::StatusCode::UNAVAILABLE));
  EXPECT_EQ(refused.request_id(), 2u);
  context.TryCancel();
}

TEST_F(GrpcClientTest, GarbageOnThePortHarmsNobody) {
  const std::string& address = cluster_.addresses()[0];
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
  inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
  for (const std::string& garbage :
       {std::string(4096, '\xFF'), std::string("GET / HTTP/1.1\r\n\r\n"),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + std::string(1000, '\x00')}) {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    ASSERT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof(to)), 0);
    EXPECT_GT(send(fd, garbage.data(), garbage.size(), MSG_NOSIGNAL), 0);
    close(fd);
  }
  EXPECT_EQ(Ask(Request(1, {0})).rows(), SynthRowBytes(0));
}

TEST_F(GrpcClientTest, APortInUseIsNamed) {
  auto table = LoadTable({.checkpoint = cluster_.checkpoint(),
                          .sidecar = "",
                          .shard = {},
                          .expect_digest = std::nullopt,
                          .threads = 1,
                          .log = nullptr});
  ASSERT_THAT(table, IsOk());
  ServerOptions options;
  options.listen = cluster_.addresses()[0];
  EXPECT_THAT(Server::Start(std::make_shared<const Table>(*std::move(table)), options),
              StatusIs(absl::StatusCode::kUnavailable, options.listen));
}

}  // namespace
}  // namespace engram
