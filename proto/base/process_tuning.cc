#include "proto/base/process_tuning.h"

#include <malloc.h>

#include "absl/synchronization/mutex.h"

namespace engram {

void TuneProcess() {
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  mallopt(M_TOP_PAD, 16 << 20);
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
}

}  // namespace engram
