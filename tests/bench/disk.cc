#include "tests/bench/disk.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <numeric>
#include <random>
#include <span>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "proto/token_trace.h"
#include "storage/disk/disk_store.h"
#include "storage/disk/disk_table.h"
#include "storage/table.h"
#include "tests/bench/overlap/step_ids.h"
#include "tests/bench/peer_tables.h"
#include "tests/bench/statistics.h"
#include "tests/bench/trace.h"

namespace engram::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kHitBatch = 4096;
constexpr int kHitRounds = 15;

uint64_t TokensOf(const TokenTrace& text) {
  return std::accumulate(text.begin(), text.end(), uint64_t{0},
                         [](uint64_t sum, const auto& sequence) { return sum + sequence.size(); });
}

// The first `tokens` of a text, or the last ones.
TokenTrace PartOf(const TokenTrace& text, uint64_t tokens, bool last) {
  std::vector<uint32_t> all;
  for (const auto& sequence : text) all.insert(all.end(), sequence.begin(), sequence.end());
  const auto count = static_cast<ptrdiff_t>(std::min<uint64_t>(tokens, all.size()));
  if (last) return {{all.end() - count, all.end()}};
  return {{all.begin(), all.begin() + count}};
}

// Rows of one order, asked for in one gather.
struct OrderCounts {
  uint64_t asked = 0;
  uint64_t missed = 0;
  uint64_t blocks = 0;
};

class DiskBench {
 public:
  DiskBench(const DiskBenchOptions& options, const Table& local, std::string data_dir)
      : options_(options), local_(local), data_dir_(std::move(data_dir)) {}

  uint64_t BudgetOf(double per_cent) const {
    return static_cast<uint64_t>(static_cast<double>(local_.rows->bytes()) * per_cent / 100);
  }

  absl::StatusOr<Table> Open(uint64_t budget, bool direct) const {
    LoadOptions load;
    load.memory_budget = budget;
    return OpenDiskTable(load, {data_dir_, options_.read_threads, direct});
  }

  // The ids of each chunk, layer and order are a gather of their own, so that each order's hits are
  // its own. `seconds` is the gathers' alone.
  absl::StatusOr<std::vector<OrderCounts>> Read(const DiskStore& store, const StepPool& chunks,
                                                double& seconds) {
    const size_t heads = local_.geometry.params().heads, columns = local_.geometry.columns();
    std::vector<OrderCounts> orders(columns / heads);
    std::vector<uint64_t> ids(options_.chunk * heads);
    const size_t bytes = ids.size() * store.layout().row_bytes();
    std::vector<uint8_t> rows(bytes), right(bytes);
    for (size_t chunk = 0; chunk < chunks.size(); ++chunk) {
      for (size_t layer = 0; layer < local_.geometry.layers().size(); ++layer) {
        const uint32_t id = local_.geometry.layers()[layer].layer_id;
        for (size_t order = 0; order < orders.size(); ++order) {
          for (size_t i = 0; i < ids.size(); ++i) {
            ids[i] = static_cast<uint64_t>(
                chunks[chunk][layer][i / heads * columns + order * heads + i % heads]);
          }
          const DiskCounts before = store.counts();
          const Clock::time_point start = Clock::now();
          RETURN_IF_ERROR(store.Gather(id, std::span<const uint64_t>(ids), rows.data(), nullptr));
          seconds += std::chrono::duration<double>(Clock::now() - start).count();
          const DiskCounts after = store.counts();
          orders[order].asked += after.rows_asked - before.rows_asked;
          orders[order].missed += after.rows_missed - before.rows_missed;
          orders[order].blocks += after.blocks_read - before.blocks_read;
          RETURN_IF_ERROR(
              local_.rows->Gather(id, std::span<const uint64_t>(ids), right.data(), nullptr));
          if (rows != right) return absl::InternalError(absl::StrCat("layer ", id, ": wrong rows"));
        }
      }
    }
    return orders;
  }

 private:
  const DiskBenchOptions& options_;
  const Table& local_;
  const std::string data_dir_;
};

nlohmann::json BudgetReport(double per_cent, const DiskStore& store,
                            const std::vector<OrderCounts>& orders, double seconds) {
  nlohmann::json report = {{"budget_percent", per_cent}, {"cache_rows", store.cache_rows()}};
  OrderCounts all;
  for (size_t i = 0; i < orders.size(); ++i) {
    const auto asked = static_cast<double>(orders[i].asked);
    report["hit_rate"][absl::StrCat(i + 2)] = 1 - static_cast<double>(orders[i].missed) / asked;
    all.asked += orders[i].asked;
    all.missed += orders[i].missed;
    all.blocks += orders[i].blocks;
  }
  const auto asked = static_cast<double>(all.asked);
  report["hit_rate"]["all"] = 1 - static_cast<double>(all.missed) / asked;
  report["rows_per_s"] = asked / seconds;
  report["bytes_read_per_row"] = static_cast<double>(all.blocks) * kDiskBlockBytes / asked;
  report["checked_rows"] = all.asked;
  return report;
}

