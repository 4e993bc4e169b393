#!/usr/bin/env python3
"""A worker without the model: decode steps whose layers wait for their rows.

Each step asks for the rows of all sequences' tokens at all layers when it begins, then "computes" up to each
layer in turn and waits there. Its client's metrics are at http://ADDRESS/metrics.
"""
import argparse
import json
import time

import engram_client
import numpy as np

SEQUENCES = 64
MODEL_LAYERS = 40
VOCABULARY = 20_000  # distinct n-grams that the text of the sequences is drawn from
TIMEOUT_S = 1.0


class Worker:
    """Steps of 64 sequences, one token each."""

    def __init__(self, client, step_s, missing_rows):
        self._client, self._step_s, self._missing_rows = client, step_s, missing_rows
        self._random = np.random.default_rng(1)
        table = client.table
        self._rows = {layer: client.layer(layer).column_rows.astype(np.uint64)
                      for layer in table.layers}
        self._outs = {layer: np.empty((SEQUENCES, table.columns, table.row_bytes), np.uint8)
                      for layer in table.layers}
        self._degraded = np.empty(SEQUENCES, np.uint8) if missing_rows == "zeros" else None

    def run(self):
        while True:
            begun = time.monotonic()
            try:
                self._step(begun)
            except engram_client.EngramError as error:
                if error.code == "INVALID_ARGUMENT":  # ours, and no better next time
                    raise
                print(f"{error.code}: {error}", flush=True)
            time.sleep(max(0.0, begun + self._step_s - time.monotonic()))

    def _step(self, begun):
        ngrams = (self._random.zipf(1.2, SEQUENCES) % VOCABULARY).astype(np.uint64)
        requests = {layer: (self._ids(ngrams, layer), out) for layer, out in self._outs.items()}
        ticket = self._client.submit(requests, per_column=True, timeout=TIMEOUT_S,
                                     missing_rows=self._missing_rows, degraded=self._degraded)
        stalled = 0.0
        for layer in requests:
            reach = begun + stalled + self._step_s * layer / MODEL_LAYERS
            time.sleep(max(0.0, reach - time.monotonic()))
            reached = time.monotonic()
            ticket.wait(layer)
            stalled += time.monotonic() - reached

    def _ids(self, ngrams, layer):
        """[sequences, columns], each of its column: a hash of the n-gram, as a model's would be."""
        with np.errstate(over="ignore"):
            mixed = (ngrams[:, None] + np.uint64(layer)) * np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(29)
        return (mixed % self._rows[layer][None, :]).astype(np.int64)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", required=True, help="any of the servers, with commas")
    parser.add_argument("--metrics", required=True, help="host:port to serve metrics at")
    parser.add_argument("--step-ms", type=float, default=50, help="of a step, without waits")
    parser.add_argument("--settings", type=json.loads, default={},
                        help="settings of the client as JSON (client/c/README.md)")
    parser.add_argument("--missing-rows", choices=["fail", "zeros"], default="fail",
                        help="what rows that cannot be had do to a lookup")
    args = parser.parse_args()
    host, port = args.metrics.rsplit(":", 1)
    with engram_client.Client(args.servers.split(","), **args.settings) as client:
        with engram_client.metrics.serve(client, int(port), host):
            Worker(client, args.step_ms / 1000, args.missing_rows).run()


if __name__ == "__main__":
    main()
