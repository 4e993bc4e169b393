#include "storage/disk/disk_fold.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/base/file.h"
#include "proto/base/status_macros.h"
#include "proto/crc32c.h"
#include "storage/changed_rows.h"
#include "storage/disk/row_groups.h"
#include "storage/table_digest.h"

namespace engram {
namespace {

constexpr size_t kGroupsAtOnce = 64;

struct NewRow {
  uint64_t row;
  const uint8_t* bytes;
  uint32_t checksum;
};

// The changed rows of a part, ascending.
std::vector<NewRow> NewRowsOf(const RowRange& part, RowStore::ManyChangedRows changed) {
  std::vector<NewRow> all;
  for (const std::shared_ptr<const ChangedRows>& each : changed) {
    const ChangedRows::Layer* const layer = each->FindLayer(part.layer);
    if (layer == nullptr) continue;
    const size_t end = layer->index.LowerBound(part.end);
    for (size_t i = layer->index.LowerBound(part.begin); i < end; ++i) {
      all.push_back(
          {layer->index.rows()[i], layer->rows + i * each->row_bytes(), layer->checksums[i]});
    }
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const NewRow& a, const NewRow& b) { return a.row < b.row; });
  std::vector<NewRow> last;
  for (const NewRow& row : all) {
    if (!last.empty() && last.back().row == row.row) last.pop_back();
    last.push_back(row);
  }
  return last;
}

uint64_t CountGroups(const RowGroups& groups, RowStore::ManyChangedRows changed) {
  uint64_t count = 0;
  for (const std::shared_ptr<const ChangedRows>& each : changed) {
    for (const ChangedRows::Layer& layer : each->layers()) {
      std::optional<uint64_t> last;
      for (const uint64_t row : layer.index.rows()) {
        const uint64_t group = groups.GroupOf(row);
        count += last != group;
        last = group;
      }
    }
  }
  return count;
}

// The sorted file of a fold.
class FoldedFile {
 public:
  // `sums`: of the database's parts; they become those of the new rows.
  FoldedFile(const DiskDatabase& database, RowStore::ManyChangedRows changed,
             std::vector<RowSum>& sums)
      : database_(database), changed_(changed), groups_(database.manifest.layout), sums_(sums) {}

  bool empty() const { return written_.empty(); }

  absl::Status Write(const std::string& path, absl::FunctionRef<bool()> stop) {
    const std::vector<RowRange> parts = CutIntoBlocks(database_.manifest.ranges);
    std::unique_ptr<RocksFileWriter> writer;  // of a file that is not empty
    for (size_t i = 0; i < parts.size(); ++i) {
      if (stop()) return absl::CancelledError("");
      const std::vector<NewRow> rows = NewRowsOf(parts[i], changed_);
      if (rows.empty()) continue;
      if (writer == nullptr) {
        ASSIGN_OR_RETURN(writer, RocksFileWriter::Create(path));
      }
      RETURN_IF_ERROR(WritePart(parts[i], rows, sums_[i], *writer));
    }
    return writer == nullptr ? absl::OkStatus() : writer->Finish();
  }

  // Reads it back.
  absl::Status Check(const std::string& path, absl::FunctionRef<bool()> stop) const {
    size_t count = 0;
    RETURN_IF_ERROR(ReadRocksFile(path, [&](absl::string_view key, absl::string_view value) {
      if (count % kGroupsAtOnce == 0 && stop()) return absl::CancelledError("");
      if (count < written_.size() && written_[count++] == Sum(key, value)) return absl::OkStatus();
      return absl::DataLossError(absl::StrCat(path, " is not what was written"));
    }));
    if (count == written_.size()) return absl::OkStatus();
    return absl::DataLossError(absl::StrCat(path, " ends early"));
  }

 private:
  static uint32_t Sum(absl::string_view key, absl::string_view value) {
    const uint32_t sums[2] = {Crc32c(key), Crc32c(value)};
    return Crc32c(sums, sizeof(sums));
  }

  absl::Status WritePart(const RowRange& part, std::span<const NewRow> rows, RowSum& sum,
                         RocksFileWriter& writer) {
    while (!rows.empty()) {
      std::vector<GroupKey> keys;
      std::vector<absl::string_view> views;
      std::vector<std::span<const NewRow>> rows_of;  // of each group
      while (!rows.empty() && keys.size() < kGroupsAtOnce) {
        const uint64_t group = groups_.GroupOf(rows[0].row);
        size_t count = 1;
        while (count < rows.size() && groups_.GroupOf(rows[count].row) == group) ++count;
        keys.emplace_back(part.layer, group);
        rows_of.push_back(rows.subspan(0, count));
        rows = rows.subspan(count);
      }
      for (const GroupKey& key : keys) views.push_back(key.view());
      absl::Status status;
      database_.rows->Read(views, [&](size_t i, const absl::StatusOr<absl::string_view>& old) {
        if (!status.ok()) return;
        status = old.status();
        std::string value;
        if (status.ok()) {
          value = std::string(*old);
          status = Change(part, rows_of[i], sum, value);
        }
        if (status.ok()) status = writer.Put(views[i], value);
        if (status.ok()) written_.push_back(Sum(views[i], value));
      });
      RETURN_IF_ERROR(status);
    }
    return absl::OkStatus();
  }

