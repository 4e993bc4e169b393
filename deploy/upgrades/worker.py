#!/usr/bin/env python3
"""A worker that verifies: looks up random rows of all layers and holds every byte against checkpoints.

A lookup's rows must all be one checkpoint's; rows of two tables in one lookup are wrong. What it has seen is in
--status as JSON, anew several times a second and when it ends, and its client's metrics are at http://ADDRESS/metrics.
"""
import argparse
import json
import pathlib
import signal
import struct
import time

import engram_client
import numpy as np

ROWS = 64  # a layer and lookup
TIMEOUT_S = 1.0


def layer_rows(checkpoint, layer):
    """[rows, row bytes] of a layer as servers answer them: fp8 values, then scales."""
    for file in sorted(pathlib.Path(checkpoint).glob("*.safetensors")):
        data = np.fromfile(file, np.uint8)
        size, = struct.unpack("<Q", data[:8].tobytes())
        header = json.loads(data[8:8 + size].tobytes())
        parts = []
        for kind in ("weight", "scale"):
            tensor = header.get(f"layers.{layer}.engram.embed.{kind}")
            if tensor:
                begin, end = tensor["data_offsets"]
                parts.append(data[8 + size + begin:8 + size + end].reshape(tensor["shape"]))
        if parts:
            return np.concatenate(parts, axis=1)
    raise SystemExit(f"error: {checkpoint} has no table of layer {layer}")


class Verifier:
    def __init__(self, client, checkpoints, status):
        self._client, self._status = client, status
        self._random = np.random.default_rng(1)
        self._tables = [{layer: layer_rows(each, layer) for layer in client.table.layers}
                        for each in checkpoints]
        self._seen = {"lookups": 0, "failed": 0, "wrong": 0, "of": [0] * len(checkpoints)}

    def run(self, rate):
        """Until SIGTERM."""
        written = 0.0
        ending = []
        signal.signal(signal.SIGTERM, lambda number, _: ending.append(number))
        while not ending:
            begun = time.monotonic()
            self._one_lookup()
            if begun - written > 0.2:
                self._write()
                written = begun
            time.sleep(max(0.0, begun + 1 / rate - time.monotonic()))
        self._write()

    def _one_lookup(self):
        ids = {layer: self._random.integers(0, len(rows), ROWS) for layer, rows in self._tables[0].items()}
        outs = {layer: np.full((ROWS, self._client.table.row_bytes), 0xA5, np.uint8) for layer in ids}
        self._seen["lookups"] += 1
        try:
            self._client.submit({layer: (ids[layer], outs[layer]) for layer in ids},
                                timeout=TIMEOUT_S).wait()
        except engram_client.EngramError as error:
            self._seen["failed"] += 1
            print(f"{time.strftime('%X')} {error.code}: {error}", flush=True)
            return
        fits = [i for i, table in enumerate(self._tables)
                if all(np.array_equal(outs[layer], table[layer][ids[layer]]) for layer in ids)]
        if not fits:
            self._seen["wrong"] += 1
            layer, row = next((layer, ids[layer][i]) for layer in ids for i in range(ROWS)
                              if not np.array_equal(outs[layer][i], self._tables[0][layer][ids[layer][i]]))
            print(f"{time.strftime('%X')} a lookup's rows are no checkpoint's; of the first one differs layer "
                  f"{layer} row {row}", flush=True)
        elif len(fits) == 1:  # else none of these rows tells the tables apart
            self._seen["of"][fits[0]] += 1

    def _write(self):
        new = self._status.with_suffix(".new")
        new.write_text(json.dumps(self._seen))
        new.rename(self._status)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", required=True, help="names of servers, with commas")
    parser.add_argument("--metrics", required=True, help="host:port to serve metrics at")
    parser.add_argument("--checkpoints", required=True, help="whose rows may come, with commas")
    parser.add_argument("--status", required=True, type=pathlib.Path, help="file to write")
    parser.add_argument("--rate", type=float, default=100, help="lookups a second at most")
    parser.add_argument("--settings", type=json.loads, default={},
                        help="settings of the client as JSON (client/c/README.md)")
    args = parser.parse_args()
    host, port = args.metrics.rsplit(":", 1)
    with engram_client.Client(args.servers.split(","), **args.settings) as client:
        verifier = Verifier(client, args.checkpoints.split(","), args.status)
        with engram_client.metrics.serve(client, int(port), host):
            verifier.run(args.rate)


if __name__ == "__main__":
    main()
