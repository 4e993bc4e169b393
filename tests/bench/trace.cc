#include "tests/bench/trace.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <iostream>
#include <map>
#include <random>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "proto/base/status_macros.h"
#include "proto/hot_ngrams.h"
#include "storage/checkpoint.h"
#include "storage/synth_rows.h"
#include "storage/table.h"
#include "tests/bench/child_process.h"
#include "tests/bench/engramd_process.h"
#include "tests/bench/overlap/step_ids.h"
#include "tests/bench/peer_tables.h"
#include "tests/bench/peers/peer.h"
#include "tests/bench/statistics.h"

namespace engram::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint32_t kBareBatch = 16384;
constexpr uint32_t kBareDepth = 4;
constexpr size_t kUniformChunks = 32;
constexpr size_t kHotNgrams = 2'000'000;
constexpr size_t kGroup = 12;
constexpr uint32_t kNamedCacheMb = 512;
constexpr size_t kDepth = 3;
constexpr char kOff[] = "off";

// What a client may spare.
struct Variant {
  std::string name;
  bool dedup = false;
  uint64_t cache_bytes = 0;
};

// One pass over the chunks.
struct Pass {
  double seconds = 0;
  uint64_t rows = 0;
  ClientStats stats;  // of this pass alone
  double bare = 0;    // rows/s of the bare pair, run right before and after

  double rows_per_s() const { return static_cast<double>(rows) / seconds; }
};

ClientStats Since(const ClientStats& before, ClientStats after) {
  after.row_bytes -= before.row_bytes;
  for (size_t i = 0; i < after.ngrams.size(); ++i) {
    after.ngrams[i].looked_at -= before.ngrams[i].looked_at;
    after.ngrams[i].duplicates -= before.ngrams[i].duplicates;
    after.ngrams[i].cached -= before.ngrams[i].cached;
  }
  return after;
}

class TraceBench {
 public:
  TraceBench(const TraceBenchOptions& options, const Table& local, std::string server,
             std::string hot_ngrams)
      : options_(options),
        local_(local),
        server_(std::move(server)),
        hot_ngrams_(std::move(hot_ngrams)) {
    const size_t rows = size_t{options.chunk} * local.geometry.columns();
    const size_t bytes = rows * local.rows->layout().row_bytes();
    for (Buffers& buffers : buffers_) {
      buffers.assign(local.geometry.layers().size(),
                     Buffer((bytes + sizeof(Page) - 1) / sizeof(Page)));
    }
    right_.resize(bytes);
  }

  absl::StatusOr<std::unique_ptr<Client>> Connect(const Variant& variant) const {
    ClientOptions options;
    options.servers = {server_};
    options.spin = options_.spin;
    options.dedup = variant.dedup;
    options.cache_bytes = variant.cache_bytes;
    if (variant.cache_bytes > 0) options.hot_ngrams = hot_ngrams_;
    return Client::Connect(options);
  }

  // What lookups are delivered into, in pieces of so many rows, all of one size.
  std::vector<std::span<uint8_t>> BuffersOf(uint32_t rows) {
    const size_t bytes = rows * local_.rows->layout().row_bytes();
    std::vector<std::span<uint8_t>> pieces;
    for (Buffers& chunk : buffers_) {
      for (Buffer& layer : chunk) {
        for (size_t at = 0; at + bytes <= right_.size(); at += bytes) {
          pieces.emplace_back(layer.data()->bytes + at, bytes);
        }
      }
    }
    return pieces;
  }

  // Both layers of every chunk, some lookups in flight. After every kGroup chunks the clock stands
  // still while all of their rows are compared with the table's. The first group is not counted.
  absl::StatusOr<Pass> Run(Client& client, const StepPool& chunks) {
    Pass pass;
    ClientStats before = client.stats();
    const size_t group = chunks.size() < 2 * kGroup ? 1 : kGroup;
    for (size_t first = 0; first + group <= chunks.size(); first += group) {
      const Clock::time_point start = Clock::now();
      RETURN_IF_ERROR(RunGroup(client, chunks, first, group));
      const std::chrono::duration<double> took = Clock::now() - start;
      for (size_t i = 0; i < group; ++i) {
        RETURN_IF_ERROR(Check(chunks[first + i], buffers_[i]));
        if (first == 0) continue;
        for (const std::vector<int64_t>& ids : chunks[first + i]) pass.rows += ids.size();
      }
      if (first == 0) before = client.stats();
      if (first > 0) pass.seconds += took.count();
    }
    pass.stats = Since(before, client.stats());
    return pass;
  }

