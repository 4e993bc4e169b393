#include "service/server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <thread>

#include "absl/strings/numbers.h"
#include "tests/service/test_server.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

void ExpectServing(TestServer& server) {
  TestStream stream(server.stub());
  stream.Send(server.Request(1, 3));
  EXPECT_EQ(stream.ReceiveAnswer(1).rows, FirstRows(3));
}

// Connects to "127.0.0.1:PORT", sends, and waits until the server hangs up or has had its say.
void SendBytes(const std::string& address, const std::string& bytes) {
  uint32_t port = 0;
  ASSERT_TRUE(absl::SimpleAtoi(address.substr(address.rfind(':') + 1), &port));
  sockaddr_in peer{};
  peer.sin_family = AF_INET;
  peer.sin_port = htons(static_cast<uint16_t>(port));
  peer.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(connect(fd, reinterpret_cast<const sockaddr*>(&peer), sizeof(peer)), 0);
  EXPECT_EQ(send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
  shutdown(fd, SHUT_WR);
  char sink[256];
  while (read(fd, sink, sizeof(sink)) > 0) {
  }
  close(fd);
}

TEST(Server, GarbageOnThePortLeavesItServing) {
  TestServer server;
  SendBytes(server.server().address(), std::string(100000, '\xFF'));
  SendBytes(server.server().address(), "GET / HTTP/1.1\r\n\r\n");
  SendBytes(server.server().address(),
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + std::string(5000, '\x7F'));
  SendBytes(server.server().address(), "");
  ExpectServing(server);
}

TEST(Server, APortInUseIsNamed) {
  TestServer first;
  ServerOptions options = TestOptions();
  options.listen = first.server().address();
  EXPECT_THAT(Server::Start(MakeTable().table, options),
              StatusIs(absl::StatusCode::kUnavailable, options.listen));
  ExpectServing(first);
}

TEST(Server, AHealthPortInUseIsNamed) {
  TestServer first;
  ServerOptions options = TestOptions();
  options.health = first.server().address();
  EXPECT_THAT(Server::Start(MakeTable().table, options),
              StatusIs(absl::StatusCode::kUnavailable, options.health));
  ExpectServing(first);
}

TEST(Server, AMalformedAddressIsNamed) {
  ServerOptions options = TestOptions();
  options.listen = "not an address:x";
  options.security.insecure = true;  // it might be anybody's
  EXPECT_THAT(Server::Start(MakeTable().table, options),
              StatusIs(absl::StatusCode::kUnavailable, options.listen));
}

TEST(Server, WrongOptionsAreRefused) {
  ServerOptions options = TestOptions();
  options.max_requests_in_flight = 0;
  EXPECT_THAT(Server::Start(MakeTable().table, options),
              StatusIs(absl::StatusCode::kInvalidArgument, "`max_requests_in_flight`"));
}

TEST(Server, ListensOnAUnixSocket) {
  std::string folder = testing::TempDir() + "engramXXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  {
    ServerOptions options = TestOptions();
    options.listen = "unix:" + folder + "/socket";
    TestServer server(options);
    EXPECT_EQ(server.server().address(), options.listen);
    ExpectServing(server);
  }
  unlink((folder + "/socket").c_str());
  rmdir(folder.c_str());
}

TEST(Server, ServesWhileItSpins) {
  ServerOptions options = TestOptions();
  options.spin = absl::Microseconds(200);
  options.threads = 3;
  TestServer server(options);
  for (int i = 0; i < 5; ++i) ExpectServing(server);
}

TEST(Server, ManyStreamsOnSeveralThreads) {
  ServerOptions options = TestOptions();
  options.threads = 2;
  TestServer server(options);
  std::vector<std::thread> clients;
  for (int i = 0; i < 8; ++i) {
    clients.emplace_back([&server] {
      TestStream stream(server.stub());
      for (uint64_t id = 1; id <= 20; ++id) {
        stream.Send(server.Request(id, 2000));
        EXPECT_EQ(stream.ReceiveAnswer(id).rows.size(), 2000u * kRowBytes);
      }
    });
  }
  for (std::thread& client : clients) client.join();
}

// The grace is over while a thread is still in the middle of a gather: what it starts afterwards
// must find its queue open.
TEST(Server, StopsWhileAGatherIsStuck) {
  TestServer server;
  TestStream stream(server.stub());
  server.store().Close();
  stream.Send(server.Request(1, 3000));
  ASSERT_TRUE(server.store().WaitUntilBlocked());
  std::thread stop([&] { server.server().Stop(absl::ZeroDuration(), absl::ZeroDuration()); });
  EXPECT_FALSE(stream.Finish().ok());       // Cut off by the server.
  absl::SleepFor(absl::Milliseconds(100));  // Time for Stop to get as far as it can.
  server.store().Open();
  stop.join();
}

TEST(Server, StopsUnderLoad) {
  for (int round = 0; round < 10; ++round) {
    ServerOptions options = TestOptions();
    options.threads = 2;
    TestServer server(options);
    std::vector<std::thread> clients;
    for (int i = 0; i < 4; ++i) {
      clients.emplace_back([&server] {
        auto context = TestContext();
        auto stream = server.stub().GatherStream(context.get());
        v1::GatherStreamResponse response;
        for (uint64_t id = 1; stream->Write(server.Request(id, 1500)); ++id) {
          if (!stream->Read(&response)) break;
        }
        context->TryCancel();
        EXPECT_FALSE(stream->Finish().ok());
      });
    }
    EXPECT_TRUE(server.store().WaitForChecks(20));
    std::thread drain([&] { server.server().BeginDrain(); });
    server.server().Stop(absl::ZeroDuration(), absl::Milliseconds(round));
    drain.join();
    for (std::thread& client : clients) client.join();
  }
}

}  // namespace
}  // namespace engram
