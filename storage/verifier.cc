#include "storage/verifier.h"

#include <pthread.h>

#include <algorithm>
#include <random>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "proto/base/status_macros.h"
#include "storage/overlay_store.h"
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

struct Verifier::Pass {
  const absl::Time start = absl::Now();
  uint64_t bytes = 0;
};

bool Verifier::Failed(const absl::Status& status) {
  if (status.ok()) return false;
  Log(absl::StrCat("verification failed: ", status.message()));
  store_.state().Fail(status);
  return true;
}

bool Verifier::Pace(Pass& pass, uint64_t bytes) {
  pass.bytes += bytes;
  absl::Duration earliest = absl::ZeroDuration();
  if (options_.bytes_per_second != 0) {
    earliest = absl::Seconds(static_cast<double>(pass.bytes) /
                             static_cast<double>(options_.bytes_per_second));
  }
  return SleepUntil(pass.start + earliest);
}

// False: to stop, or a row was found to differ.
bool Verifier::RunPass() {
  Pass pass;
  if (!VerifyRows(pass) || !VerifyChangedRows(pass)) return false;
  ++store_.state().verified_passes;
  Log(absl::StrFormat("verified: %.2f GB in %.2f s", static_cast<double>(pass.bytes) / 1e9,
                      absl::ToDoubleSeconds(absl::Now() - pass.start)));
  return true;
}

bool Verifier::VerifyRows(Pass& pass) {
  constexpr absl::Duration kLogEvery = absl::Seconds(10);
  StoreState& state = store_.state();
  const double total = static_cast<double>(std::max<uint64_t>(1, TotalRows(store_.ranges())));
  absl::Time next_line = pass.start + kLogEvery;
  state.verified_rows = 0;
  for (const RowRange& block : CutIntoBlocks(store_.ranges())) {
    if (Failed(store_.Verify(block))) return false;
    state.verified_rows += block.rows();
    const absl::Time now = absl::Now();
    if (now >= next_line) {
      next_line = now + kLogEvery;
      const double share = static_cast<double>(state.verified_rows.load()) / total;
      Log(absl::StrFormat("verifying: %.0f %%, %.0f s left", 100 * share,
                          absl::ToDoubleSeconds(now - pass.start) * (1 - share) / share));
    }
    if (!Pace(pass, block.rows() * store_.layout().row_bytes())) return false;
  }
  return true;
}

bool Verifier::VerifyChangedRows(Pass& pass) {
  if (!options_.served) return true;
  const std::vector<RowRange> blocks = CutIntoBlocks(store_.ranges());
  std::set<const ChangedRows*> seen;  // Tables share what they are built on.
  for (const std::shared_ptr<const RowStore>& table : options_.served()) {
    for (const OverlayStore* const overlay : OverlaysOf(*table)) {
      if (!seen.insert(overlay->changed().get()).second) continue;
      for (const RowRange& block : blocks) {
        uint64_t rows = 0;
        if (Failed(overlay->VerifyChanged(block, rows))) return false;
        if (!Pace(pass, rows * store_.layout().row_bytes())) return false;
      }
    }
  }
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
