// A real server in this process over a fake store, and a plain protobuf client of its stream.
#ifndef ENGRAM_TESTS_SERVICE_TEST_SERVER_H_
#define ENGRAM_TESTS_SERVICE_TEST_SERVER_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <vector>

#include "engram/v1/engram.grpc.pb.h"
#include "service/server.h"
#include "tests/support/fake_row_store.h"

namespace engram {

inline constexpr uint32_t kLayer = 1;
inline constexpr uint32_t kRowBytes = 264;
inline constexpr uint32_t kHeldRows =
    90000;  // of each layer's 100,003 or so: the rest is elsewhere
// More rows than a stream takes in while its client does not read: the answer stays unfinished.
inline constexpr uint32_t kManyRows = 40000;

struct TestTable {
  std::shared_ptr<const Table> table;
  FakeRowStore* store;  // the table's
};

// Layers 1 and 14 with a token map; `floor` rows and a few in each layer, `held` of them served.
TestTable MakeTable(uint64_t floor = 100000, uint64_t held = kHeldRows);

// One thread on a port that the system picks, unless `options` says otherwise.
ServerOptions TestOptions();

// A server over MakeTable, and a client channel to it. Threads: any.
class TestServer {
 public:
  explicit TestServer(ServerOptions options = TestOptions(), TestTable table = MakeTable());
  // Lets blocked gathers go.
  ~TestServer();

  Server& server() { return *server_; }
  FakeRowStore& store() { return *table_.store; }
  const Table& table() const { return *table_.table; }
  v1::EngramService::Stub& stub() { return *stub_; }

  // A gather of rows 0, 1, 2 ... of kLayer that the server would serve.
  v1::GatherStreamRequest Request(uint64_t id, uint32_t rows,
                                  v1::Priority priority = v1::PRIORITY_DECODE) const;

 private:
  TestTable table_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<v1::EngramService::Stub> stub_;
};

// A client context whose call fails after 30 seconds instead of hanging a test.
std::unique_ptr<grpc::ClientContext> TestContext();

// What became of one request.
struct Answer {
  uint32_t code = 0;
  std::string message;
  uint64_t retry_after_us = 0;
  std::string rows;
  std::vector<uint32_t> checksums;
  uint32_t pieces = 0;
};

// One GatherStream call. Every method fails the test when the stream breaks before it is done.
class TestStream {
 public:
  explicit TestStream(v1::EngramService::Stub& stub);
  ~TestStream();

  bool Send(const v1::GatherStreamRequest& request) { return stream_->Write(request); }
  void Cancel(uint64_t id);
  v1::GatherStreamResponse Receive();
  // Receives until the last piece of `id`; whatever belongs to others is an error.
  Answer ReceiveAnswer(uint64_t id);
  void WritesDone() { stream_->WritesDone(); }
  // True when the server has ended the call.
  bool AtEnd();
  grpc::Status Finish() { return stream_->Finish(); }
  void Break() { context_->TryCancel(); }

  // Adds a piece to an answer, checking its number.
  static void Add(const v1::GatherStreamResponse& response, Answer& answer);

 private:
  std::unique_ptr<grpc::ClientContext> context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::GatherStreamRequest, v1::GatherStreamResponse>>
      stream_;
};

// What a gather of these rows of kLayer must give.
std::string ExpectedRows(const std::vector<uint64_t>& rows);
std::string FirstRows(uint32_t count);  // of 0, 1, 2 ...

}  // namespace engram

#endif  // ENGRAM_TESTS_SERVICE_TEST_SERVER_H_
