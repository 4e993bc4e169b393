#!/usr/bin/env python3
"""A client that compares every byte of every row with the checkpoint's, and writes down each lookup.

A line of JSON each: {"at", "took", "code", "wrong", "said"} of a lookup, {"at", "log"} of what the client logs.
Times are CLOCK_MONOTONIC's, in seconds. Ends with SIGTERM.
"""
import argparse
import json
import pathlib
import signal
import struct
import sys
import threading
import time

import engram_client
import numpy as np


class Checkpoint:
    """Rows as servers must answer them: values, then scales."""

    def __init__(self, directory):
        self._parts = {}
        for path in sorted(pathlib.Path(directory).glob("*.safetensors")):
            with open(path, "rb") as file:
                (size,) = struct.unpack("<Q", file.read(8))
                header = json.loads(file.read(size))
            header.pop("__metadata__", None)
            for name, tensor in header.items():
                _, layer, *_, kind = name.split(".")  # layers.L.engram.embed.weight
                self._parts[int(layer), kind] = np.memmap(
                    path, np.uint8, "r", 8 + size + tensor["data_offsets"][0], tuple(tensor["shape"]))

    def rows(self, layer):
        return len(self._parts[layer, "weight"])

    def read(self, layer, ids):
        """[ids, row bytes]; zeros for -1."""
        rows = np.concatenate([self._parts[layer, kind][np.maximum(ids, 0)] for kind in ("weight", "scale")], axis=1)
        rows[ids < 0] = 0
        return rows


class Log:
    """Lines from any thread."""

    def __init__(self, path):
        self._file, self._lock = open(path, "w", buffering=1, encoding="utf-8"), threading.Lock()

    def write(self, **line):
        with self._lock:
            self._file.write(json.dumps(line) + "\n")


class Verifier(threading.Thread):
    """Lookups one after the other, `rate` of them a second at most, of random rows of every layer."""

    def __init__(self, client, checkpoint, log, args, seed, over):
        super().__init__()
        self._client, self._checkpoint, self._log = client, checkpoint, log
        self._args, self._over, self._random = args, over, np.random.default_rng(seed)

    def run(self):
        due = time.monotonic()
        while not self._over.wait(max(0.0, due - time.monotonic())):
            due = max(due + 1 / self._args.rate, time.monotonic() - 1)  # what was missed is not made up for
            self._look_up()

    def _look_up(self):
        asked = {}
        for layer in self._client.table.layers:
            ids = self._random.integers(0, self._checkpoint.rows(layer), self._args.rows)
            ids[self._random.random(len(ids)) < 1 / 64] = -1
            asked[layer] = (ids, np.full((len(ids), self._client.table.row_bytes), 0xA5, np.uint8))
        begun, code, said = time.monotonic(), "OK", ""
        try:
            self._client.submit(asked, timeout=self._args.timeout, priority=self._args.priority).wait()
        except engram_client.EngramError as error:
            code, said = error.code, str(error)
        took = time.monotonic() - begun
        wrong = 0 if code != "OK" else sum(
            int(np.any(out != self._checkpoint.read(layer, ids), axis=1).sum()) for layer, (ids, out) in asked.items())
        self._log.write(at=begun, took=took, code=code, wrong=wrong, said=said)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", required=True)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--log", required=True, help="file of what was seen")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--rows", type=int, default=192, help="of a layer and lookup")
    parser.add_argument("--rate", type=float, default=50, help="lookups a second and thread")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=1.0, help="seconds, of a lookup")
    parser.add_argument("--priority", choices=["decode", "prefill"], default="decode")
    parser.add_argument("--settings", type=json.loads, default={})
    args = parser.parse_args()
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    log = Log(args.log)
    with engram_client.Client(args.servers.split(","), **args.settings,
                              log=lambda line: log.write(at=time.monotonic(), log=line)) as client:
        checkpoint = Checkpoint(args.checkpoint)
        threads = [Verifier(client, checkpoint, log, args, args.seed + i, over) for i in range(args.threads)]
        for thread in threads:
            thread.start()
        while not over.wait(0.05) and all(thread.is_alive() for thread in threads):
            pass
        failed = not over.is_set()  # one ended by itself: an error of its own
        over.set()
        for thread in threads:
            thread.join()
        counters = {}
        for line in client.metrics_text().splitlines():
            if not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                counters[name] = float(value)
        log.write(at=time.monotonic(), counters=counters)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
