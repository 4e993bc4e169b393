#!/usr/bin/env python3
"""Writes dashboards/*.json for Grafana from the lists below; --check: fails where a file differs.

A panel is (title, unit, what it tells, {legend: expression}); a row of panels is (heading, panels).
"""
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
WIDTH, HEIGHT = 8, 7  # three panels a row of Grafana's 24 columns


def quantile(q, metric, by=""):
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({labels}) (rate({metric}_bucket[5m])))"


def per_second(metric, by="", window="5m"):
    return f"sum by ({by}) (rate({metric}[{window}]))" if by else f"sum(rate({metric}[{window}]))"


def ratio(part, whole, by=""):
    return f"{per_second(part, by)} / {per_second(whole, by)}"


STALLS = ("Is a GPU waiting?", [
    ("Time that GPUs stand still, by layer", "percentunit",
     "Seconds a second a worker; the alert is at 2 %.",
     {"layer {{layer}}": "engram:client_stall:ratio_rate5m"}),
    ("One wait, 99th percentile", "s", "Of those that were counted, also the shortest.",
     {"layer {{layer}}": quantile(0.99, "engram_client_stall_seconds", "layer")}),
    ("Zeros instead of rows", "short", "Tokens a second, a layer each; failed lookups beside it.",
     {"tokens": per_second("engram_client_degraded_tokens_total"),
      "failed lookups": per_second("engram_client_failed_lookups_total")}),
    ("Fetch, submit to last row", "s", "A stall is what of it the layers before did not hide.",
     {"p50": quantile(0.5, "engram_client_fetch_seconds"),
      "p99": "engram:client_fetch_seconds:p99_5m"}),
    ("Lookups", "ops", "That are over; of those, failed.",
     {"over": per_second("engram_client_lookups_total"),
      "failed": per_second("engram_client_failed_lookups_total")}),
    ("Rows no server holds", "short", "Seen from workers.",
     {"rows": "max(engram_client_missing_rows)"}),
])
# Panels whose metrics exist for one store alone.
ROCKSDB = ("A shard on disk (--store rocksdb)", [
    ("Rows from the cache", "percentunit", "Of those asked for.",
     {"{{instance}}":
      "sum by (instance) (rate(engram_rocksdb_cache_hits_total[5m])) / "
      "(sum by (instance) (rate(engram_rocksdb_cache_hits_total[5m])) + "
      "sum by (instance) (rate(engram_rocksdb_cache_misses_total[5m])))"}),
    ("Blocks read from disk", "ops", "A second.",
     {"{{instance}}": per_second("engram_rocksdb_blocks_read_total", "instance")}),
    ("Rows lost", "ops", "Answers of rows that could not be read.",
     {"{{instance}}": per_second("engram_rocksdb_lost_rows_total", "instance")}),
])