  // `value`: of the rows' group.
  absl::Status Change(const RowRange& part, std::span<const NewRow> rows, RowSum& sum,
                      std::string& value) const {
    const size_t row_bytes = groups_.row_bytes();
    const uint64_t group = groups_.GroupOf(rows[0].row);
    const RowRange held{part.layer, std::max(part.begin, groups_.FirstRow(group)),
                        std::min(part.end, groups_.EndRow(group))};
    if (value.size() != groups_.value_bytes()) {
      return absl::DataLossError(absl::StrCat(ToString(held), " have another size"));
    }
    RETURN_IF_ERROR(CheckRows(held, value));
    for (const NewRow& row : rows) {
      const auto bytes = reinterpret_cast<uint8_t*>(value.data()) + groups_.RowAt(row.row);
      RowSum before;
      before.AddRow(part.layer, row.row, bytes, row_bytes);
      sum -= before;
      sum.AddRow(part.layer, row.row, row.bytes, row_bytes);
      std::memcpy(bytes, row.bytes, row_bytes);
      std::memcpy(value.data() + groups_.ChecksumAt(row.row), &row.checksum, sizeof(row.checksum));
    }
    return CheckRows(held, value);
  }

  absl::Status CheckRows(const RowRange& rows, absl::string_view value) const {
    for (uint64_t row = rows.begin; row < rows.end; ++row) {
      const char* const bytes = value.data() + groups_.RowAt(row);
      if (Crc32c(bytes, groups_.row_bytes()) == groups_.Checksum(value, row)) continue;
      return absl::DataLossError(
          absl::StrCat("row ", row, " of layer ", rows.layer, " differs from its checksum"));
    }
    return absl::OkStatus();
  }

  const DiskDatabase& database_;
  const RowStore::ManyChangedRows changed_;
  const RowGroups groups_;
  std::vector<RowSum>& sums_;
  std::vector<uint32_t> written_;  // Sum of each group
};

// Where the shard has all rows, they are known to lead to the digest.
absl::Status CheckDigestOf(const ShardManifest& manifest) {
  if (TotalRows(manifest.ranges) != manifest.geometry.total_rows()) return absl::OkStatus();
  RowSum total;
  for (const RowSum& sum : manifest.sums) total += sum;
  std::optional<Sha256> map;
  if (manifest.token_map.has_value()) map = manifest.token_map->sha256();
  if (TableDigest(manifest.geometry, manifest.layout, map, total) == manifest.digest) {
    return absl::OkStatus();
  }
  return absl::DataLossError(
      absl::StrCat("the rows folded are not those of the table ", ToHex(manifest.digest)));
}

absl::Status WriteAndIngest(const DataDir& data_dir, const DiskDatabase& database,
                            RowStore::ManyChangedRows changed, const Sha256& target,
                            absl::FunctionRef<bool()> stop) {
  ShardManifest manifest = database.manifest;
  std::vector<std::string> paths = {data_dir.fold() + "/rows.sst"};
  FoldedFile file(database, changed, manifest.sums);
  RETURN_IF_ERROR(file.Write(paths[0], stop));
  if (file.empty()) {
    paths.clear();
  } else {
    RETURN_IF_ERROR(file.Check(paths[0], stop));
  }
  manifest.TakeDigest(target);
  RETURN_IF_ERROR(CheckDigestOf(manifest));
  const std::string& path = paths.emplace_back(data_dir.fold() + "/manifest.sst");
  ASSIGN_OR_RETURN(const auto writer, RocksFileWriter::Create(path));
  RETURN_IF_ERROR(writer->Put(kManifestKey, SerializeShardManifest(manifest)));
  RETURN_IF_ERROR(writer->Finish());
  return IngestRocksFiles(data_dir.database(), paths);
}

}  // namespace

absl::Status FoldIntoDatabase(const DataDir& data_dir, const DiskDatabase& database,
                              RowStore::ManyChangedRows changed, const Sha256& target,
                              absl::FunctionRef<bool()> stop) {
  constexpr uint64_t kMargin = 1 << 20;  // what RocksDB writes beside
  const RowGroups groups(database.manifest.layout);
  const uint64_t need = CountGroups(groups, changed) * kDiskBlockBytes +
                        SerializeShardManifest(database.manifest).size() + kMargin;
  RETURN_IF_ERROR(data_dir.CheckRoom("folding a delta into the shard", need));
  std::error_code error;
  std::filesystem::remove_all(data_dir.fold(), error);
  std::filesystem::create_directories(data_dir.fold(), error);
  if (error) return SystemError(error.value(), data_dir.fold());
  const absl::Status status = WriteAndIngest(data_dir, database, changed, target, stop);
  std::filesystem::remove_all(data_dir.fold(), error);
  return status;
}

absl::StatusOr<bool> MergeFolds(const DataDir& data_dir, const DiskDatabase& database,
                                absl::FunctionRef<bool()> stop) {
  if (!database.rows->crowded()) return false;
  RETURN_IF_ERROR(data_dir.CheckRoom("merging the shard's files", database.rows->file_bytes()));
  RETURN_IF_ERROR(MergeRocksFiles(data_dir.database(), stop));
  return true;
}

}  // namespace engram
