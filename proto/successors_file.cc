// Successors to a file, and back.
#include <array>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/file.h"
#include "proto/base/status_macros.h"
#include "proto/crc32c.h"
#include "proto/successors.h"

namespace engram {
namespace {

constexpr absl::string_view kMagic = "ENGRSUCC";
constexpr uint32_t kVersion = 1;
constexpr uint64_t kMaxBytes = uint64_t{1} << 32;
constexpr size_t kHeaderBytes = kMagic.size() + sizeof(uint32_t) + sizeof(Sha256) + 16;

uint32_t Checksum(absl::string_view bytes) { return Crc32c(bytes.data(), bytes.size()); }

template <typename T>
void Append(std::string& out, const T& value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

template <typename T>
void AppendAll(std::string& out, const std::vector<T>& values) {
  if (!values.empty()) {
    out.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
  }
}

// Takes values off the front of bytes that are known to be enough.
class Cursor {
 public:
  explicit Cursor(absl::string_view bytes) : bytes_(bytes) {}

  template <typename T>
  T Take() {
    T value;
    std::memcpy(&value, bytes_.data(), sizeof(T));
    bytes_.remove_prefix(sizeof(T));
    return value;
  }
  template <typename T>
  void TakeAll(size_t count, std::vector<T>& values) {
    values.resize(count);
    if (count > 0) std::memcpy(values.data(), bytes_.data(), count * sizeof(T));
    bytes_.remove_prefix(count * sizeof(T));
  }

 private:
  absl::string_view bytes_;
};

}  // namespace

absl::Status WriteSuccessors(const std::string& path, const Successors& successors) {
  const Successors::Contexts& all = successors.contexts();
  std::string bytes(kMagic);
  Append(bytes, kVersion);
  Append(bytes, successors.token_map());
  Append(bytes, static_cast<uint32_t>(all.singles.size()));
  Append(bytes, static_cast<uint32_t>(all.before.size()));
  Append(bytes, static_cast<uint32_t>(all.ids.size()));
  Append(bytes, Checksum(bytes));
  AppendAll(bytes, all.singles);
  AppendAll(bytes, all.before);
  AppendAll(bytes, all.last);
  AppendAll(bytes, all.totals);
  AppendAll(bytes, all.sizes);
  AppendAll(bytes, all.ids);
  AppendAll(bytes, all.counts);
  Append(bytes, Checksum(absl::string_view(bytes).substr(kHeaderBytes)));
  return WriteFileAtomically(path, bytes);
}

absl::StatusOr<Successors> ReadSuccessors(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path, kMaxBytes));
  const std::string name = absl::StrCat("successors ", path, ": ");
  const auto wrong = [&](const auto&... what) {
    return absl::InvalidArgumentError(absl::StrCat(name, what...));
  };
  const absl::string_view all = bytes;
  if (all.substr(0, kMagic.size()) != kMagic) return wrong("is no such file");
  if (all.size() < kHeaderBytes) return wrong("is cut off");
  Cursor cursor(all.substr(kMagic.size()));
  const auto version = cursor.Take<uint32_t>();
  const auto token_map = cursor.Take<Sha256>();
  const uint64_t singles = cursor.Take<uint32_t>(), pairs = cursor.Take<uint32_t>(),
                 ids = cursor.Take<uint32_t>();
  if (cursor.Take<uint32_t>() != Checksum(all.substr(0, kHeaderBytes - sizeof(uint32_t)))) {
    return absl::DataLossError(absl::StrCat(name, "the header is damaged"));
  }
  if (version != kVersion) return wrong("is of version ", version, ", this reads ", kVersion);
  const uint64_t body = singles * 4 + pairs * 8 + (singles + pairs) * 3 + ids * 6;
  if (all.size() != kHeaderBytes + body + sizeof(uint32_t)) {
    return wrong("has ", all.size(), " bytes, its header says ",
                 kHeaderBytes + body + sizeof(uint32_t));
  }
  Successors::Contexts contexts;
  cursor.TakeAll(singles, contexts.singles);
  cursor.TakeAll(pairs, contexts.before);
  cursor.TakeAll(pairs, contexts.last);
  cursor.TakeAll(singles + pairs, contexts.totals);
  cursor.TakeAll(singles + pairs, contexts.sizes);
  cursor.TakeAll(ids, contexts.ids);
  cursor.TakeAll(ids, contexts.counts);
  if (cursor.Take<uint32_t>() != Checksum(all.substr(kHeaderBytes, body))) {
    return absl::DataLossError(absl::StrCat(name, "the counts are damaged"));
  }
  absl::StatusOr<Successors> read = Successors::Create(token_map, std::move(contexts));
  if (!read.ok()) return wrong(read.status().message());
  return read;
}

}  // namespace engram
