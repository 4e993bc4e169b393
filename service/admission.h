// What a request must be before any row is gathered for it.
#ifndef ENGRAM_SERVICE_ADMISSION_H_
#define ENGRAM_SERVICE_ADMISSION_H_

#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "storage/generation_set.h"
#include "storage/table.h"

namespace engram {

// Holds a gather against the table: rows that were lost (DataLoss), unknown flags (Unimplemented),
// the digest (InvalidArgument unless 32 bytes, FailedPrecondition for a generation that is not
// held), ids of the width that the layer does not use (InvalidArgument), then every id
// (RowStore::Check). The generation to gather from. Pure.
absl::StatusOr<std::shared_ptr<const HeldGeneration>> AdmitGather(
    const Table& table, const GenerationSet& held, absl::string_view digest, uint32_t layer,
    uint32_t flags, std::span<const uint32_t> rows, std::span<const uint64_t> wide_rows);

// Whether a generation is held; false for what is no digest.
bool Holds(const GenerationSet& held, absl::string_view digest);

}  // namespace engram

#endif  // ENGRAM_SERVICE_ADMISSION_H_
