#include "storage/gather.h"

#include <cstring>

namespace engram {
namespace {

template <typename Id>
struct GatherJob {
  const uint8_t* table;
  size_t row_bytes;
  const Id* ids;
  size_t count;
  Id base;
  uint8_t* out;
};

// kRowBytes 0: the size is known at run time alone.
template <size_t kRowBytes, size_t kBlock, typename Id>
[[gnu::always_inline]] inline void GatherLoop(const GatherJob<Id>& job) {
  const size_t row_bytes = kRowBytes != 0 ? kRowBytes : job.row_bytes;
  constexpr Id kNone = static_cast<Id>(~Id{0});
  const auto row = [&](Id id) { return job.table + size_t{id - job.base} * row_bytes; };
  uint8_t* out = job.out;
  for (size_t i = 0; i < job.count; ++i, out += row_bytes) {
    if (i + kPrefetchRows < job.count && job.ids[i + kPrefetchRows] != kNone) {
      PrefetchRow(row(job.ids[i + kPrefetchRows]), row_bytes);
    }
    if (job.ids[i] == kNone) {
      std::memset(out, 0, row_bytes);
    } else if constexpr (kRowBytes != 0) {
      CopyRow<kRowBytes, kBlock>(out, row(job.ids[i]));
    } else {
      std::memcpy(out, row(job.ids[i]), row_bytes);
    }
  }
}

template <size_t kBlock, typename Id>
[[gnu::always_inline]] inline void Gather(const GatherJob<Id>& job) {
  WithRowBytes(
      job.row_bytes, [&]<size_t kRowBytes>()
                         __attribute__((always_inline)) { GatherLoop<kRowBytes, kBlock>(job); });
}

template <typename Id>
void GatherPortable(const GatherJob<Id>& job) {
  Gather<kBlockPortable>(job);
}

template <typename Id>
ENGRAM_TARGET_AVX2 void GatherAvx2(const GatherJob<Id>& job) {
  Gather<kBlockAvx2>(job);
}

template <typename Id>
ENGRAM_TARGET_AVX512 void GatherAvx512(const GatherJob<Id>& job) {
  Gather<kBlockAvx512>(job);
}

}  // namespace

template <typename Id>
void GatherRows(const uint8_t* table, size_t row_bytes, const Id* ids, size_t count, Id base,
                uint8_t* out, Isa isa) {
  const GatherJob<Id> job{table, row_bytes, ids, count, base, out};
  switch (isa) {
    case Isa::kPortable:
      return GatherPortable(job);
    case Isa::kAvx2:
      return GatherAvx2(job);
    case Isa::kAvx512:
      return GatherAvx512(job);
  }
}

template void GatherRows(const uint8_t*, size_t, const uint32_t*, size_t, uint32_t, uint8_t*, Isa);
template void GatherRows(const uint8_t*, size_t, const uint64_t*, size_t, uint64_t, uint8_t*, Isa);

}  // namespace engram