// Rows that the cache has, against the same rows from memory: gathers of the same batches, in
// turns.
absl::StatusOr<double> HitRatio(const DiskStore& store, const RowStore& memory, uint32_t layer) {
  std::mt19937_64 random(1);
  std::vector<uint64_t> held(store.cache_rows() / 4);  // so that no set overflows
  const uint64_t rows = memory.ranges().front().rows();
  for (uint64_t& row : held) row = random() % rows;
  const size_t row_bytes = store.layout().row_bytes();
  std::vector<uint8_t> out(kHitBatch * row_bytes);
  std::vector<uint32_t> checksums(kHitBatch);
  const auto pass = [&](const RowStore& from) -> absl::StatusOr<double> {
    const Clock::time_point start = Clock::now();
    for (size_t at = 0; at + kHitBatch <= held.size(); at += kHitBatch) {
      RETURN_IF_ERROR(from.Gather(layer, std::span<const uint64_t>(held).subspan(at, kHitBatch),
                                  out.data(), checksums.data()));
    }
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  for (int i = 0; i < 3; ++i) RETURN_IF_ERROR(pass(store).status());
  const DiskCounts before = store.counts();
  std::vector<double> ratios;
  for (int i = 0; i < kHitRounds; ++i) {
    ASSIGN_OR_RETURN(const double disk, pass(store));
    ASSIGN_OR_RETURN(const double from_memory, pass(memory));
    ratios.push_back(from_memory / disk);
  }
  const DiskCounts after = store.counts();
  const auto missed = static_cast<double>(after.rows_missed - before.rows_missed);
  if (missed > 0.001 * static_cast<double>(after.rows_asked - before.rows_asked)) {
    return absl::InternalError(absl::StrCat(missed, " of the rows to hit were missed"));
  }
  return Median(ratios);
}

}  // namespace

absl::StatusOr<nlohmann::json> RunDiskBench(const DiskBenchOptions& options) {
  ASSIGN_OR_RETURN(TokenTrace first, ReadTokenTrace(options.trace));
  const TokenTrace second = TakeSecondHalf(first);
  ASSIGN_OR_RETURN(const ScratchDirectory scratch, ScratchDirectory::Create(options.directory));
  const std::string checkpoint = absl::StrCat(scratch.path(), "/table");
  const std::string data_dir = absl::StrCat(scratch.path(), "/data");
  std::cerr << "writing a table and importing it\n";
  RETURN_IF_ERROR(MakePeerTable(checkpoint, options.rows, options.tokenizer));
  LoadOptions load;
  load.checkpoint = checkpoint;
  ASSIGN_OR_RETURN(const Table local, LoadTable(load));
  RETURN_IF_ERROR(ImportDiskTable(load, {.data_dir = data_dir}).status());
  ASSIGN_OR_RETURN(const StepPool warm,
                   TextChunks(local, PartOf(first, options.warm_tokens, true), options.chunk));
  ASSIGN_OR_RETURN(const StepPool text,
                   TextChunks(local, PartOf(second, options.tokens, false), options.chunk));
  nlohmann::json report = {{"trace", options.trace},
                           {"table_bytes", local.rows->bytes()},
                           {"warm_tokens", std::min(options.warm_tokens, TokensOf(first))},
                           {"direct_reads", options.direct_reads},
                           {"read_threads", options.read_threads},
                           {"wrong_rows", 0}};  // one would have ended the run
  DiskBench bench(options, local, data_dir);
  for (const double per_cent : options.budgets) {
    std::cerr << per_cent << " % of the table\n";
    const uint64_t budget = bench.BudgetOf(per_cent);
    std::filesystem::remove(absl::StrCat(data_dir, "/hot-rows"));  // of another budget
    double seconds = 0;
    {  // The rows that are hot then are those that the next server begins with.
      ASSIGN_OR_RETURN(const Table filled, bench.Open(budget, false));
      RETURN_IF_ERROR(
          bench.Read(static_cast<const DiskStore&>(*filled.rows), warm, seconds).status());
    }
    ASSIGN_OR_RETURN(const Table table, bench.Open(budget, options.direct_reads));
    const auto& store = static_cast<const DiskStore&>(*table.rows);
    store.AwaitWarm();
    seconds = 0;
    ASSIGN_OR_RETURN(const std::vector<OrderCounts> orders, bench.Read(store, text, seconds));
    report["budgets"].push_back(BudgetReport(per_cent, store, orders, seconds));
  }
  const double most = *std::max_element(options.budgets.begin(), options.budgets.end());
  std::filesystem::remove(absl::StrCat(data_dir, "/hot-rows"));  // an empty cache
  ASSIGN_OR_RETURN(const Table table, bench.Open(bench.BudgetOf(most), false));
  ASSIGN_OR_RETURN(report["hits_vs_memory"],
                   HitRatio(static_cast<const DiskStore&>(*table.rows), *local.rows,
                            local.geometry.layers()[0].layer_id));
  return report;
}

}  // namespace engram::bench
