#include "proto/wire.h"

#include <gmock/gmock.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <gtest/gtest.h>

#include "engram/v1/engram.pb.h"
#include "proto/base/retry_after.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

absl::Status DecodeRequest(const std::string& bytes, uint64_t max_rows, StreamRequest& request) {
  google::protobuf::io::ArrayInputStream input(bytes.data(), static_cast<int>(bytes.size()),
                                               /*block_size=*/7);
  return DecodeStreamRequest(&input, max_rows, request);
}

// Of a message of `message_bytes` that begins with `bytes`.
absl::StatusOr<size_t> DecodeResponse(const std::string& bytes, size_t message_bytes,
                                      StreamResponse& response) {
  return DecodeResponseHeader(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(),
                              message_bytes, response);
}

absl::StatusOr<size_t> DecodeResponse(const std::string& bytes, StreamResponse& response) {
  return DecodeResponse(bytes, bytes.size(), response);
}

v1::GatherStreamRequest FullRequest() {
  v1::GatherStreamRequest message;
  message.set_request_id(uint64_t{1} << 40);
  message.set_kind(v1::STREAM_REQUEST_KIND_GATHER);
  message.set_digest(std::string(32, 'd'));
  message.set_layer(14);
  message.set_priority(v1::PRIORITY_PREFILL);
  message.set_budget_us(5000);
  message.set_flags(v1::REQUEST_FLAG_CHECKSUMS);
  for (const uint32_t row : {7u, 0u, 0xFFFFFFFFu}) message.add_rows(row);
  return message;
}

TEST(WireRequest, WhatProtobufWritesIsRead) {
  StreamRequest request;
  ASSERT_THAT(DecodeRequest(FullRequest().SerializeAsString(), 3, request), IsOk());
  EXPECT_EQ(request.request_id, uint64_t{1} << 40);
  EXPECT_EQ(request.kind, RequestKind::kGather);
  EXPECT_EQ(request.digest, std::string(32, 'd'));
  EXPECT_EQ(request.layer, 14u);
  EXPECT_EQ(request.priority, WirePriority::kPrefill);
  EXPECT_EQ(request.budget_us, 5000u);
  EXPECT_EQ(request.flags, kFlagChecksums);
  EXPECT_THAT(request.rows, ElementsAre(7, 0, 0xFFFFFFFF));
}

TEST(WireRequest, AReusedRequestKeepsNothing) {
  StreamRequest request;
  ASSERT_THAT(DecodeRequest(FullRequest().SerializeAsString(), 3, request), IsOk());
  v1::GatherStreamRequest wide;
  wide.add_wide_rows(~uint64_t{0});
  ASSERT_THAT(DecodeRequest(wide.SerializeAsString(), 3, request), IsOk());
  EXPECT_EQ(request.request_id, 0u);
  EXPECT_EQ(request.digest, "");
  EXPECT_EQ(request.flags, 0u);
  EXPECT_THAT(request.rows, IsEmpty());
  EXPECT_THAT(request.wide_rows, ElementsAre(~uint64_t{0}));
}

TEST(WireRequest, WhatIsWrittenByHandIsReadByProtobuf) {
  Sha256 digest;
  digest.fill('d');
  for (const bool wide : {false, true}) {
    uint8_t header[kMaxRequestHeader];
    const size_t size = EncodeRequestHeader(uint64_t{1} << 40, digest, 14, WirePriority::kPrefill,
                                            5000, kFlagChecksums, 3, wide, header);
    std::string bytes(reinterpret_cast<const char*>(header), size);
    const std::vector<uint32_t> rows = {7, 0, 0xFFFFFFFF};
    for (const uint32_t row : rows) {
      const uint64_t id = row;
      bytes.append(reinterpret_cast<const char*>(&id), wide ? 8 : 4);
    }
    v1::GatherStreamRequest message;
    ASSERT_TRUE(message.ParseFromString(bytes));
    v1::GatherStreamRequest expected = FullRequest();
    if (wide) {
      expected.clear_rows();
      for (const uint32_t row : rows) expected.add_wide_rows(row);
    }
    EXPECT_EQ(message.SerializeAsString(), expected.SerializeAsString());
  }
}

