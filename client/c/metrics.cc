// What a client counts, as Prometheus' samples.
#include <initializer_list>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/c/handles.h"
#include "client/c/status.h"
#include "proto/base/status_macros.h"
#include "proto/version.h"

namespace engram {
namespace {

class Visitor {
 public:
  Visitor(engram_metric_fn visit, void* user) : visit_(visit), user_(user) {}

  void Sample(const char* name, const char* help, int32_t kind, uint64_t value,
              std::initializer_list<engram_label> labels = {}) const {
    const engram_metric metric{sizeof(engram_metric),
                               name,
                               help,
                               kind,
                               0,
                               labels.size() == 0 ? nullptr : labels.begin(),
                               labels.size(),
                               static_cast<double>(value)};
    visit_(user_, &metric);
  }

 private:
  const engram_metric_fn visit_;
  void* const user_;
};

struct Counter {
  const char* name;
  const char* help;
  uint64_t ClientStats::*value;
};

constexpr Counter kCounters[] = {
    {"engram_client_requests_total", "Requests sent to servers, second ones included.",
     &ClientStats::requests},
    {"engram_client_retries_total", "Requests sent to another server because one has failed.",
     &ClientStats::retries},
    {"engram_client_hedges_total", "Requests sent to another server because one was slow.",
     &ClientStats::hedges},
    {"engram_client_hedges_won_total", "Of those, answered first.", &ClientStats::hedges_won},
    {"engram_client_ejections_total", "Servers put aside for being slow or failing.",
     &ClientStats::ejections},
    {"engram_client_degraded_tokens_total", "Tokens, a layer each, that got zeros instead of rows.",
     &ClientStats::degraded_tokens},
    {"engram_client_verified_rows_total", "Rows held against their checksums.",
     &ClientStats::verified_rows},
    {"engram_client_checksum_failures_total", "Rows that differed from their checksums.",
     &ClientStats::checksum_failures},
    {"engram_client_row_bytes_total", "Bytes of rows received.", &ClientStats::row_bytes},
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

void VisitAll(const engram_client& handle, const Visitor& visitor) {
  const Client& client = *handle.client;
  const ClientStats stats = client.stats();
  visitor.Sample("engram_client_info", "What the client is connected to; always 1.",
                 ENGRAM_METRIC_GAUGE, 1,
                 {{"version", kVersion},
                  {"model", client.model().c_str()},
                  {"digest", handle.digest.c_str()}});
  for (const Counter& counter : kCounters) {
    visitor.Sample(counter.name, counter.help, ENGRAM_METRIC_COUNTER, stats.*counter.value);
  }
  for (const NgramCounter& counter : kNgramCounters) {
    for (const NgramStats& ngrams : stats.ngrams) {
      const std::string layer = absl::StrCat(ngrams.layer), order = absl::StrCat(ngrams.order);
      visitor.Sample(counter.name, counter.help, ENGRAM_METRIC_COUNTER, ngrams.*counter.value,
                     {{"layer", layer.c_str()}, {"order", order.c_str()}});
    }
  }
  visitor.Sample("engram_client_cache_bytes", "Memory of the cache, keys and all.",
                 ENGRAM_METRIC_GAUGE, stats.cache_bytes);
  visitor.Sample("engram_client_prefetch_bytes", "Memory that prefetches hold.",
                 ENGRAM_METRIC_GAUGE, client.prefetch_bytes());
  visitor.Sample("engram_client_missing_rows", "Rows that no connected server holds.",
                 ENGRAM_METRIC_GAUGE, TotalRows(client.MissingRanges()));
}

}  // namespace
}  // namespace engram

engram_status* engram_client_visit_metrics(const engram_client* client, engram_metric_fn visit,
                                           void* user) {
  return engram::Call([&]() -> absl::Status {
    RETURN_IF_ERROR(engram::CheckNotNull(client, "client"));
    RETURN_IF_ERROR(engram::CheckNotNull(reinterpret_cast<const void*>(visit), "visit"));
    engram::VisitAll(*client, {visit, user});
    return absl::OkStatus();
  });
}
