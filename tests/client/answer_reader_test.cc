#include "client/answer_reader.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "proto/grpc_framing.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

// Writes down what it is told; rows that come in several chunks become one entry.
class Record final : public AnswerReader::Sink {
 public:
  absl::Status OnAnswer(const StreamResponse& header) override {
    events.push_back("answer " + std::to_string(header.request_id) + " rows ");
    return refuse ? absl::InternalError("refused") : absl::OkStatus();
  }
  absl::Status OnRows(std::span<const uint8_t> bytes) override {
    events.back().append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return absl::OkStatus();
  }
  absl::Status OnAnswerEnd() override {
    events.back() += " end";
    return absl::OkStatus();
  }

  std::vector<std::string> events;
  bool refuse = false;
};

std::string Framed(const std::string& message) {
  std::string framed(kGrpcPrefixBytes, '\0');
  WriteGrpcPrefix(static_cast<uint32_t>(message.size()), reinterpret_cast<uint8_t*>(framed.data()));
  return framed + message;
}

std::string Answer(uint64_t id, const std::string& rows, const std::vector<uint32_t>& checksums) {
  std::string header(kMaxAnswerHeader + checksums.size() * sizeof(uint32_t), '\0');
  header.resize(EncodeAnswerHeader(id, 0, true, {}, checksums, rows.size(),
                                   reinterpret_cast<uint8_t*>(header.data())));
  return Framed(header + rows);
}

absl::Status Feed(AnswerReader& reader, const std::string& bytes) {
  // A block of its own, so that a read beyond it is seen by AddressSanitizer.
  const std::vector<uint8_t> copy(bytes.begin(), bytes.end());
  return reader.Feed(copy);
}

// Answers with and without rows and checksums, an error and an empty message.
std::string Stream() {
  return Answer(1, "rows of one", {}) + Answer(2, "", {}) + Framed("") +
         Framed(EncodeErrorAnswer(3, absl::NotFoundError("no such layer"))) +
         Answer(4, "rows of four", {1, 2, 3}) + Framed(EncodeNotice(ResponseKind::kDraining));
}

const std::vector<std::string>& StreamEvents() {
  static const auto* events = new std::vector<std::string>{"answer 1 rows rows of one end",
                                                           "answer 2 rows  end",
                                                           "answer 0 rows  end",
                                                           "answer 3 rows  end",
                                                           "answer 4 rows rows of four end",
                                                           "answer 0 rows  end"};
  return *events;
}

TEST(AnswerReader, EveryCutIntoTwoGivesTheSame) {
  const std::string stream = Stream();
  for (size_t cut = 0; cut <= stream.size(); ++cut) {
    Record record;
    AnswerReader reader(&record);
    ASSERT_THAT(Feed(reader, stream.substr(0, cut)), IsOk());
    ASSERT_THAT(Feed(reader, stream.substr(cut)), IsOk());
    ASSERT_EQ(record.events, StreamEvents()) << "cut at " << cut;
  }
}

TEST(AnswerReader, ByteByByteGivesTheSame) {
  Record record;
  AnswerReader reader(&record);
  for (const char byte : Stream()) ASSERT_THAT(Feed(reader, std::string(1, byte)), IsOk());
  EXPECT_EQ(record.events, StreamEvents());
}

TEST(AnswerReader, RowsAreHandedOnBeforeTheMessageIsWhole) {
  Record record;
  AnswerReader reader(&record);
  const std::string answer = Answer(1, "0123456789", {});
  ASSERT_THAT(Feed(reader, answer.substr(0, answer.size() - 4)), IsOk());
  EXPECT_EQ(record.events, std::vector<std::string>{"answer 1 rows 012345"});
}

TEST(AnswerReader, RefusesWhatIsNoAnswer) {
  Record record;
  AnswerReader reader(&record);
  EXPECT_THAT(Feed(reader, Framed("\xFF\xFF\xFF")),
              StatusIs(absl::StatusCode::kInvalidArgument, "GatherStreamResponse"));
}

TEST(AnswerReader, RefusesCompressedAndHugeMessages) {
  Record record;
  AnswerReader compressed(&record);
  EXPECT_THAT(Feed(compressed, std::string("\x01\x00\x00\x00\x01", 5)),
              StatusIs(absl::StatusCode::kInvalidArgument, "compressed"));
  AnswerReader huge(&record);
  EXPECT_THAT(Feed(huge, std::string("\x00\x7F\x00\x00\x00", 5)),
              StatusIs(absl::StatusCode::kInvalidArgument, "a message of 2130706432 bytes"));
}

TEST(AnswerReader, AHeaderWithoutEndTakesBoundedMemory) {
  Record record;
  AnswerReader reader(&record);
  // A message of 8 MiB that is one unknown field of 4 MiB, then more: its rows never begin.
  std::string prefix(kGrpcPrefixBytes, '\0');
  WriteGrpcPrefix(8 << 20, reinterpret_cast<uint8_t*>(prefix.data()));
  ASSERT_THAT(Feed(reader, prefix + std::string("\xA2\x06\x80\x80\x80\x02", 6)), IsOk());
  absl::Status status;
  for (int i = 0; i < 8 && status.ok(); ++i) status = Feed(reader, std::string(256 << 10, 'x'));
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, "has no end"));
}

TEST(AnswerReader, ASinkThatRefusesStopsIt) {
  Record record;
  record.refuse = true;
  AnswerReader reader(&record);
  EXPECT_THAT(Feed(reader, Stream()), StatusIs(absl::StatusCode::kInternal, "refused"));
  EXPECT_EQ(record.events.size(), 1u);
}

TEST(AnswerReader, ResetBeginsANewCall) {
  Record record;
  AnswerReader reader(&record);
  ASSERT_THAT(Feed(reader, Answer(1, "rows", {}).substr(0, 7)), IsOk());
  reader.Reset();
  ASSERT_THAT(Feed(reader, Answer(2, "rows", {})), IsOk());
  EXPECT_EQ(record.events.back(), "answer 2 rows rows end");
}

}  // namespace
}  // namespace engram