TEST(WireRequest, TheLongestHeaderFits) {
  uint8_t header[kMaxRequestHeader];
  EXPECT_LE(EncodeRequestHeader(~uint64_t{0}, Sha256{}, ~0u, WirePriority::kPrefill, ~uint64_t{0},
                                ~0u, 1 << 28, true, header),
            kMaxRequestHeader);
}

TEST(WireRequest, CancelIsOrdinaryProtobuf) {
  v1::GatherStreamRequest message;
  ASSERT_TRUE(message.ParseFromString(EncodeCancel(77)));
  EXPECT_EQ(message.request_id(), 77u);
  EXPECT_EQ(message.kind(), v1::STREAM_REQUEST_KIND_CANCEL);
}

TEST(WireRequest, UnpackedIdsAndUnknownFieldsAreProtobufToo) {
  std::string bytes = FullRequest().SerializeAsString();
  bytes += std::string("\x45\x09\x00\x00\x00", 5);  // field 8, fixed32, 9
  bytes += std::string(
      "\xA2\x06\x03"
      "abc",
      6);  // field 100, three bytes
  StreamRequest request;
  ASSERT_THAT(DecodeRequest(bytes, 4, request), IsOk());
  EXPECT_THAT(request.rows, ElementsAre(7, 0, 0xFFFFFFFF, 9));
}

TEST(WireRequest, TooManyIdsSayTheLimitAndTheRequest) {
  StreamRequest request;
  EXPECT_THAT(DecodeRequest(FullRequest().SerializeAsString(), 2, request),
              StatusIs(absl::StatusCode::kInvalidArgument, "more than 2 rows"));
  EXPECT_EQ(request.request_id, uint64_t{1} << 40);
}

TEST(WireRequest, ALengthThatAPeerMadeUpTakesNoMemory) {
  StreamRequest request;
  const std::string bytes("\x42\xFC\xFF\xFF\xFF\x0F", 6);  // field 8, almost 4 GiB of ids
  EXPECT_THAT(DecodeRequest(bytes, 65536, request),
              StatusIs(absl::StatusCode::kInvalidArgument, ""));
  EXPECT_LE(request.rows.capacity(), 65536u);
}

TEST(WireRequest, EveryCutIsRefusedOrAMessageOfFewerFields) {
  const std::string whole = FullRequest().SerializeAsString();
  for (size_t size = 0; size < whole.size(); ++size) {
    const std::string cut = whole.substr(0, size);
    StreamRequest request;
    v1::GatherStreamRequest message;
    EXPECT_EQ(DecodeRequest(cut, 3, request).ok(), message.ParseFromString(cut)) << size;
  }
}

