#include "client/metrics.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/version.h"

namespace engram {
namespace {

struct Counter {
  const char* name;
  const char* help;
  uint64_t ClientStats::*value;
};

constexpr Counter kCounters[] = {
    {"engram_client_lookups_total", "Lookups that are over.", &ClientStats::lookups},
    {"engram_client_failed_lookups_total", "Of those, that ended in an error.",
     &ClientStats::failed_lookups},
    {"engram_client_degraded_tokens_total", "Tokens, a layer each, that got zeros instead of rows.",
     &ClientStats::degraded_tokens},
    {"engram_client_masked_rows_total", "\"No row\" among the ids of lookups.",
     &ClientStats::masked_rows},
    {"engram_client_requests_total", "Requests sent to servers, second ones included.",
     &ClientStats::requests},
    {"engram_client_retries_total", "Requests sent to another server because one has failed.",
     &ClientStats::retries},
    {"engram_client_hedges_total", "Requests sent to another server because one was slow.",
     &ClientStats::hedges},
    {"engram_client_hedges_won_total", "Of those, answered first.", &ClientStats::hedges_won},
    {"engram_client_ejections_total", "Servers put aside for being slow or failing.",
     &ClientStats::ejections},
    {"engram_client_shed_total", "Requests not sent: no answer would have come in time.",
     &ClientStats::shed},
    {"engram_client_rows_total", "Rows received.", &ClientStats::rows},
    {"engram_client_row_bytes_total", "Bytes of rows received.", &ClientStats::row_bytes},
    {"engram_client_verified_rows_total", "Rows held against their checksums.",
     &ClientStats::verified_rows},
    {"engram_client_checksum_failures_total", "Rows that differed from their checksums.",
     &ClientStats::checksum_failures},
    {"engram_client_guess_steps_total", "Steps for which rows of likely tokens were fetched.",
     &ClientStats::guess_steps},
    {"engram_client_guess_steps_spared_total",
     "Of those, all of whose rows were there when they were wanted.",
     &ClientStats::guess_steps_spared},
    {"engram_client_guess_tokens_total", "Tokens for which some were fetched.",
     &ClientStats::guess_tokens},
    {"engram_client_guess_hits_total", "Of those, that came.", &ClientStats::guess_hits},
    {"engram_client_guess_late_total", "Of those, whose rows had not come yet, or had failed.",
     &ClientStats::guess_late},
    {"engram_client_guess_bytes_total", "Bytes of rows asked for by guesses.",
     &ClientStats::guess_bytes},
    {"engram_client_guess_stops_total", "Times that guessing was stopped.",
     &ClientStats::guess_stops},
    {"engram_client_guess_starts_total", "Times that it was started again.",
     &ClientStats::guess_starts},
};

struct NgramCounter {
  const char* name;
  const char* help;
  uint64_t NgramStats::*value;
};

constexpr NgramCounter kNgramCounters[] = {
    {"engram_client_ngrams_total", "N-grams looked through for what need not be fetched.",
     &NgramStats::looked_at},
    {"engram_client_ngrams_duplicate_total", "Of those, in their lookup before.",
     &NgramStats::duplicates},
    {"engram_client_ngrams_cached_total", "Of those, served from the client's cache.",
     &NgramStats::cached},
};

void AddWaits(MetricList& metrics, const ClientStats& stats) {
  for (const LayerStats& layer : stats.layers) {
    metrics.Latency("engram_client_stall_seconds", "How long callers were held in Wait.",
                    layer.stall, {{"layer", absl::StrCat(layer.layer)}});
  }
  for (const LayerStats& layer : stats.layers) {
    metrics.Latency("engram_client_word_seconds",
                    "Of slots: from a step's submit to its layer's word.", layer.word,
                    {{"layer", absl::StrCat(layer.layer)}});
  }
  metrics.Latency("engram_client_fetch_seconds",
                  "From a lookup's submit until the last layer's rows are in place.", stats.fetch);
}

void AddRequests(MetricList& metrics, const ClientStats& stats) {
  for (size_t i = 0; i < kAnswers.size(); ++i) {
    metrics.Latency("engram_client_request_seconds",
                    "From sending a request to the end of its answer.", stats.answers[i],
                    {{"answer", kAnswers[i]}});
  }
  metrics.Latency("engram_client_straggler_gap_seconds",
                  "From a layer's first part that is over to its last.", stats.straggler_gap);
  for (const auto& [direction, bytes] :
       {std::pair("sent", stats.sent_bytes), std::pair("received", stats.received_bytes)}) {
    metrics.Counter("engram_client_wire_bytes_total", "Bytes of connections.", bytes,
                    {{"direction", direction}});
  }
  for (const auto& [state, servers] :
       {std::pair("connected", stats.connected_servers),
        std::pair("ejected", stats.ejected_servers), std::pair("gone", stats.gone_servers)}) {
    metrics.Gauge("engram_client_servers", "Servers that the client knows.", servers,
                  {{"state", state}});
  }
}

void AddNgrams(MetricList& metrics, const ClientStats& stats) {
  for (const NgramCounter& counter : kNgramCounters) {
    for (const NgramStats& ngrams : stats.ngrams) {
      metrics.Counter(
          counter.name, counter.help, ngrams.*counter.value,
          {{"layer", absl::StrCat(ngrams.layer)}, {"order", absl::StrCat(ngrams.order)}});
    }
  }
}

}  // namespace

std::vector<MetricFamily> ClientMetrics(const Client& client) {
  const ClientStats stats = client.stats();
  MetricList metrics;
  metrics.Gauge(
      "engram_client_info", "What the client is connected to; always 1.", uint64_t{1},
      {{"version", kVersion}, {"model", client.model()}, {"digest", ToHex(client.digest())}});
  AddWaits(metrics, stats);
  AddRequests(metrics, stats);
  for (const Counter& counter : kCounters) {
    metrics.Counter(counter.name, counter.help, stats.*counter.value);
  }
  AddNgrams(metrics, stats);
  metrics.Gauge("engram_client_cache_bytes", "Memory of the cache, keys and all.",
                stats.cache_bytes);
  metrics.Gauge("engram_client_prefetch_bytes", "Memory that prefetches hold.",
                client.prefetch_bytes());
  metrics.Gauge("engram_client_missing_rows", "Rows that no connected server holds.",
                TotalRows(client.MissingRanges()));
  return std::move(metrics).Take();
}

}  // namespace engram
