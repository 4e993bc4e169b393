// What the C ABI's opaque handles hold.
#ifndef ENGRAM_CLIENT_C_HANDLES_H_
#define ENGRAM_CLIENT_C_HANDLES_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/c/engram_client.h"
#include "client/client.h"
#include "client/prefetch.h"
#include "client/slot.h"

namespace engram {

// What of a client its slots need too, which may outlive it.
struct LookupDefaults {
  absl::Duration timeout;
  MissingRows missing = MissingRows::kFail;
  uint32_t compressed_vocab = 0;
};

// One layer's columns as arrays of their own.
struct ColumnArrays {
  std::vector<uint64_t> first, rows;
};

// InvalidArgument: what they say is none of the choices; `options` may be null. The result borrows
// what the options point to.
absl::Status ToLookupOptions(const engram_lookup_options* options, const LookupDefaults& defaults,
                             LookupOptions& out);
// Borrows what `ids` points to.
absl::Status ToStepIds(const engram_step_ids* ids, StepIds& out);
absl::Status ToPriority(int32_t priority, LookupPriority normal, LookupPriority& out);

// A look-back state of the C ABI is the C++ one by another name: several chunks of a step may share
// one, so that a copy would not do. InvalidArgument: null, or no state of a table of so many
// compressed ids.
absl::Status ToLookBack(engram_lookback* state, uint32_t compressed_vocab, const char* name,
                        LookBack*& out);

absl::Time DeadlineOf(int64_t timeout_us);

}  // namespace engram

struct engram_client {
  std::unique_ptr<engram::Client> client;
  engram::LookupDefaults defaults;
  std::string digest;                         // hex
  std::vector<engram::ColumnArrays> columns;  // as Geometry::layers()
};

struct engram_ticket {
  engram::Ticket ticket;
};

struct engram_slot {
  std::unique_ptr<engram::Slot> slot;
  engram::LookupDefaults defaults;
};

struct engram_prefetch {
  engram::Prefetch prefetch;
};

#endif  // ENGRAM_CLIENT_C_HANDLES_H_
