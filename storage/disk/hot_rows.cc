#include "storage/disk/hot_rows.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "proto/base/bytes.h"
#include "proto/base/file.h"
#include "proto/base/status_macros.h"
#include "proto/crc32c.h"

namespace engram {
namespace {

constexpr char kMagic[] = "ENGRHOTR";
constexpr size_t kMagicBytes = 8;
constexpr uint32_t kVersion = 1;
constexpr size_t kSummed = kMagicBytes + 8;        // where what the checksum is of begins
constexpr size_t kHeaderBytes = kSummed + 32 + 8;  // before the places
constexpr size_t kRowBytes = sizeof(uint32_t) + 1;
constexpr uint64_t kMaxBytes = uint64_t{1} << 36;

template <typename T>
T Load(absl::string_view bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(value));
  return value;
}

}  // namespace

absl::Status WriteHotRows(const std::string& path, const Sha256& digest,
                          const std::vector<HotRow>& rows) {
  std::string summed(reinterpret_cast<const char*>(digest.data()), digest.size());
  AppendBytes(summed, uint64_t{rows.size()});
  for (const HotRow& row : rows) AppendBytes(summed, row.place);
  for (const HotRow& row : rows) AppendBytes(summed, row.uses);
  std::string bytes(kMagic, kMagicBytes);
  AppendBytes(bytes, kVersion);
  AppendBytes(bytes, Crc32c(summed.data(), summed.size()));
  return WriteFileAtomically(path, bytes + summed);
}

absl::StatusOr<std::vector<HotRow>> ReadHotRows(const std::string& path, const Sha256& digest,
                                                uint64_t rows) {
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path, kMaxBytes));
  if (bytes.compare(0, kMagicBytes, kMagic) != 0) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a list of hot rows"));
  }
  if (bytes.size() < kHeaderBytes) return absl::DataLossError(absl::StrCat(path, " is cut off"));
  const uint32_t version = Load<uint32_t>(bytes, kMagicBytes);
  if (version != kVersion) {
    return absl::InvalidArgumentError(absl::StrCat(path, " has format version ", version,
                                                   "; this program reads version ", kVersion));
  }
  if (Load<uint32_t>(bytes, kMagicBytes + 4) !=
      Crc32c(bytes.data() + kSummed, bytes.size() - kSummed)) {
    return absl::DataLossError(absl::StrCat(path, ": the checksum is wrong"));
  }
  if (std::memcmp(bytes.data() + kSummed, digest.data(), digest.size()) != 0) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is of another table"));
  }
  const uint64_t count = Load<uint64_t>(bytes, kHeaderBytes - 8);
  if ((bytes.size() - kHeaderBytes) / kRowBytes != count ||
      (bytes.size() - kHeaderBytes) % kRowBytes != 0) {
    return absl::DataLossError(absl::StrCat(path, " has not the ", count, " rows it states"));
  }
  std::vector<HotRow> hot(count);
  for (uint64_t i = 0; i < count; ++i) {
    hot[i].place = Load<uint32_t>(bytes, kHeaderBytes + i * sizeof(uint32_t));
    hot[i].uses = Load<uint8_t>(bytes, kHeaderBytes + count * sizeof(uint32_t) + i);
    if (hot[i].place < rows) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(path, " names row ", hot[i].place, " of a shard of ", rows));
  }
  return hot;
}

}  // namespace engram
