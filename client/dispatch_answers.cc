// Answers as they come: whether they are what was asked for, and whose rows are written.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "client/dispatch.h"
#include "proto/base/retry_after.h"
#include "proto/base/status_macros.h"
#include "proto/crc32c.h"

namespace engram {
namespace {

// A server's hint is of no use beyond that.
constexpr uint64_t kMaxRetryAfterUs = 3'600'000'000;

}  // namespace

// Null: it has been ended meanwhile, or never was.
Attempt* Dispatch::Receiving(Lane& lane) {
  const auto it = lane.in_flight.find(lane.receiving);
  return it == lane.in_flight.end() ? nullptr : it->second.get();
}

absl::Status Dispatch::OnAnswer(Lane& lane, const StreamResponse& header) {
  lane.receiving = header.request_id;
  lane.receiving_last = header.last;
  if (header.kind != ResponseKind::kAnswer) return absl::OkStatus();  // A notice.
  Attempt* const attempt = Receiving(lane);
  if (attempt == nullptr) {
    return absl::InternalError(absl::StrCat("answer to unknown request ", header.request_id));
  }
  const LookupLayer& layer = attempt->part->layer;
  if (header.code != 0) {
    attempt->failure = absl::Status(
        static_cast<absl::StatusCode>(header.code),
        absl::StrCat("layer ", layer.layer, ": server ", lane.link->label(), ": ", header.message));
    if (header.retry_after_us != 0) {
      attempt->failure = WithRetryAfter(
          attempt->failure, absl::Microseconds(std::min(header.retry_after_us, kMaxRetryAfterUs)));
    }
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(CheckPiece(*attempt, header));
  if (header.failures.empty()) return absl::OkStatus();
  return NoteLost(lane, *attempt, header);
}

// Positions count the part's rows; those of a piece lie within it.
absl::Status Dispatch::NoteLost(const Lane& lane, Attempt& attempt, const StreamResponse& header) {
  const uint32_t row_bytes = servers_.table()->layout.row_bytes();
  const size_t begin = attempt.part->rows() - attempt.scatter.bytes_left() / row_bytes;
  const size_t end = begin + header.rows_bytes / row_bytes;
  size_t least = begin;
  for (const auto& [position, code] : header.failures) {
    if (position < least || position >= end || code == 0) {
      return absl::InternalError(absl::StrCat("row ", position, " with code ", code,
                                              " among the failed ones of rows ", begin, " to ",
                                              end));
    }
    least = position + 1;
    attempt.lost.push_back(position);
  }
  if (!attempt.lost_why.ok()) return absl::OkStatus();
  const auto& [position, code] = header.failures.front();
  const LookupLayer& layer = attempt.part->layer;
  const size_t at = attempt.part->begin + position;
  attempt.lost_why = absl::Status(
      static_cast<absl::StatusCode>(code),
      absl::StrCat(
          "layer ", layer.layer, ": server ", lane.link->label(), " could not read row ",
          layer.plan == nullptr ? static_cast<uint64_t>(layer.ids[at]) : layer.plan->rows[at]));
  return absl::OkStatus();
}

absl::Status Dispatch::CheckPiece(Attempt& attempt, const StreamResponse& header) const {
  const uint64_t left = attempt.scatter.bytes_left();
  const uint32_t row_bytes = servers_.table()->layout.row_bytes();
  if (header.piece != attempt.next_piece || header.rows_bytes % row_bytes != 0) {
    return absl::InternalError(absl::StrCat("piece ", header.piece, " of ", header.rows_bytes,
                                            " bytes, expected piece ", attempt.next_piece));
  }
  if (header.rows_bytes > left) return absl::InternalError("more rows than were asked for");
  if (header.last && header.rows_bytes != left) {
    return absl::InternalError(
        absl::StrCat("the last piece leaves ", left - header.rows_bytes, " bytes missing"));
  }
  if (attempt.checked && header.checksums.size() != header.rows_bytes / row_bytes) {
    return absl::InternalError(absl::StrCat(header.checksums.size(), " checksums for ",
                                            header.rows_bytes / row_bytes, " rows"));
  }
  attempt.checksums = header.checksums;
  ++attempt.next_piece;
  return absl::OkStatus();
}

absl::Status Dispatch::OnRows(Lane& lane, std::span<const uint8_t> bytes) {
  Attempt* const attempt = Receiving(lane);
  if (attempt == nullptr) return absl::InternalError("rows without a request");
  // Of a layer that has been finished, the buffer is the caller's again.
  const bool wanted = attempt->failure.ok() && attempt->part->wanted() && MayWrite(*attempt);
  const bool fits = wanted ? attempt->scatter.Append(bytes.data(), bytes.size())
                           : attempt->scatter.Skip(bytes.size());
  if (!fits) return absl::InternalError("more rows than were asked for");
  lane.bytes_in_flight -= bytes.size();
  StatsCounters::Add(stats_.row_bytes, bytes.size());
  return absl::OkStatus();
}

// Rows of two attempts must not be mixed: one of them may be damaged, or lack some, which is known
// only when its piece has come. Whoever begins last writes, but for a trial, on which nobody
// counts.
bool Dispatch::MayWrite(Attempt& attempt) {
  Part& part = *attempt.part;
  if (attempt.overtaken || part.writer == &attempt) return !attempt.overtaken;
  if (part.writer != nullptr && attempt.kind == Attempt::Kind::kTrial) {
    attempt.overtaken = true;
    return false;
  }
  if (part.writer != nullptr) {
    part.writer->overtaken = true;
    // It may be asked again, should this one fail.
    part.tried.erase(std::remove(part.tried.begin(), part.tried.end(), part.writer->server),
                     part.tried.end());
  }
  part.writer = &attempt;
  return true;
}

absl::Status Dispatch::OnAnswerEnd(Lane& lane) {
  Attempt* const receiving = Receiving(lane);
  if (receiving == nullptr) return absl::OkStatus();
  if (receiving->checked && receiving->failure.ok() && !receiving->overtaken &&
      receiving->part->wanted()) {
    const uint32_t row_bytes = servers_.table()->layout.row_bytes();
    VerifyPiece(lane, *receiving,
                receiving->part->rows() - receiving->scatter.bytes_left() / row_bytes);
  }
  if (lane.receiving_last) {
    const auto node = lane.in_flight.extract(lane.receiving);
    Attempt& attempt = *node.mapped();
    lane.bytes_in_flight -= attempt.scatter.bytes_left();
    const size_t server = servers_.ServerOf(lane);
    EndAttempt(server, attempt, attempt.failure);
    servers_.answered_at(server) = ended_at_;
    SendWaiting(lane);
  }
  listener_->OnAnswered();
  return absl::OkStatus();
}

void Dispatch::VerifyPiece(const Lane& lane, Attempt& attempt, size_t end_row) {
  const uint32_t row_bytes = servers_.table()->layout.row_bytes();
  row_.resize(row_bytes);
  const size_t begin_row = end_row - attempt.checksums.size();
  StatsCounters::Add(stats_.verified_rows, attempt.checksums.size());
  for (size_t i = 0; i < attempt.checksums.size(); ++i) {
    attempt.scatter.ReadBack(begin_row + i, row_.data());
    if (Crc32c(row_.data(), row_bytes) == attempt.checksums[i]) continue;
    StatsCounters::Add(stats_.checksum_failures, 1);
    attempt.failure = absl::DataLossError(absl::StrCat("layer ", attempt.part->layer.layer,
                                                       ": a row from server ", lane.link->label(),
                                                       " differs from its checksum"));
    if (options_.log) options_.log(attempt.failure.message());
    return;
  }
}

}  // namespace engram