TEST(WireRequest, GarbageIsRefused) {
  StreamRequest request;
  for (const std::string& bytes : {std::string("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 11),
                                   std::string("\x0F", 1), std::string("\x40\x01", 2),
                                   std::string("\x42\x03"
                                               "abc",
                                               5),
                                   std::string("\x0C", 1)}) {
    EXPECT_THAT(DecodeRequest(bytes, 3, request), StatusIs(absl::StatusCode::kInvalidArgument, ""));
  }
}

std::string AnswerHeader(uint64_t id, uint32_t piece, bool last,
                         const std::vector<uint32_t>& checksums, uint64_t rows_bytes) {
  std::string bytes(kMaxAnswerHeader + checksums.size() * sizeof(uint32_t), '\0');
  bytes.resize(EncodeAnswerHeader(id, piece, last, {}, checksums, rows_bytes,
                                  reinterpret_cast<uint8_t*>(bytes.data())));
  return bytes;
}

TEST(WireResponse, AnswerHeaderPlusRowsIsOrdinaryProtobuf) {
  const std::string bytes = AnswerHeader(77, 3, true, {1, 0xFFFFFFFF}, 8) + "rowsrows";
  v1::GatherStreamResponse message;
  ASSERT_TRUE(message.ParseFromString(bytes));
  EXPECT_EQ(message.request_id(), 77u);
  EXPECT_EQ(message.kind(), v1::STREAM_RESPONSE_KIND_ANSWER);
  EXPECT_EQ(message.piece(), 3u);
  EXPECT_TRUE(message.last());
  EXPECT_THAT(message.checksums(), ElementsAre(1, 0xFFFFFFFF));
  EXPECT_EQ(message.rows(), "rowsrows");

  StreamResponse response;
  const absl::StatusOr<size_t> header_bytes = DecodeResponse(bytes, response);
  ASSERT_THAT(header_bytes, IsOk());
  EXPECT_EQ(bytes.substr(*header_bytes), "rowsrows");
  EXPECT_EQ(response.rows_bytes, 8u);
  EXPECT_EQ(response.request_id, 77u);
  EXPECT_EQ(response.piece, 3u);
  EXPECT_TRUE(response.last);
  EXPECT_THAT(response.checksums, ElementsAre(1, 0xFFFFFFFF));
}

TEST(WireResponse, ErrorsFailuresAndNotices) {
  StreamResponse response;
  ASSERT_THAT(DecodeResponse(EncodeErrorAnswer(9, absl::NotFoundError("no layer 3")), response),
              IsOk());
  EXPECT_EQ(response.request_id, 9u);
  EXPECT_EQ(response.code, 5u);
  EXPECT_EQ(response.message, "no layer 3");
  EXPECT_EQ(response.retry_after_us, 0u);
  EXPECT_TRUE(response.last);

  const absl::Status refused =
      WithRetryAfter(absl::ResourceExhaustedError("no room"), absl::Nanoseconds(2'000'500));
  ASSERT_THAT(DecodeResponse(EncodeErrorAnswer(9, refused), response), IsOk());
  EXPECT_EQ(response.retry_after_us, 2001u);
  EXPECT_EQ(response.message, "no room");

  for (const ResponseKind kind : {ResponseKind::kDraining, ResponseKind::kChanged}) {
    ASSERT_THAT(DecodeResponse(EncodeNotice(kind), response), IsOk());
    EXPECT_EQ(response.kind, kind);
    EXPECT_EQ(response.request_id, 0u);
    EXPECT_EQ(response.message, "");
  }

  v1::GatherStreamResponse message;
  v1::RowFailure* failure = message.add_failures();
  failure->set_position(5);
  failure->set_code(15);
  ASSERT_THAT(DecodeResponse(message.SerializeAsString(), response), IsOk());
  EXPECT_THAT(response.failures, ElementsAre(Pair(5, 15)));
}

TEST(WireResponse, EveryCutIsRefusedOrAMessageOfFewerFields) {
  const std::string whole = AnswerHeader(77, 3, true, {1, 2}, 8) + "rowsrows";
  for (size_t size = 0; size < whole.size(); ++size) {
    const std::string cut = whole.substr(0, size);
    StreamResponse response;
    v1::GatherStreamResponse message;
    EXPECT_EQ(DecodeResponse(cut, response).ok(), message.ParseFromString(cut)) << size;
  }
}

TEST(WireResponse, AHeaderThatHasNotComeWholeAsksForMore) {
  const std::string header = AnswerHeader(77, 3, true, {1, 2}, 8);
  const size_t message_bytes = header.size() + 8;
  StreamResponse response;
  for (size_t size = 0; size < header.size(); ++size) {
    EXPECT_THAT(DecodeResponse(header.substr(0, size), message_bytes, response),
                IsOkAndHolds(size_t{0}))
        << size;
  }
  EXPECT_THAT(DecodeResponse(header, message_bytes, response), IsOkAndHolds(header.size()));
  EXPECT_EQ(response.rows_bytes, 8u);
}

TEST(WireResponse, RowsAreTheMessagesLastBytesOrRefused) {
  const std::string whole = AnswerHeader(77, 0, true, {}, 8) + "rowsrows";
  StreamResponse response;
  for (const std::string& bytes : {whole + whole, whole + std::string("\x28\x01", 2)}) {
    EXPECT_THAT(DecodeResponse(bytes, response),
                StatusIs(absl::StatusCode::kInvalidArgument, "not its last field"));
  }
}

}  // namespace
}  // namespace engram