 private:
  struct alignas(4096) Page {
    uint8_t bytes[4096];
  };
  // An engine's are pinned, so they begin with a page.
  using Buffer = std::vector<Page>;
  using Buffers = std::vector<Buffer>;  // by layer, [chunk, columns, row_bytes]

  absl::Status RunGroup(Client& client, const StepPool& chunks, size_t first, size_t group) {
    std::array<Ticket, kGroup> tickets;
    for (size_t i = 0; i < group + kDepth; ++i) {
      if (i >= kDepth && i - kDepth < group) RETURN_IF_ERROR(tickets[i - kDepth].WaitAll());
      if (i >= group) continue;
      std::vector<RowsLookup> requests;
      for (size_t layer = 0; layer < buffers_[i].size(); ++layer) {
        requests.push_back({client.geometry().layers()[layer].layer_id, chunks[first + i][layer],
                            std::span(buffers_[i][layer].data()->bytes, right_.size())});
      }
      ASSIGN_OR_RETURN(tickets[i],
                       client.SubmitRows(requests, {.priority = LookupPriority::kPrefill}));
    }
    return absl::OkStatus();
  }

  absl::Status Check(const StepIds& ids, const Buffers& buffers) {
    for (size_t layer = 0; layer < buffers.size(); ++layer) {
      const std::span<const uint64_t> rows(reinterpret_cast<const uint64_t*>(ids[layer].data()),
                                           ids[layer].size());
      const uint32_t id = local_.geometry.layers()[layer].layer_id;
      RETURN_IF_ERROR(local_.rows->Gather(id, rows, right_.data(), nullptr));
      if (std::memcmp(right_.data(), buffers[layer].data()->bytes,
                      rows.size() * local_.rows->layout().row_bytes()) != 0) {
        return absl::InternalError(absl::StrCat("layer ", id, ": a wrong row"));
      }
    }
    return absl::OkStatus();
  }

  const TraceBenchOptions& options_;
  const Table& local_;
  const std::string server_;
  const std::string hot_ngrams_;  // file
  std::array<Buffers, kGroup> buffers_;
  std::vector<uint8_t> right_;
};

// Rows/s into `into`, as far apart as those of the lookups that it is held against.
absl::StatusOr<double> BareRate(Peer& bare, const std::vector<int64_t>& ids,
                                const std::vector<std::span<uint8_t>>& into, absl::Duration time) {
  BatchRun warm({ids, kBareBatch, kBareDepth, kSynthRowBytes, time / 8, nullptr, into});
  RETURN_IF_ERROR(bare.Ask(warm));
  BatchRun run({ids, kBareBatch, kBareDepth, kSynthRowBytes, time, nullptr, into});
  RETURN_IF_ERROR(bare.Ask(run));
  return run.rows_per_s();
}

// Text in which nothing repeats: token ids by lot.
TokenTrace UniformText(const Table& table, uint32_t chunk) {
  std::mt19937_64 random(1);
  std::vector<uint32_t> tokens(kUniformChunks * chunk);
  for (uint32_t& token : tokens) {
    token = static_cast<uint32_t>(random() % table.token_map->compressed().size());
  }
  return {std::move(tokens)};
}

absl::Status WriteHot(const Table& table, TokenTrace text, const std::string& path) {
  for (std::vector<uint32_t>& sequence : text) {
    for (uint32_t& token : sequence) {
      ASSIGN_OR_RETURN(token, table.token_map->Compress(token));
    }
  }
  return WriteHotNgrams(path, {table.token_map->sha256(),
                               CountNgrams(text, table.geometry.params().max_ngram, kHotNgrams)});
}

