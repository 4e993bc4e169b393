#include "storage/arena_header.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engram/storage/v1/arena.pb.h"
#include "proto/base/bytes.h"
#include "proto/base/status_macros.h"
#include "storage/file_frame.h"

namespace engram {
namespace {

constexpr FileFormat kFormat = {"ENGRARNA", 1, "an arena file"};
constexpr uint64_t kPage = 4096;
constexpr uint64_t kMaxArenaBytes = uint64_t{1} << 46;

// Unsigned sums of foreign numbers must not wrap: a range's end is at least its begin, and what all
// take is below 2^46.
absl::Status CheckPlaces(const ArenaHeader& header, uint64_t header_bytes) {
  const ArenaContents& contents = header.contents;
  uint64_t rows = 0;
  for (const RowRange& range : contents.ranges) {
    if (range.begin > range.end || range.rows() > kMaxArenaBytes) {
      return absl::DataLossError("its ranges are none");
    }
    rows += range.rows();
    if (contents.row_bytes == 0 ||
        rows > kMaxArenaBytes / (contents.row_bytes + sizeof(uint32_t))) {
      return absl::DataLossError("it has more rows than there can be");
    }
  }
  const bool sound = header.rows_offset >= header_bytes && header.rows_offset % kPage == 0 &&
                     header.rows_offset <= kMaxArenaBytes && header.checksums_offset % kPage == 0 &&
                     header.checksums_offset <= 2 * kMaxArenaBytes &&
                     header.checksums_offset >= header.rows_offset + rows * contents.row_bytes;
  return sound ? absl::OkStatus() : absl::DataLossError("its places overlap");
}

absl::StatusOr<ArenaHeader> FromMessage(const storage::v1::ArenaHeader& message) {
  ArenaHeader header;
  if (message.state() < storage::v1::ARENA_STATE_LOADING ||
      message.state() > storage::v1::ARENA_STATE_DAMAGED) {
    return absl::DataLossError(absl::StrCat("state ", message.state(), " is not known here"));
  }
  header.state = static_cast<ArenaState>(message.state());
  ASSIGN_OR_RETURN(header.contents.digest, Sha256FromBytes(message.digest()));
  header.contents.row_bytes = message.row_bytes();
  for (const storage::v1::ArenaRange& range : message.ranges()) {
    header.contents.ranges.push_back({range.layer(), range.begin(), range.end()});
  }
  header.rows_offset = message.rows_offset();
  header.checksums_offset = message.checksums_offset();
  return header;
}

}  // namespace

uint64_t ArenaHeader::end() const {
  return checksums_offset + TotalRows(contents.ranges) * sizeof(uint32_t);
}

ArenaHeader ArenaHeader::For(ArenaContents contents) {
  ArenaHeader header;
  header.contents = std::move(contents);
  const uint64_t row_bytes = TotalRows(header.contents.ranges) * header.contents.row_bytes;
  const uint64_t alignment = row_bytes < kHugePage ? kPage : kHugePage;
  // With the places in it the header is longer by at most 22 bytes.
  header.rows_offset = AlignUp(header.Serialize().size() + 22, alignment);
  header.checksums_offset = header.rows_offset + AlignUp(row_bytes, alignment);
  return header;
}

std::string ArenaHeader::Serialize() const {
  storage::v1::ArenaHeader message;
  message.set_state(static_cast<storage::v1::ArenaState>(state));
  message.set_digest(contents.digest.data(), contents.digest.size());
  message.set_row_bytes(contents.row_bytes);
  for (const RowRange& range : contents.ranges) {
    storage::v1::ArenaRange* out = message.add_ranges();
    out->set_layer(range.layer);
    out->set_begin(range.begin);
    out->set_end(range.end);
  }
  message.set_rows_offset(rows_offset);
  message.set_checksums_offset(checksums_offset);
  return Frame(kFormat, message.SerializeAsString());
}

absl::StatusOr<ArenaHeader> ArenaHeader::Parse(absl::string_view front, const std::string& path) {
  ASSIGN_OR_RETURN(const absl::string_view payload, Unframe(kFormat, front, path));
  storage::v1::ArenaHeader message;
  if (!message.ParseFromArray(payload.data(), static_cast<int>(payload.size()))) {
    return absl::DataLossError(absl::StrCat(path, ": the payload is not an arena's header"));
  }
  absl::StatusOr<ArenaHeader> header = FromMessage(message);
  absl::Status status = header.status();
  if (status.ok()) status = CheckPlaces(*header, kFrameBytes + payload.size());
  if (!status.ok()) return absl::DataLossError(absl::StrCat(path, ": ", status.message()));
  return header;
}

std::string ArenaFileName(const ArenaContents& contents) {
  std::string ranges;
  for (const RowRange& range : contents.ranges) {
    AppendBytes(ranges, range.layer);
    AppendBytes(ranges, range.begin);
    AppendBytes(ranges, range.end);
  }
  return absl::StrCat("engram-", ToHex(contents.digest).substr(0, 16), "-",
                      ToHex(Sha256Of(ranges)).substr(0, 8), ".arena");
}

}  // namespace engram
