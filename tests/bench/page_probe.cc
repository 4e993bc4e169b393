#include "tests/bench/page_probe.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "proto/base/status_macros.h"
#include "storage/parallel.h"

namespace engram::bench {
namespace {

constexpr uint64_t kHugePage = 2 << 20;
constexpr uint64_t kPieceBytes = 32 << 20;

}  // namespace

absl::StatusOr<ProbeMemory> ProbeMemory::Create(
    uint64_t bytes, Pages pages,
    const std::function<void(uint64_t begin, std::span<uint8_t> piece)>& fill) {
  const uint64_t mapped = bytes + kHugePage;
  void* const mapping = mmap(nullptr, mapped, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) {
    return absl::ResourceExhaustedError(absl::StrCat("no address space for ", bytes, " bytes"));
  }
  const auto address = reinterpret_cast<uintptr_t>(mapping);
  auto* const data = static_cast<uint8_t*>(mapping) + (kHugePage - address % kHugePage) % kHugePage;
  ProbeMemory memory(mapping, mapped, data);
  madvise(mapping, mapped, pages == Pages::kHuge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  const auto write = [&](uint64_t i, uint64_t& done) {
    const uint64_t begin = i * kPieceBytes, size = std::min(kPieceBytes, bytes - begin);
    fill(begin, {data + begin, size});
    done += size;
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(ForEachInParallel((bytes + kPieceBytes - 1) / kPieceBytes, bytes,
                                    {.what = "filling", .log = nullptr}, write));
  return memory;
}

ProbeMemory::ProbeMemory(ProbeMemory&& other) noexcept
    : mapping_(std::exchange(other.mapping_, nullptr)),
      mapped_(other.mapped_),
      data_(other.data_) {}

ProbeMemory::~ProbeMemory() {
  if (mapping_ != nullptr) munmap(mapping_, mapped_);
}

double ChaseNs(const uint8_t* rows, uint64_t count, size_t row_bytes, absl::Duration time) {
  constexpr uint64_t kReads = 1 << 14;  // between two looks at the clock
  using Clock = std::chrono::steady_clock;
  const auto end_after = absl::ToChronoNanoseconds(time);
  uint64_t state = 1, reads = 0;
  const Clock::time_point start = Clock::now();
  Clock::duration passed;
  do {
    for (uint64_t i = 0; i < kReads; ++i) {
      // The high half of a product spreads over the rows what the multiplication has mixed.
      const auto place =
          static_cast<uint64_t>((static_cast<unsigned __int128>(state) * count) >> 64);
      uint64_t word;
      std::memcpy(&word, rows + place * row_bytes, sizeof(word));
      state = (state + word) * 0x9E3779B97F4A7C15 + 1;
    }
    reads += kReads;
    passed = Clock::now() - start;
  } while (passed < end_after);
  // `state` must have been computed.
  asm volatile("" : : "r"(state) : "memory");
  return std::chrono::duration<double, std::nano>(passed).count() / static_cast<double>(reads);
}

absl::StatusOr<uint64_t> HugePageBytes() {
  std::ifstream file("/proc/self/smaps_rollup");
  for (std::string line; std::getline(file, line);) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    uint64_t kib = 0;
    if (words.size() >= 2 && words[0] == "AnonHugePages:" && absl::SimpleAtoi(words[1], &kib)) {
      return kib << 10;
    }
  }
  return absl::NotFoundError("/proc/self/smaps_rollup says nothing of AnonHugePages");
}

}  // namespace engram::bench
