// What the checkpoint says the rows of a text are.
#ifndef ENGRAM_DEPLOY_DEMO_ROW_CHECK_H_
#define ENGRAM_DEPLOY_DEMO_ROW_CHECK_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "storage/checkpoint.h"
#include "storage/table_reader.h"

namespace engram::demo {

// Knows nothing of the servers or the client: reads geometry, token map and rows from the
// checkpoint's files itself. For one thread.
class RowCheck {
 public:
  // As Checkpoint::Open and TableReader::Open; FailedPrecondition: the checkpoint has no token map.
  static absl::StatusOr<std::unique_ptr<RowCheck>> Open(const std::string& directory);

  // How many rows of `received` [tokens.size() - skip, columns, row_bytes], of the layer with id
  // `layer`, differ from those of `tokens`, hashed as one whole sequence from its start; the first
  // `skip` positions (the part that was not fetched) are only looked back at.
  absl::StatusOr<uint64_t> WrongRows(uint32_t layer, std::span<const uint32_t> tokens, size_t skip,
                                     std::span<const uint8_t> received) const;

 private:
  explicit RowCheck(Checkpoint checkpoint) : checkpoint_(std::move(checkpoint)) {}

  const Checkpoint checkpoint_;
  std::unique_ptr<TableReader> reader_;  // borrows checkpoint_
};

}  // namespace engram::demo

#endif  // ENGRAM_DEPLOY_DEMO_ROW_CHECK_H_
