// Successors to a file, and back.
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/bytes.h"
#include "proto/base/file.h"
#include "proto/base/status_macros.h"
#include "proto/crc32c.h"
#include "proto/successors.h"

namespace engram {
namespace {

constexpr absl::string_view kSuccessorsMagic = "ENGRSUCC";
constexpr uint32_t kVersion = 1;
constexpr uint64_t kMaxSuccessorsBytes = uint64_t{1} << 32;
constexpr size_t kHeaderBytes = kSuccessorsMagic.size() + sizeof(uint32_t) + sizeof(Sha256) + 16;

}  // namespace

absl::Status WriteSuccessors(const std::string& path, const Successors& successors) {
  const Successors::Contexts& all = successors.contexts();
  std::string bytes(kSuccessorsMagic);
  AppendBytes(bytes, kVersion);
  AppendBytes(bytes, successors.token_map());
  AppendBytes(bytes, static_cast<uint32_t>(all.singles.size()));
  AppendBytes(bytes, static_cast<uint32_t>(all.before.size()));
  AppendBytes(bytes, static_cast<uint32_t>(all.ids.size()));
  AppendBytes(bytes, Crc32c(bytes));
  AppendAllBytes(bytes, all.singles);
  AppendAllBytes(bytes, all.before);
  AppendAllBytes(bytes, all.last);
  AppendAllBytes(bytes, all.totals);
  AppendAllBytes(bytes, all.sizes);
  AppendAllBytes(bytes, all.ids);
  AppendAllBytes(bytes, all.counts);
  AppendBytes(bytes, Crc32c(absl::string_view(bytes).substr(kHeaderBytes)));
  return WriteFileAtomically(path, bytes);
}

absl::StatusOr<Successors> ReadSuccessors(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path, kMaxSuccessorsBytes));
  const std::string name = absl::StrCat("successors ", path, ": ");
  const auto wrong = [&](const auto&... what) {
    return absl::InvalidArgumentError(absl::StrCat(name, what...));
  };
  const absl::string_view all = bytes;
  if (all.substr(0, kSuccessorsMagic.size()) != kSuccessorsMagic) return wrong("is no such file");
  ByteCursor cursor(all.substr(kSuccessorsMagic.size()));
  uint32_t version = 0, singles = 0, pairs = 0, ids = 0, checksum = 0;
  Sha256 token_map;
  if (!cursor.Take(version) || !cursor.Take(token_map) || !cursor.Take(singles) ||
      !cursor.Take(pairs) || !cursor.Take(ids) || !cursor.Take(checksum)) {
    return wrong("is cut off");
  }
  if (checksum != Crc32c(all.substr(0, kHeaderBytes - sizeof(checksum)))) {
    return absl::DataLossError(absl::StrCat(name, "the header is damaged"));
  }
  if (version != kVersion) return wrong("is of version ", version, ", this reads ", kVersion);
  const uint64_t contexts_count = uint64_t{singles} + pairs;
  Successors::Contexts contexts;
  const bool whole =
      cursor.TakeAll(singles, contexts.singles) && cursor.TakeAll(pairs, contexts.before) &&
      cursor.TakeAll(pairs, contexts.last) && cursor.TakeAll(contexts_count, contexts.totals) &&
      cursor.TakeAll(contexts_count, contexts.sizes) && cursor.TakeAll(ids, contexts.ids) &&
      cursor.TakeAll(ids, contexts.counts);
  const uint64_t body = all.size() - kHeaderBytes - cursor.rest().size();
  if (!whole || !cursor.Take(checksum) || !cursor.rest().empty()) {
    return wrong("has another length than its header says");
  }
  if (checksum != Crc32c(all.substr(kHeaderBytes, body))) {
    return absl::DataLossError(absl::StrCat(name, "the counts are damaged"));
  }
  absl::StatusOr<Successors> read = Successors::Create(token_map, std::move(contexts));
  if (!read.ok()) return wrong(read.status().message());
  return read;
}

}  // namespace engram