DASHBOARDS = {
    "fleet": ("Engram: fleet", "Is anyone's GPU waiting, and why: the causes follow the data's way.", [
        STALLS,
        ("1. The client: what need not be fetched", [
            ("N-grams spared", "percentunit", "In their lookup before; in the client's cache.",
             {"duplicate": ratio("engram_client_ngrams_duplicate_total",
                                 "engram_client_ngrams_total"),
              "cached": ratio("engram_client_ngrams_cached_total", "engram_client_ngrams_total")}),
            ("Rows masked and received", "ops", "No row asked for; rows that came.",
             {"masked": per_second("engram_client_masked_rows_total"),
              "received": per_second("engram_client_rows_total")}),
            ("On the wire", "Bps", "All workers; of that received, rows.",
             {"{{direction}}": per_second("engram_client_wire_bytes_total", "direction"),
              "rows": per_second("engram_client_row_bytes_total")}),
        ]),
        ("2. Fan-out: other servers asked", [
            ("Request, by answer, 99th percentile", "s", "Network and server together.",
             {"{{answer}}": quantile(0.99, "engram_client_request_seconds", "answer")}),
            ("Straggler gap, 99th percentile", "s", "From a layer's first part to its last: one slow server.",
             {"gap": quantile(0.99, "engram_client_straggler_gap_seconds")}),
            ("Sent again", "percentunit", "Of requests: after a failure, because one was slow, and came first.",
             {"retries": ratio("engram_client_retries_total", "engram_client_requests_total"),
              "hedges": ratio("engram_client_hedges_total", "engram_client_requests_total"),
              "hedges won": ratio("engram_client_hedges_won_total",
                                  "engram_client_requests_total")}),
            ("Requests sent", "reqps", "All workers, second ones included; not sent: no time was left for them.",
             {"requests": per_second("engram_client_requests_total"),
              "not sent": per_second("engram_client_shed_total")}),
            ("Servers, as workers see them", "short", "Mean over workers.",
             {"{{state}}": "avg by (state) (engram_client_servers)"}),
            ("Servers put aside", "ops", "A second.",
             {"ejections": per_second("engram_client_ejections_total")}),
        ]),
        ("3. Admission: who is there, and refuses", [
            ("Servers ready", "short", "By shard.",
             {"shard {{shard}}": "engram:servers_ready:sum"}),
            ("Requests that fail", "percentunit", "The fleet's own errors; 0.1 % is allowed.",
             {"5 minutes": "engram:request_errors:ratio_rate5m",
              "6 hours": "engram:request_errors:ratio_rate6h"}),
            ("Errors by reason", "reqps", "Callers' mistakes included.",
             {"{{reason}}": per_second("engram_request_errors_total", "reason")}),
        ]),
        ("4. Queue, gather, send", [
            ("Slow requests", "percentunit", "Over 5 ms in the server; 1 % is allowed.",
             {"5 minutes": "engram:requests_slow:ratio_rate5m",
              "6 hours": "engram:requests_slow:ratio_rate6h"}),
            ("Stages, 99th percentile", "s", "",
             {"{{stage}}": quantile(0.99, "engram_request_stage_seconds", "stage")}),
            ("Slowest shard, 99th percentile", "s", "The slowest decides when a lookup is done.",
             {"shard {{shard}}": "topk(3, " +
              quantile(0.99, "engram_request_duration_seconds", "shard") + ")"}),
        ]),
        ("5. The rows' memory", [
            ("Pages read from disk", "ops", "A second; 0 for rows in memory.",
             {"{{instance}}": per_second("engram_major_faults_total", "instance")}),
            ("Checksum failures", "short", "In an hour; anything but 0 is an incident.",
             {"servers": "sum(increase(engram_checksum_failures_total[1h]))",
              "workers": "sum(increase(engram_client_checksum_failures_total[1h]))"}),
            ("Active tables of a model", "short", "More than 1: some servers have another.",
             {"{{model}}": "engram:table_digests:count"}),
        ]),
    ]),
    "server": ("Engram: servers", "One line a server.", [
        ("Work", [
            ("Requests", "reqps", "",
             {"{{instance}} {{priority}}": per_second("engram_requests_total", "instance, priority")}),
            ("Rows a request", "short", "Mean.",
             {"{{instance}}": ratio("engram_request_rows_sum", "engram_request_rows_count",
                                    "instance")}),
            ("Bytes of rows sent", "Bps", "",
             {"{{instance}}": per_second("engram_sent_row_bytes_total", "instance")}),
        ]),
        ("Time", [
            ("Request, 99th percentile", "s", "",
             {"{{instance}}": quantile(0.99, "engram_request_duration_seconds", "instance")}),
            ("Mean time by stage", "s", "Of all servers; stacked it is the whole.",
             {"{{stage}}": ratio("engram_request_stage_seconds_sum",
                                 "engram_request_stage_seconds_count", "stage")}),
            ("Requests in flight", "short", "Taken and not answered.",
             {"{{instance}}": "engram_requests_in_flight"}),
            ("Bytes in flight", "bytes", "Of rows that those are still to get.",
             {"{{instance}}": "engram_in_flight_bytes"}),
            ("Streams", "short", "Open.", {"{{instance}}": "engram_streams"}),
            ("Unary calls, 99th percentile", "s", "Describe, Gather, Publish and so on.",
             {"{{grpc_method}}": quantile(0.99, "grpc_server_call_duration_seconds",
                                          "grpc_method")}),
        ]),
        ("Refused and failed", [
            ("By reason", "reqps", "", {"{{reason}}": per_second("engram_request_errors_total", "reason")}),
            ("By server", "reqps", "",
             {"{{instance}}": per_second("engram_request_errors_total", "instance")}),
            ("Rows lost, calls denied", "ops", "",
             {"rows": per_second("engram_lost_rows_total"),
              "calls": per_second("engram_denied_calls_total")}),
        ]),
        ("The process", [
            ("Cores", "short", "CPU seconds a second.",
             {"{{instance}}": per_second("engram_cpu_seconds_total", "instance")}),
            ("Up for", "s", "", {"{{instance}}": "time() - engram_start_time_seconds"}),
            ("Open descriptors", "short", "", {"{{instance}}": "engram_open_fds"}),
            ("Resident", "bytes", "", {"{{instance}}": "engram_resident_bytes"}),
            ("Table on huge pages", "percentunit", "",
             {"{{instance}}": "engram_huge_page_bytes / engram_table_bytes"}),
            ("Pages read from disk", "ops", "",
             {"{{instance}}": per_second("engram_major_faults_total", "instance")}),
        ]),
        ("State", [
            ("State", "short", "Servers in it.", {"{{state}}": "sum by (state) (engram_state)"}),
            ("Load", "percentunit", "Of the shard's bytes.",
             {"{{instance}}": "engram_load_progress_ratio"}),
            ("Seconds to load", "s", "", {"{{instance}}": "engram_load_seconds"}),
            ("Version and table", "short", "",
             {"{{version}}": "count by (version) (engram_build_info)",
              "{{model}} {{digest}}": "count by (model, digest) (engram_table_info == 1)"}),
            ("Generations held", "short", "", {"{{instance}}": "engram_generations"}),
            ("Rows that generations change", "short", "", {"{{instance}}": "engram_changed_rows"}),
            ("Verification", "short", "Passes over all rows since the load.",
             {"{{instance}}": "engram_verification_passes_total"}),
            ("Certificate ends in", "s", "Nothing without TLS.",
             {"{{instance}}": "(engram_certificate_expiry_seconds > 0) - time()"}),
            ("Certificates read again", "short", "In a day.",
             {"{{result}}": "sum by (result) (increase(engram_certificate_reloads_total[1d]))"}),
            ("Checksum failures", "short", "Since its start.",
             {"{{instance}}": "engram_checksum_failures_total"}),
        ]),
        ROCKSDB,
    ]),
    "client": ("Engram: workers", "One line a worker.", [
        STALLS,
        ("Fetches", [
            ("Stall, all layers", "percentunit", "Seconds a second.",
             {"{{instance}}": per_second("engram_client_stall_seconds_sum", "instance")}),
            ("Requests", "reqps", "",
             {"{{instance}}": per_second("engram_client_requests_total", "instance")}),
            ("Rows received", "Bps", "",
             {"{{instance}}": per_second("engram_client_row_bytes_total", "instance")}),
        ]),
        ("Replicas", [
            ("Retries", "ops", "", {"{{instance}}": per_second("engram_client_retries_total",
                                                               "instance")}),
            ("Hedges", "ops", "Sent; came first.",
             {"{{instance}} sent": per_second("engram_client_hedges_total", "instance"),
              "{{instance}} won": per_second("engram_client_hedges_won_total", "instance")}),
            ("Put aside", "ops", "Servers a second.",
             {"{{instance}}": per_second("engram_client_ejections_total", "instance")}),
        ]),
        ("What need not be fetched", [
            ("Duplicates, by order", "percentunit", "",
             {"order {{order}}": ratio("engram_client_ngrams_duplicate_total",
                                       "engram_client_ngrams_total", "order")}),
            ("Cached, by order", "percentunit", "",
             {"order {{order}}": ratio("engram_client_ngrams_cached_total",
                                       "engram_client_ngrams_total", "order")}),
            ("Memory", "bytes", "",
             {"{{instance}} cache": "engram_client_cache_bytes",
              "{{instance}} prefetches": "engram_client_prefetch_bytes"}),
        ]),
        ("Guesses of next tokens", [
            ("Steps, and those spared", "ops", "Spared: no row had to be waited for.",
             {"steps": per_second("engram_client_guess_steps_total"),
              "spared": per_second("engram_client_guess_steps_spared_total")}),
            ("Tokens guessed, hit, late", "ops", "",
             {"guessed": per_second("engram_client_guess_tokens_total"),
              "hit": per_second("engram_client_guess_hits_total"),
              "late": per_second("engram_client_guess_late_total")}),
            ("Bytes asked for by guesses", "Bps", "",
             {"rows": per_second("engram_client_guess_bytes_total")}),
        ]),
        ("Checks", [
            ("Rows verified", "ops", "A second.",
             {"{{instance}}": per_second("engram_client_verified_rows_total", "instance")}),
            ("Checksum failures", "short", "Since its start.",
             {"{{instance}}": "engram_client_checksum_failures_total"}),
            ("Version and table", "short", "",
             {"{{version}} {{digest}}": "count by (version, digest) (engram_client_info)"}),
        ]),
    ]),
}
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def panel(number, spec, x, y):
    title, unit, description, expressions = spec
    return {
        "id": number, "type": "timeseries", "title": title, "description": description,
        "datasource": DATASOURCE, "gridPos": {"h": HEIGHT, "w": WIDTH, "x": x, "y": y},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True,
                               "calcs": []},
                    "tooltip": {"mode": "multi", "sort": "desc"}},
        "targets": [{"refId": chr(ord("A") + i), "expr": expr, "legendFormat": legend,
                     "datasource": DATASOURCE} for i, (legend, expr) in enumerate(expressions.items())],
    }