nlohmann::json ReportOf(const std::vector<Pass>& passes, const std::vector<Pass>& off) {
  std::vector<double> rates, to_bare, to_off;
  for (size_t i = 0; i < passes.size(); ++i) {
    rates.push_back(passes[i].rows_per_s());
    to_bare.push_back(rates.back() / passes[i].bare);
    to_off.push_back(rates.back() / off[i].rows_per_s());
  }
  const Pass& last = passes.back();
  nlohmann::json report = {{"rows_per_s", Median(rates)},
                           {"over_bare", Median(to_bare)},
                           {"over_off", Median(to_off)},
                           {"wire_share", static_cast<double>(last.stats.row_bytes) /
                                              (static_cast<double>(last.rows) * kSynthRowBytes)},
                           {"cache_bytes", last.stats.cache_bytes},
                           {"checked_rows", last.rows},
                           {"orders", nlohmann::json::array()}};
  const auto share = [](uint64_t part, uint64_t all) {
    return all == 0 ? 0 : static_cast<double>(part) / static_cast<double>(all);
  };
  for (const NgramStats& order : last.stats.ngrams) {
    report["orders"].push_back({{"layer", order.layer},
                                {"order", order.order},
                                {"duplicates", share(order.duplicates, order.looked_at)},
                                {"cached", share(order.cached, order.looked_at)}});
  }
  return report;
}

// Of one sequence; null where that was not measured.
nlohmann::json GuessWaitRatio(const nlohmann::json& guesses) {
  if (!guesses.is_object() || !guesses.contains("runs")) return nullptr;
  for (const nlohmann::json& run : guesses["runs"]) {
    if (run["sequences"] == 1) return run["wait_ratio"];
  }
  return nullptr;
}

std::vector<Variant> Variants(const TraceBenchOptions& options) {
  std::vector<Variant> variants = {{kOff}, {"dedup", true}};
  for (const uint32_t mb : options.cache_mb) {
    const uint64_t bytes = uint64_t{mb} * 1'000'000;
    variants.push_back({absl::StrCat("cache_", mb, "mb"), false, bytes});
    variants.push_back({absl::StrCat("dedup_cache_", mb, "mb"), true, bytes});
  }
  if (options.only.empty()) return variants;
  std::erase_if(variants, [&](const Variant& variant) {
    return variant.name != kOff &&
           std::find(options.only.begin(), options.only.end(), variant.name) == options.only.end();
  });
  return variants;
}

}  // namespace

absl::StatusOr<StepPool> TextChunks(const Table& table, const TokenTrace& text, uint32_t chunk) {
  Shape shape;
  shape.name = "text";
  shape.tokens_per_sequence = chunk;
  return StepPool::Hash(table.geometry, &*table.token_map, text, shape, SIZE_MAX);
}

TokenTrace TakeSecondHalf(TokenTrace& trace) {
  size_t left = 0;
  for (const std::vector<uint32_t>& sequence : trace) left += sequence.size();
  left -= left / 2;
  for (size_t i = 0; i < trace.size(); left -= trace[i++].size()) {
    if (trace[i].size() < left) continue;
    TokenTrace second = {{trace[i].begin() + static_cast<ptrdiff_t>(left), trace[i].end()}};
    if (second[0].empty()) second.clear();
    trace[i].resize(left);
    second.insert(second.end(), trace.begin() + static_cast<ptrdiff_t>(i) + 1, trace.end());
    trace.resize(i + 1);
    return second;
  }
  return {};
}

