#include "client/answer_reader.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "proto/grpc_framing.h"

namespace engram {
namespace {

// Of one message. A server's pieces are far below it.
constexpr uint64_t kMaxMessageBytes = 64 << 20;
// Of all but the rows: an error's text, or the checksums of a piece.
constexpr size_t kMaxHeaderBytes = 1 << 20;

std::span<const uint8_t> Take(std::span<const uint8_t>& bytes, size_t count) {
  const std::span<const uint8_t> taken = bytes.first(count);
  bytes = bytes.subspan(count);
  return taken;
}

}  // namespace

void AnswerReader::Reset() {
  state_ = State::kPrefix;
  partial_.clear();
}

absl::Status AnswerReader::Feed(std::span<const uint8_t> bytes) {
  // An empty message is whole with its prefix: its header takes no bytes.
  while (!bytes.empty() || (state_ == State::kHeader && message_bytes_ == 0)) {
    switch (state_) {
      case State::kPrefix:
        RETURN_IF_ERROR(ReadPrefix(bytes));
        break;
      case State::kHeader:
        RETURN_IF_ERROR(ReadHeader(bytes));
        break;
      case State::kRows:
        RETURN_IF_ERROR(ReadRows(bytes));
        break;
    }
  }
  return absl::OkStatus();
}

absl::Status AnswerReader::ReadPrefix(std::span<const uint8_t>& bytes) {
  const std::span<const uint8_t> more =
      Take(bytes, std::min(bytes.size(), kGrpcPrefixBytes - partial_.size()));
  partial_.insert(partial_.end(), more.begin(), more.end());
  if (partial_.size() < kGrpcPrefixBytes) return absl::OkStatus();
  ASSIGN_OR_RETURN(message_bytes_, ReadGrpcPrefix(partial_.data()));
  if (message_bytes_ > kMaxMessageBytes) {
    return absl::InvalidArgumentError(absl::StrCat("a message of ", message_bytes_, " bytes"));
  }
  partial_.clear();
  state_ = State::kHeader;
  return absl::OkStatus();
}

absl::Status AnswerReader::ReadHeader(std::span<const uint8_t>& bytes) {
  // Nearly always all of it lies in what has come, and nothing is copied.
  const size_t held = partial_.size();
  const size_t of_message = std::min<uint64_t>(bytes.size(), message_bytes_ - held);
  if (held != 0) {
    partial_.insert(partial_.end(), bytes.begin(),
                    bytes.begin() + static_cast<ptrdiff_t>(of_message));
  }
  const uint8_t* const data = held != 0 ? partial_.data() : bytes.data();
  ASSIGN_OR_RETURN(const size_t header_bytes,
                   DecodeResponseHeader(data, held + of_message, message_bytes_, header_));
  if (header_bytes == 0 && message_bytes_ != 0) {
    if (held == 0) partial_.assign(bytes.begin(), bytes.end());
    bytes = {};
    if (partial_.size() <= kMaxHeaderBytes) return absl::OkStatus();
    return absl::InvalidArgumentError("an answer's header has no end");
  }
  Take(bytes, header_bytes - std::min(header_bytes, held));
  // What had been kept beyond the header: never, since it was tried when it came.
  partial_.clear();
  rows_left_ = header_.rows_bytes;
  RETURN_IF_ERROR(sink_->OnAnswer(header_));
  state_ = State::kRows;
  if (rows_left_ != 0) return absl::OkStatus();
  state_ = State::kPrefix;
  return sink_->OnAnswerEnd();
}

absl::Status AnswerReader::ReadRows(std::span<const uint8_t>& bytes) {
  const std::span<const uint8_t> rows = Take(bytes, std::min<uint64_t>(bytes.size(), rows_left_));
  rows_left_ -= rows.size();
  RETURN_IF_ERROR(sink_->OnRows(rows));
  if (rows_left_ != 0) return absl::OkStatus();
  state_ = State::kPrefix;
  return sink_->OnAnswerEnd();
}

}  // namespace engram