def dashboard(name, title, description, rows):
    panels, y = [], 0
    for heading, specs in rows:
        panels.append({"id": len(panels) + 1, "type": "row", "title": heading, "collapsed": False,
                       "panels": [], "gridPos": {"h": 1, "w": 24, "x": 0, "y": y}})
        y += 1
        for i, spec in enumerate(specs):
            if i and i % 3 == 0:
                y += HEIGHT
            panels.append(panel(len(panels) + 1, spec, i % 3 * WIDTH, y))
        y += HEIGHT
    return {
        "uid": f"engram-{name}", "title": title, "description": description, "tags": ["engram"],
        "editable": True, "graphTooltip": 1, "refresh": "10s", "schemaVersion": 39, "version": 1,
        "time": {"from": "now-1h", "to": "now"}, "timezone": "browser",
        "templating": {"list": [{"name": "datasource", "label": "Prometheus", "type": "datasource",
                                 "query": "prometheus"}]},
        "links": [{"title": "Engram", "type": "dashboards", "tags": ["engram"], "asDropdown": False,
                   "icon": "", "includeVars": False, "keepTime": True, "targetBlank": False,
                   "tooltip": "", "url": ""}],
        "panels": panels,
    }


def main():
    different = []
    for name, (title, description, rows) in DASHBOARDS.items():
        text = json.dumps(dashboard(name, title, description, rows), indent=1) + "\n"
        path = HERE / "dashboards" / f"{name}.json"
        if "--check" not in sys.argv:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            different.append(path.name)
    if different:
        sys.exit(f"error: make_dashboards.py writes something else than {', '.join(different)}")


if __name__ == "__main__":
    main()
