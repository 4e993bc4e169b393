#include "storage/arena.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace engram {

absl::StatusOr<Arena> Arena::Create(uint64_t bytes) {
  constexpr uint64_t kHugePage = uint64_t{2} << 20;
  if (bytes > uint64_t{1} << 46) {
    return absl::ResourceExhaustedError(absl::StrCat("cannot map ", bytes, " bytes"));
  }
  const uint64_t mapped = bytes + kHugePage;  // Room to align.
  void* mapping = mmap(nullptr, mapped, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot map ", bytes, " bytes: ", std::strerror(errno)));
  }
  const uintptr_t address =
      (reinterpret_cast<uintptr_t>(mapping) + kHugePage - 1) & ~(kHugePage - 1);
  auto* data = reinterpret_cast<uint8_t*>(address);
  // Small arenas stay on small pages: a huge one for a few rows would be waste. A kernel without
  // huge pages refuses; rows are right on small ones, too.
  if (bytes >= kHugePage) madvise(data, bytes, MADV_HUGEPAGE);
  return Arena(mapping, mapped, data, bytes);
}

Arena::Arena(Arena&& other) noexcept
    : mapping_(other.mapping_),
      mapped_bytes_(other.mapped_bytes_),
      data_(other.data_),
      bytes_(other.bytes_) {
  other.mapping_ = nullptr;
}

Arena::~Arena() {
  if (mapping_ != nullptr) munmap(mapping_, mapped_bytes_);
}

}  // namespace engram
