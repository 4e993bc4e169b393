#!/usr/bin/env python3
"""Lookups at times of their own, whatever becomes of those before (open loop); one JSON line of what came of them."""
import argparse
import collections
import contextlib
import json
import time

import engram_client
import numpy as np
from verifier import Checkpoint

CHECKED_SHARE = 1 / 16  # of lookups, whose rows are compared


class Loader:
    """`rate` lookups a second of `rows` rows of one layer, by clients in turn."""

    def __init__(self, clients, checkpoint, args):
        self._clients, self._args = clients, args
        self._checkpoint, self._random = checkpoint, np.random.default_rng(args.seed)
        self._layer, self._row_bytes = clients[0].table.layers[0], clients[0].table.row_bytes
        rows = checkpoint.rows(self._layer)
        self._ids = [self._random.integers(0, rows, args.rows) for _ in range(16)]
        self._expected = [checkpoint.read(self._layer, ids) for ids in self._ids]
        self._free, self._under_way = [], collections.deque()  # (ticket, out, which ids, when)
        self.codes, self.took, self.wrong, self.checked, self.late = collections.Counter(), [], 0, 0, 0

    def run(self):
        begun = time.monotonic()
        end, sent = begun + self._args.seconds, 0
        while (now := time.monotonic()) < end:
            due = min(int((now - begun) * self._args.rate), sent + 200)
            while sent < due:
                self._submit(sent)
                sent += 1
            self._collect()
            time.sleep(0.001)
        while self._under_way:
            self._collect()
            time.sleep(0.001)
        self.late = int(self._args.seconds * self._args.rate) - sent
        return sent

    def _submit(self, number):
        out = self._free.pop() if self._free else np.empty((self._args.rows, self._row_bytes), np.uint8)
        which = number % len(self._ids)
        client = self._clients[number % len(self._clients)]
        ticket = client.submit({self._layer: (self._ids[which], out)}, timeout=self._args.timeout,
                               priority=self._args.priority)
        self._under_way.append((ticket, out, which, time.monotonic()))

    def _collect(self):
        for _ in range(len(self._under_way)):
            ticket, out, which, begun = self._under_way.popleft()
            if not ticket.done():
                self._under_way.append((ticket, out, which, begun))
                continue
            try:
                ticket.wait()
            except engram_client.EngramError as error:
                self.codes[error.code] += 1
            else:
                self.codes["OK"] += 1
                self.took.append(time.monotonic() - begun)
                if self._random.random() < CHECKED_SHARE:
                    self.checked += 1
                    self.wrong += int(np.any(out != self._expected[which], axis=1).sum())
            self._free.append(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", required=True)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--timeout", type=float, default=0.5)
    parser.add_argument("--priority", choices=["decode", "prefill"], default="prefill")
    parser.add_argument("--clients", type=int, default=1)
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(engram_client.Client(args.servers.split(","), connect_timeout_us=60_000_000,
                                                            dedup=False)) for _ in range(args.clients)]
        loader = Loader(clients, Checkpoint(args.checkpoint), args)
        sent = loader.run()
        counters = collections.Counter()
        for client in clients:
            for line in client.metrics_text().splitlines():
                name, _, value = line.rpartition(" ")
                if name in ("engram_client_requests_total", "engram_client_retries_total"):
                    counters[name] += float(value)
        print(json.dumps({"sent": sent, "not_sent": loader.late, "codes": loader.codes, "wrong": loader.wrong,
                          "checked": loader.checked, "took": sorted(loader.took), "counters": counters}))


if __name__ == "__main__":
    main()
