// Generations that were published on a shard on disk, into its database.
#ifndef ENGRAM_STORAGE_DISK_DISK_FOLD_H_
#define ENGRAM_STORAGE_DISK_DISK_FOLD_H_

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/sha256.h"
#include "storage/disk/data_dir.h"
#include "storage/disk/disk_database.h"
#include "storage/row_store.h"

namespace engram {

// Writes the groups that have changed rows anew, reads them back, and makes all of them, and a
// manifest of the digest `target`, part of the database at once. Ended at any point, what is opened
// next is the old table or the new one, whole. `database` goes on reading the old one; it must be
// opened again for the new.
//
// ResourceExhausted: the disk has no room (with both figures, before anything is written), or
// became full. DataLoss: a group cannot be read, a row differs from its checksum, or all rows
// together, where the shard has all, are not the target's. Else as RowStore::Fold.
absl::Status FoldIntoDatabase(const DataDir& data_dir, const DiskDatabase& database,
                              RowStore::ManyChangedRows changed, const Sha256& target,
                              absl::FunctionRef<bool()> stop);

// Before a fold: merges the files of former ones where there are as many as there can be, which
// takes as much free space as they have (ResourceExhausted otherwise). True: it did, and
// `database`, which goes on reading the old files, should be opened again. Codes as
// MergeRocksFiles.
absl::StatusOr<bool> MergeFolds(const DataDir& data_dir, const DiskDatabase& database,
                                absl::FunctionRef<bool()> stop);

}  // namespace engram

#endif  // ENGRAM_STORAGE_DISK_DISK_FOLD_H_
