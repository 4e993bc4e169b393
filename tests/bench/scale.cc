#include "tests/bench/scale.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <future>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client/client.h"
#include "proto/base/status_macros.h"
#include "proto/crc32c.h"
#include "service/server.h"
#include "storage/gather.h"
#include "storage/memory_available.h"
#include "storage/memory_store.h"
#include "storage/parallel.h"
#include "storage/synth_rows.h"
#include "storage/table.h"
#include "tests/bench/child_process.h"
#include "tests/bench/disturbance.h"
#include "tests/bench/gather.h"
#include "tests/bench/page_probe.h"
#include "tests/bench/statistics.h"

namespace engram::bench {
namespace {

constexpr RowLayout kLayout{.value_type = ValueType::kBf16, .values = 64};
constexpr uint32_t kScaleRowBytes = 128;
constexpr uint32_t kScaleLayer = 1;
constexpr uint64_t kScaleSeed = 7;
constexpr size_t kDrawn = 4 << 20;  // row ids, then again from the first
constexpr size_t kComparedRows = 4096;
constexpr int kServerCore = 0, kClientCore = 1;
constexpr absl::Duration kFillTimeout = absl::Minutes(4);

void FillRow(uint64_t row, uint8_t* out) {
  SynthRow(kLayout, kScaleSeed, kScaleLayer, row, {out, kScaleRowBytes});
}

// The paper's shape (16 columns) with about so many rows.
absl::StatusOr<Geometry> GeometryOf(uint64_t rows) {
  GeometryParams params;
  params.layer_ids = {kScaleLayer};
  params.max_ngram = 3;
  params.heads = 8;
  params.bucket_floors.assign(2, rows / 16);
  params.compressed_vocab = 98627;
  return Geometry::Derive(params);
}

absl::StatusOr<std::unique_ptr<MemoryStore>> FilledStore(const Geometry& geometry) {
  constexpr uint64_t kPieceRows = 1 << 18;
  const uint64_t rows = geometry.layers()[0].rows;
  ASSIGN_OR_RETURN(std::unique_ptr<MemoryStore> store,
                   MemoryStore::Create(geometry, kLayout, {{kScaleLayer, 0, rows}}));
  const MemoryStore::Place place = store->PlaceOf(kScaleLayer, 0);
  const auto fill = [&](uint64_t i, uint64_t& done) {
    const uint64_t end = std::min(rows, (i + 1) * kPieceRows);
    for (uint64_t row = i * kPieceRows; row < end; ++row) {
      uint8_t* const bytes = place.rows + row * kScaleRowBytes;
      FillRow(row, bytes);
      place.checksums[row] = Crc32c(bytes, kScaleRowBytes);
    }
    done += (end - i * kPieceRows) * kScaleRowBytes;
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(ForEachInParallel((rows + kPieceRows - 1) / kPieceRows, rows * kScaleRowBytes,
                                    {.what = "filling", .log = nullptr}, fill));
  return store;
}

std::vector<uint32_t> UniformIds(uint64_t rows) {
  std::mt19937_64 random(1);
  std::uniform_int_distribution<uint64_t> draw(0, rows - 1);
  std::vector<uint32_t> ids(kDrawn);
  for (uint32_t& id : ids) id = static_cast<uint32_t>(draw(random));
  return ids;
}

struct Timed {
  double rows_per_s = 0, p50_us = 0, p99_us = 0;

  nlohmann::json ToJson() const {
    return {{"rows_per_s", rows_per_s}, {"p50_us", p50_us}, {"p99_us", p99_us}};
  }
};

// One thread that asks for a batch of `ids` after the other; `gather(ids, out)` brings it.
template <typename Gather>
absl::StatusOr<Timed> TimeGathers(std::span<const uint32_t> ids, const ScaleOptions& options,
                                  const Gather& gather) {
  using Clock = std::chrono::steady_clock;
  std::vector<uint8_t> out(size_t{options.batch} * kScaleRowBytes);
  std::vector<double> us;
  size_t at = 0;
  const Clock::time_point start = Clock::now();
  Clock::time_point before = start;
  while (before - start < absl::ToChronoNanoseconds(options.time)) {
    if (at + options.batch > ids.size()) at = 0;
    RETURN_IF_ERROR(gather(ids.subspan(at, options.batch), out.data()));
    at += options.batch;
    const Clock::time_point after = Clock::now();
    us.push_back(std::chrono::duration<double, std::micro>(after - before).count());
    before = after;
  }
  const double seconds = std::chrono::duration<double>(before - start).count();
  return Timed{static_cast<double>(us.size()) * options.batch / seconds, Percentile(us, 0.5),
               Percentile(us, 0.99)};
}

Timed MedianOf(const std::vector<Timed>& runs) {
  const auto median = [&](double Timed::*field) {
    std::vector<double> values;
    for (const Timed& run : runs) values.push_back(run.*field);
    return Median(std::move(values));
  };
  return {median(&Timed::rows_per_s), median(&Timed::p50_us), median(&Timed::p99_us)};
}

// The same gather, and reads one after the other, over as many bytes on pages of one kind.
absl::StatusOr<nlohmann::json> MeasurePages(uint64_t rows, Pages pages, const ScaleOptions& options,
                                            std::span<const uint32_t> ids) {
  const auto fill = [](uint64_t begin, std::span<uint8_t> piece) {
    for (uint64_t at = 0; at < piece.size(); at += kScaleRowBytes) {
      FillRow((begin + at) / kScaleRowBytes, &piece[at]);
    }
  };
  ASSIGN_OR_RETURN(const ProbeMemory memory,
                   ProbeMemory::Create(rows * kScaleRowBytes, pages, fill));
  ASSIGN_OR_RETURN(const uint64_t huge, HugePageBytes());
  std::vector<Timed> gathers;
  std::vector<double> chases;
  for (uint32_t round = 0; round < options.rounds; ++round) {
    const auto gather = [&](std::span<const uint32_t> some, uint8_t* out) {
      GatherRows<uint32_t>(memory.data(), kScaleRowBytes, some.data(), some.size(), 0, out);
      return absl::OkStatus();
    };
    ASSIGN_OR_RETURN(gathers.emplace_back(), TimeGathers(ids, options, gather));
    chases.push_back(ChaseNs(memory.data(), rows, kScaleRowBytes, options.time));
  }
  return nlohmann::json{{"gather", MedianOf(gathers).ToJson()},
                        {"chase_ns", Median(chases)},
                        {"huge_page_bytes", huge}};
}

absl::StatusOr<nlohmann::json> MeasureStore(const RowStore& store, const ScaleOptions& options,
                                            std::span<const uint32_t> ids) {
  const auto gather = [&](std::span<const uint32_t> some, uint8_t* out) -> absl::Status {
    RETURN_IF_ERROR(store.Check(kScaleLayer, some));
    return store.Gather(kScaleLayer, some, out, nullptr);
  };
  ASSIGN_OR_RETURN(const uint64_t huge, HugePageBytes());
  std::vector<Timed> runs;
  for (uint32_t round = 0; round < options.rounds; ++round) {
    ASSIGN_OR_RETURN(runs.emplace_back(), TimeGathers(ids, options, gather));
  }
  nlohmann::json figures = MedianOf(runs).ToJson();
  figures["huge_page_bytes"] = huge;
  return figures;
}

// Rows of a running server against what they are made of.
absl::Status CompareRows(const std::string& address) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, Client::Connect({.servers = {address}}));
  const uint64_t rows = client->geometry().layers()[0].rows;
  std::mt19937_64 random(2);
  std::vector<int64_t> ids(kComparedRows);
  for (int64_t& id : ids) id = static_cast<int64_t>(random() % rows);
  ids.front() = 0;
  ids.back() = static_cast<int64_t>(rows) - 1;
  std::vector<uint8_t> got(ids.size() * kScaleRowBytes), expected(kScaleRowBytes);
  ASSIGN_OR_RETURN(Ticket ticket, client->SubmitRows({{kScaleLayer, ids, got}}, {}));
  RETURN_IF_ERROR(ticket.WaitAll());
  for (size_t i = 0; i < ids.size(); ++i) {
    FillRow(static_cast<uint64_t>(ids[i]), expected.data());
    if (!std::equal(expected.begin(), expected.end(), &got[i * kScaleRowBytes])) {
      return absl::DataLossError(absl::StrCat("row ", ids[i], " is another"));
    }
  }
  return absl::OkStatus();
}

// In a thread of its own, which it ties to a core. Latencies with one lookup at a time, the rate
// with four in flight.
absl::StatusOr<nlohmann::json> MeasureRemote(const std::string& address,
                                             const ScaleOptions& options) {
  RETURN_IF_ERROR(PinToCore(kClientCore));
  GatherOptions gather;
  gather.servers = {address};
  gather.layer = kScaleLayer;
  gather.batch = options.batch;
  gather.time = options.time;
  gather.spin = options.spin;
  std::vector<Timed> runs;
  for (uint32_t round = 0; round < options.rounds; ++round) {
    gather.depth = 1;
    ASSIGN_OR_RETURN(const nlohmann::json alone, RunGather(gather));
    gather.depth = 4;
    ASSIGN_OR_RETURN(const nlohmann::json deep, RunGather(gather));
    runs.push_back({deep["rows_per_s"].get<double>(), alone["p50_us"].get<double>(),
                    alone["p99_us"].get<double>()});
  }
  return MedianOf(runs).ToJson();
}

absl::Status Validate(const ScaleOptions& options) {
  if (options.rounds == 0) return absl::InvalidArgumentError("--rounds is 0");
  if (options.batch == 0 || options.batch > kDrawn) {
    return absl::InvalidArgumentError(absl::StrCat("--batch is not 1 to ", kDrawn));
  }
  for (const uint64_t rows : options.rows) {
    if (rows < 1600 || rows > 4'000'000'000) {
      return absl::InvalidArgumentError(
          absl::StrCat("--rows ", rows, " is not 1,600 to 4,000,000,000"));
    }
    // With its checksums, and something left for all else.
    const uint64_t needed = rows * (kScaleRowBytes + sizeof(uint32_t)) + (uint64_t{1} << 30);
    ASSIGN_OR_RETURN(const uint64_t left, MemoryAvailable());
    if (needed > left) {
      return absl::ResourceExhaustedError(
          absl::StrCat("--rows ", rows, " needs ", needed, " bytes of memory, there are ", left));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<nlohmann::json> RunScale(const ScaleOptions& options) {
  RETURN_IF_ERROR(Validate(options));
  ASSIGN_OR_RETURN(const std::string directory, OwnDirectory());
  nlohmann::json sizes = nlohmann::json::array();
  for (const uint64_t rows : options.rows) {
    ASSIGN_OR_RETURN(
        const std::unique_ptr<ChildProcess> server,
        ChildProcess::Start(
            {absl::StrCat(directory, "/engram-bench"), "scale-server", "--rows", absl::StrCat(rows),
             "--batch", absl::StrCat(options.batch), "--rounds", absl::StrCat(options.rounds),
             "--seconds", absl::StrCat(absl::ToDoubleSeconds(options.time)), "--spin-us",
             absl::StrCat(absl::ToInt64Microseconds(options.spin))},
            -1));
    const Disturbance disturbance({server->pid()});
    ASSIGN_OR_RETURN(const std::string measured, server->ReadLine(kFillTimeout));
    nlohmann::json size = nlohmann::json::parse(measured, nullptr, false);
    if (!size.is_object()) {
      return absl::InternalError(absl::StrCat("scale-server said `", measured, "`"));
    }
    ASSIGN_OR_RETURN(const std::string address, server->ReadLine(absl::Minutes(1)));
    RETURN_IF_ERROR(CompareRows(address));
    ASSIGN_OR_RETURN(size["remote"], std::async(std::launch::async, MeasureRemote,
                                                std::cref(address), std::cref(options))
                                         .get());
    const Disturbance::Shares shares = disturbance.Measure();
    size["steal_share"] = shares.steal;
    size["foreign_share"] = shares.foreign;
    sizes.push_back(std::move(size));
  }
  return nlohmann::json{{"row_bytes", kScaleRowBytes},
                        {"batch", options.batch},
                        {"rounds", options.rounds},
                        {"spin_us", absl::ToInt64Microseconds(options.spin)},
                        {"sizes", std::move(sizes)}};
}

absl::Status RunScaleServer(const ScaleOptions& options) {
  RETURN_IF_ERROR(Validate(options));
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGINT);
  pthread_sigmask(SIG_BLOCK, &ends, nullptr);  // before gRPC starts threads, which inherit it

  ASSIGN_OR_RETURN(Geometry geometry, GeometryOf(options.rows[0]));
  const uint64_t rows = geometry.layers()[0].rows;
  const std::vector<uint32_t> ids = UniformIds(rows);
  nlohmann::json measured = {{"rows", rows}, {"bytes", rows * kScaleRowBytes}};
  for (const auto& [name, pages] :
       {std::pair("pages_4k", Pages::kSmall), std::pair("pages_2m", Pages::kHuge)}) {
    ASSIGN_OR_RETURN(measured[name], MeasurePages(rows, pages, options, ids));
  }
  ASSIGN_OR_RETURN(std::unique_ptr<MemoryStore> store, FilledStore(geometry));
  ASSIGN_OR_RETURN(measured["local"], MeasureStore(*store, options, ids));
  std::printf("%s\n", measured.dump().c_str());
  std::fflush(stdout);

  RETURN_IF_ERROR(PinToCore(kServerCore));  // threads that start from here on, too
  Table table{.model = "engram-bench-scale",
              .geometry = std::move(geometry),
              .token_map = std::nullopt,
              .shard = {},
              .digest = {1},  // nobody has another
              .rows = std::move(store)};
  ServerOptions serving;
  serving.listen = "127.0.0.1:0";
  serving.threads = 1;
  serving.spin = options.spin;
  ASSIGN_OR_RETURN(const std::unique_ptr<Server> server,
                   Server::Start(std::make_shared<const Table>(std::move(table)), serving));
  std::printf("%s\n", server->address().c_str());
  std::fflush(stdout);
  int signal = 0;
  sigwait(&ends, &signal);
  return absl::OkStatus();
}

}  // namespace engram::bench
