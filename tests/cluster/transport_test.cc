// The client's transport against servers that stop in the middle, are no servers, or share its
// host.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <thread>

#include "absl/time/clock.h"
#include "client/client.h"
#include "tests/cluster/lookup_helpers.h"
#include "tests/cluster/test_cluster.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

using Code = absl::StatusCode;

TEST(TransportTest, AServerOnAUnixSocket) {
  TestCluster cluster(1);
  const TempDir folder;
  cluster.Start(0, "unix:" + folder.File("socket"));
  ASSERT_OK_AND_ASSIGN(const auto client, Client::Connect({.servers = cluster.addresses()}));
  const std::vector<int64_t> ids = RandomIds(*client, 0, 5000);
  std::vector<uint8_t> out;
  ASSERT_THAT(LookUp(*client, 1, ids, out), IsOk());
  ExpectRows(1, ids, out);
}

// Megabytes are under way whenever the server ends; every row of what comes well is right, and
// nothing writes to a buffer that was given back.
TEST(TransportTest, ServersThatStopWhileLargeAnswersTravel) {
  TestCluster cluster(1);
  ASSERT_OK_AND_ASSIGN(const auto client, Client::Connect({.servers = cluster.addresses()}));
  for (int round = 0; round < 5; ++round) {
    const std::vector<int64_t> ids = RandomIds(*client, 0, 60'000);
    std::vector<std::vector<uint8_t>> outs(4, std::vector<uint8_t>(ids.size() * kSynthRowBytes));
    std::vector<Ticket> tickets;
    for (std::vector<uint8_t>& out : outs) {
      ASSERT_OK_AND_ASSIGN(tickets.emplace_back(), client->SubmitRows({{1, ids, out}}, {}));
    }
    cluster.Kill(0);
    for (size_t i = 0; i < tickets.size(); ++i) {
      const absl::Status status = tickets[i].WaitAll();
      if (status.ok()) {
        ExpectRows(1, ids, outs[i]);
      } else {
        EXPECT_THAT(status, StatusIs(Code::kUnavailable, ""));
      }
    }
    tickets.clear();
    outs.clear();
    cluster.Start(0);
    const absl::Time deadline = absl::Now() + absl::Seconds(10);
    while (!client->MissingRanges().empty()) {
      ASSERT_LT(absl::Now(), deadline);
      std::this_thread::yield();
    }
  }
}

// Answers the first connection with `bytes`, then closes it, and so on.
class SpeakingServer {
 public:
  explicit SpeakingServer(std::string bytes) : bytes_(std::move(bytes)) {
    listener_ = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* const raw = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(bind(listener_, raw, size), 0);
    EXPECT_EQ(listen(listener_, 8), 0);
    EXPECT_EQ(getsockname(listener_, raw, &size), 0);
    address_ = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
    thread_ = std::thread([this] { Run(); });
  }
  ~SpeakingServer() {
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    close(listener_);
  }
  const std::string& address() const { return address_; }

 private:
  void Run() {
    while (true) {
      const int fd = accept(listener_, nullptr, nullptr);
      if (fd < 0) return;
      static_cast<void>(send(fd, bytes_.data(), bytes_.size(), MSG_NOSIGNAL));
      shutdown(fd, SHUT_WR);
      char dropped[4096];
      while (recv(fd, dropped, sizeof(dropped), 0) > 0) {
      }
      close(fd);
    }
  }

  const std::string bytes_;
  std::string address_;
  int listener_ = -1;
  std::thread thread_;
};

TEST(TransportTest, WhatIsNoServerIsNamedAndHarmsNothing) {
  const std::string settings("\x00\x00\x00\x04\x00\x00\x00\x00\x00", 9);
  // No HTTP/2; HTTP/1; nothing; settings, then a frame that is longer than allowed; then a goaway.
  const std::string too_long = settings + std::string("\xFF\xFF\xFF\x00\x00\x00\x00\x00\x01", 9);
  const std::string goaway =
      settings +
      std::string("\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02", 17);
  for (const std::string& bytes :
       {std::string(100, 'x'), std::string("HTTP/1.1 400 Bad Request\r\n\r\n"), std::string(),
        too_long, goaway}) {
    const SpeakingServer server(bytes);
    const auto client = Client::Connect(
        {.servers = {server.address()}, .connect_timeout = absl::Milliseconds(300)});
    EXPECT_FALSE(client.ok());
    EXPECT_THAT(client, StatusIs(client.status().code(), server.address()));
  }
}

TEST(TransportTest, OneThatIsNoServerDoesNotKeepTheOthersFromServing) {
  const SpeakingServer other(std::string(100, 'x'));
  TestCluster cluster(1);
  ASSERT_OK_AND_ASSIGN(const auto client,
                       Client::Connect({.servers = {other.address(), cluster.addresses()[0]}}));
  const std::vector<int64_t> ids = RandomIds(*client, 0, 500);
  std::vector<uint8_t> out;
  ASSERT_THAT(LookUp(*client, 1, ids, out), IsOk());
  ExpectRows(1, ids, out);
}

}  // namespace
}  // namespace engram