absl::StatusOr<nlohmann::json> RunTraceBench(const TraceBenchOptions& options) {
  PeerSetup setup;
  RETURN_IF_ERROR(PinToCore(setup.client_core));
  ASSIGN_OR_RETURN(TokenTrace first, ReadTokenTrace(options.trace));
  const TokenTrace second = TakeSecondHalf(first);

  ASSIGN_OR_RETURN(const ScratchDirectory scratch, ScratchDirectory::Create(""));
  setup.directory = scratch.path();
  setup.checkpoint = absl::StrCat(scratch.path(), "/table");
  setup.shard_map = absl::StrCat(setup.checkpoint, ".map");
  setup.rows = options.rows;
  setup.spin = options.spin;
  std::cerr << "writing a table\n";
  RETURN_IF_ERROR(MakePeerTable(setup.checkpoint, options.rows, options.tokenizer));
  LoadOptions load;
  load.checkpoint = setup.checkpoint;
  ASSIGN_OR_RETURN(const Table local, LoadTable(load));
  const std::string hot_ngrams = absl::StrCat(scratch.path(), "/hot");
  nlohmann::json guesses = nullptr;
  if (options.guesses.steps > 0) {
    ASSIGN_OR_RETURN(guesses,
                     RunGuessBench(options.guesses, setup.checkpoint, local, first, second));
  }
  if (options.only_guesses) {
    return nlohmann::json{{"trace", options.trace},
                          {"guesses", guesses},
                          {"guess_wait_ratio", GuessWaitRatio(guesses)},
                          {"wrong_rows", 0}};
  }
  RETURN_IF_ERROR(WriteHot(local, std::move(first), hot_ngrams));
  ASSIGN_OR_RETURN(const StepPool chunks, TextChunks(local, second, options.chunk));
  ASSIGN_OR_RETURN(const StepPool uniform,
                   TextChunks(local, UniformText(local, options.chunk), options.chunk));
  std::vector<int64_t> bare_ids;
  for (size_t i = 0; i < chunks.size(); ++i) {
    bare_ids.insert(bare_ids.end(), chunks[i][0].begin(), chunks[i][0].end());
  }
  bare_ids.resize(bare_ids.size() / kBareBatch * kBareBatch);

  ASSIGN_OR_RETURN(
      const auto server,
      EngramdProcess::Start({"--checkpoint", setup.checkpoint, "--threads", "1", "--spin-us",
                             absl::StrCat(absl::ToInt64Microseconds(options.spin))},
                            setup.server_core));
  TraceBench bench(options, local, server->address(), hot_ngrams);
  ASSIGN_OR_RETURN(const std::unique_ptr<Peer> bare, MakeRawPeer(setup));
  const std::vector<std::span<uint8_t>> into = bench.BuffersOf(kBareBatch);
  std::vector<double> bare_rates;
  std::map<std::string, std::vector<Pass>> on_text, on_uniform;
  std::vector<Variant> turns = Variants(options);
  for (uint32_t round = 0; round < options.rounds; ++round) {
    std::cerr << "round " << round + 1 << "\n";
    ASSIGN_OR_RETURN(double before, BareRate(*bare, bare_ids, into, options.time));
    std::rotate(turns.begin(), turns.begin() + 1, turns.end());
    for (const Variant& variant : turns) {
      ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, bench.Connect(variant));
      ASSIGN_OR_RETURN(Pass text, bench.Run(*client, chunks));
      ASSIGN_OR_RETURN(Pass nothing_repeats, bench.Run(*client, uniform));
      ASSIGN_OR_RETURN(const double after, BareRate(*bare, bare_ids, into, options.time));
      text.bare = nothing_repeats.bare = (before + after) / 2;
      bare_rates.push_back(before = after);
      on_text[variant.name].push_back(std::move(text));
      on_uniform[variant.name].push_back(std::move(nothing_repeats));
    }
  }
  nlohmann::json report = {{"trace", options.trace},
                           {"chunk_tokens", options.chunk},
                           {"chunks", chunks.size()},
                           {"rounds", options.rounds},
                           {"bare_rows_per_s", Median(bare_rates)}};
  for (const auto& [name, passes] : on_text) {
    report["text"][name] = ReportOf(passes, on_text[kOff]);
  }
  for (const auto& [name, passes] : on_uniform) {
    report["uniform"][name] = ReportOf(passes, on_uniform[kOff]);
  }
  const std::string cached = absl::StrCat("dedup_cache_", kNamedCacheMb, "mb");
  const auto figure = [&](const std::string& name, const char* field) -> nlohmann::json {
    return report["text"].contains(name) ? report["text"][name][field] : nullptr;
  };
  report["rows_vs_raw_dedup"] = figure("dedup", "over_bare");
  report["rows_vs_raw_cache"] = figure(cached, "over_bare");
  report["wire_bytes_ratio"] = figure(cached, "wire_share");
  report["guesses"] = guesses;
  report["guess_wait_ratio"] = GuessWaitRatio(guesses);
  report["wrong_rows"] = 0;  // one would have ended the run
  return report;
}

}  // namespace engram::bench
