#include "storage/verifier.h"

#include <pthread.h>

#include <algorithm>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "proto/base/status_macros.h"
#include "storage/table_digest.h"

namespace engram {

Verifier::Verifier(const RowStore& store, VerifierOptions options)
    : store_(store), options_(std::move(options)), thread_([this] { Run(); }) {}

Verifier::~Verifier() {
  {
    MutexLock lock(&mutex_);
    stop_ = true;
    stop_changed_.NotifyAll();
  }
  thread_.join();
}

bool Verifier::SleepUntil(absl::Time time) {
  MutexLock lock(&mutex_);
  while (!stop_ && absl::Now() < time) stop_changed_.WaitUntil(&mutex_, time);
  return !stop_;
}

void Verifier::Log(const std::string& line) const {
  if (options_.log) options_.log(line);
}

void Verifier::Run() {
  pthread_setname_np(pthread_self(), "engram-verify");
  while (RunPass() && options_.interval != absl::InfiniteDuration() &&
         SleepUntil(absl::Now() + options_.interval)) {
  }
}

// False: to stop, or a row was found to differ.
bool Verifier::RunPass() {
  constexpr absl::Duration kLogEvery = absl::Seconds(10);
  StoreState& state = store_.state();
  const double total = static_cast<double>(std::max<uint64_t>(1, TotalRows(store_.ranges())));
  const absl::Time start = absl::Now();
  absl::Time next_line = start + kLogEvery;
  uint64_t bytes = 0;
  state.verified_rows = 0;
  for (const RowRange& block : CutIntoBlocks(store_.ranges())) {
    const absl::Status status = store_.Verify(block);
    if (!status.ok()) {
      Log(absl::StrCat("verification failed: ", status.message()));
      state.Fail(status);
      return false;
    }
    state.verified_rows += block.rows();
    bytes += block.rows() * store_.layout().row_bytes();
    const absl::Time now = absl::Now();
    if (now >= next_line) {
      next_line = now + kLogEvery;
      const double share = static_cast<double>(state.verified_rows.load()) / total;
      Log(absl::StrFormat("verifying: %.0f %%, %.0f s left", 100 * share,
                          absl::ToDoubleSeconds(now - start) * (1 - share) / share));
    }
    absl::Duration earliest = absl::ZeroDuration();
    if (options_.bytes_per_second != 0) {
      earliest = absl::Seconds(static_cast<double>(bytes) /
                               static_cast<double>(options_.bytes_per_second));
    }
    if (!SleepUntil(start + earliest)) return false;
  }
  ++state.verified_passes;
  Log(absl::StrFormat("verified: %.2f GB in %.2f s", static_cast<double>(bytes) / 1e9,
                      absl::ToDoubleSeconds(absl::Now() - start)));
  return true;
}

absl::Status VerifySample(const RowStore& store) {
  constexpr size_t kSamples = 64;
  // Of a stretch of at most so many rows each: about a megabyte.
  const auto verify = [&](const RowRange& block, uint64_t skip) {
    const uint64_t begin = block.begin + skip;
    return store.Verify({block.layer, begin, std::min(begin + kChunkRows, block.end)});
  };
  const std::vector<RowRange> blocks = CutIntoBlocks(store.ranges());
  if (blocks.empty()) return absl::OkStatus();
  RETURN_IF_ERROR(verify(blocks.front(), 0));
  const RowRange& last = blocks.back();
  RETURN_IF_ERROR(verify(last, last.rows() - std::min(last.rows(), kChunkRows)));
  std::mt19937_64 random(std::random_device{}());
  const size_t samples = std::min(kSamples, blocks.size());
  for (size_t i = 0; i < samples; ++i) {
    // One block of every share of them.
    const size_t begin = blocks.size() * i / samples;
    const size_t end = blocks.size() * (i + 1) / samples;
    const RowRange& block = blocks[begin + random() % (end - begin)];
    RETURN_IF_ERROR(verify(block, random() % block.rows() / kChunkRows * kChunkRows));
  }
  return absl::OkStatus();
}

absl::Status VerifyAll(const RowStore& store, const ParallelOptions& parallel) {
  const std::vector<RowRange> blocks = CutIntoBlocks(store.ranges());
  return ForEachInParallel(blocks.size(), store.bytes(), parallel,
                           [&](uint64_t i, uint64_t& bytes) {
                             bytes = blocks[i].rows() * store.layout().row_bytes();
                             return store.Verify(blocks[i]);
                           });
}

}  // namespace engram
