#include "tests/service/test_server.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <utility>

namespace engram {
namespace {

// A fixture that cannot be made is no test's result.
template <typename T>
T OrDie(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::cerr << value.status() << std::endl;
  std::abort();
}

}  // namespace

TestTable MakeTable(uint64_t floor, uint64_t held) {
  GeometryParams params;
  params.layer_ids = {kLayer, 14};
  params.max_ngram = 2;
  params.heads = 1;
  params.bucket_floors = {floor};
  params.compressed_vocab = 3;
  Geometry geometry = OrDie(Geometry::Derive(params));
  auto store = std::make_unique<FakeRowStore>(
      geometry, PackedFp8Layout(256), std::vector<RowRange>{{kLayer, 0, held}, {14, 0, held}});
  FakeRowStore* raw_store = store.get();
  Sha256 digest{};
  digest.fill(0xAB);
  auto table = std::make_shared<const Table>(Table{"test-model", std::move(geometry),
                                                   OrDie(TokenMap::Create({0, 1, 0, 2})),
                                                   Shard{0, 2}, digest, std::move(store)});
  return {std::move(table), raw_store};
}

ServerOptions TestOptions() {
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  options.threads = 1;
  return options;
}

TestServer::TestServer(ServerOptions options, TestTable table)
    : table_(std::move(table)),
      server_(OrDie(Server::Start(table_.table, options))),
      stub_(v1::EngramService::NewStub(
          grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials()))) {}

TestServer::~TestServer() { store().Open(); }

v1::GatherStreamRequest TestServer::Request(uint64_t id, uint32_t rows,
                                            v1::Priority priority) const {
  v1::GatherStreamRequest request;
  request.set_request_id(id);
  request.set_kind(v1::STREAM_REQUEST_KIND_GATHER);
  request.set_digest(table().digest.data(), table().digest.size());
  request.set_layer(kLayer);
  request.set_priority(priority);
  for (uint32_t row = 0; row < rows; ++row) request.add_rows(row);
  return request;
}

std::unique_ptr<grpc::ClientContext> TestContext() {
  auto context = std::make_unique<grpc::ClientContext>();
  context->set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  return context;
}

TestStream::TestStream(v1::EngramService::Stub& stub)
    : context_(TestContext()), stream_(stub.GatherStream(context_.get())) {}

TestStream::~TestStream() { context_->TryCancel(); }

void TestStream::Cancel(uint64_t id) {
  v1::GatherStreamRequest cancel;
  cancel.set_request_id(id);
  cancel.set_kind(v1::STREAM_REQUEST_KIND_CANCEL);
  EXPECT_TRUE(Send(cancel));
}

v1::GatherStreamResponse TestStream::Receive() {
  v1::GatherStreamResponse response;
  if (!stream_->Read(&response)) {
    ADD_FAILURE() << "the stream has ended";
    response.set_last(true);
    response.set_code(static_cast<uint32_t>(absl::StatusCode::kUnknown));
  }
  return response;
}

Answer TestStream::ReceiveAnswer(uint64_t id) {
  Answer answer;
  bool last = false;
  while (!last && !testing::Test::HasFailure()) {
    const v1::GatherStreamResponse response = Receive();
    EXPECT_EQ(response.request_id(), id) << response.message();
    Add(response, answer);
    last = response.last();
  }
  return answer;
}

bool TestStream::AtEnd() {
  v1::GatherStreamResponse response;
  return !stream_->Read(&response);
}

void TestStream::Add(const v1::GatherStreamResponse& response, Answer& answer) {
  EXPECT_EQ(response.kind(), v1::STREAM_RESPONSE_KIND_ANSWER);
  if (response.code() == 0) {
    EXPECT_EQ(response.piece(), answer.pieces);
  }
  EXPECT_LE(response.rows().size(), size_t{256} << 10);
  ++answer.pieces;
  answer.code = response.code();
  answer.message = response.message();
  answer.retry_after_us = response.retry_after_us();
  answer.rows += response.rows();
  answer.checksums.insert(answer.checksums.end(), response.checksums().begin(),
                          response.checksums().end());
}

std::string ExpectedRows(const std::vector<uint64_t>& rows) {
  std::string bytes;
  for (const uint64_t row : rows) bytes += FakeRowStore::RowBytes(kLayer, row, kRowBytes);
  return bytes;
}

std::string FirstRows(uint32_t count) {
  std::vector<uint64_t> rows(count);
  for (uint32_t row = 0; row < count; ++row) rows[row] = row;
  return ExpectedRows(rows);
}

}  // namespace engram
