"""A client's metrics for Prometheus: as text, at a port of their own, or in prometheus_client's registry.

    exporter = engram_client.metrics.serve(client, 9101)      # http://127.0.0.1:9101/metrics
    prometheus_client.REGISTRY.register(engram_client.metrics.Collector(client))
"""
from __future__ import annotations

import http.server
import math
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple


class Metric(NamedTuple):
    """One sample, in Prometheus' terms. `kind`: "counter", "gauge" or "histogram".

    Of a histogram `value` is how many values there were, `sum` their sum and `buckets` pairs of a bound
    and how many lie at or below it, the last one infinite.
    """
    name: str
    help: str
    kind: str
    labels: dict[str, str]
    value: float
    buckets: tuple[tuple[float, int], ...] = ()
    sum: float = 0.0


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf"
    return str(int(value)) if float(value).is_integer() else repr(value)


def _line(name: str, labels: dict[str, str], value: float) -> str:
    inside = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
    return f"{name}{{{inside}}} {_number(value)}" if inside else f"{name} {_number(value)}"


def _lines(metric: Metric) -> Iterator[str]:
    if metric.kind != "histogram":
        yield _line(metric.name, metric.labels, metric.value)
        return
    for bound, count in metric.buckets:
        yield _line(metric.name + "_bucket", {**metric.labels, "le": _number(bound)}, count)
    yield _line(metric.name + "_sum", metric.labels, metric.sum)
    yield _line(metric.name + "_count", metric.labels, metric.value)


def text(metrics: Iterable[Metric]) -> str:
    """Metrics, those of one name one behind the other, as Prometheus reads them (text format 0.0.4)."""
    lines, before = [], None
    for metric in metrics:
        if metric.name != before:
            lines += [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}"]
            before = metric.name
        lines += _lines(metric)
    return "\n".join(lines) + "\n"


class Exporter:
    """Serves /metrics on threads of its own until it is closed, at the latest before the client is."""

    def __init__(self, render: Callable[[], str], host: str, port: int):
        class Handler(http.server.BaseHTTPRequestHandler):
            timeout = 10  # seconds that a scraper may hang

            def do_GET(self) -> None:
                if self.path.partition("?")[0] != "/metrics":
                    self.send_error(404)
                    return
                body = render().encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # a scrape is not worth a line
                pass

        # A thread a scraper, none of which keeps the process alive.
        self._server = http.server.ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.address = f"{host}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True,
                                        name="engram-metrics")
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Exporter:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()


def serve(client: Any, port: int, host: str = "127.0.0.1") -> Exporter:
    """Serves the client's metrics at http://host:port/metrics (port 0 picks one: `.address`)."""
    return Exporter(client.metrics_text, host, port)


class Collector:
    """For prometheus_client: `REGISTRY.register(Collector(client))`. Needs that package."""

    def __init__(self, client: Any):
        self._client = client

    def collect(self) -> Iterator[Any]:
        from prometheus_client import core
        family = None
        for metric in self._client.metrics():
            name = metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name
            if family is None or family.name != name:
                if family is not None:
                    yield family
                kinds = {"counter": core.CounterMetricFamily, "gauge": core.GaugeMetricFamily,
                         "histogram": core.HistogramMetricFamily}
                family = kinds[metric.kind](metric.name, metric.help, labels=list(metric.labels))
            labels = list(metric.labels.values())
            if metric.kind == "histogram":
                buckets = [(_number(bound), count) for bound, count in metric.buckets]
                family.add_metric(labels, buckets=buckets, sum_value=metric.sum)
            else:
                family.add_metric(labels, metric.value)
        if family is not None:
            yield family
