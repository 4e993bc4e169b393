#!/usr/bin/env python3
"""Single flipped bits, in what servers read and in what they answer: noticed, or where nobody reads.

For each flip a fresh copy of the files with one bit flipped, an engramd that starts on it, and a client that asks for
checksums (verify_share=1) and compares every row of the table. It must come to one of these:

  refused    the server does not start, and says what is wrong; or the client does not connect
  anew       the server says so and takes the rows from the checkpoint
  failed     rows that cannot be trusted are errors; all others are right
  unread     every row is right, and the bit is in bytes that are known to be read by nobody (`UNREAD`)

A wrong row, or an unread bit anywhere else, fails. `wire` flips bits of what a server sends, in plaintext, while a
client connects, looks rows up by row ids and by tokens.
"""
import asyncio
import collections
import contextlib
import json
import os
import pathlib
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

import faults_support
from faults_support import Skip, check, main
from proxy import PIECE, Proxy

KJV = faults_support.SOURCE / "deploy/model/kjv"
CHUNK = 8192  # rows of one lookup
FEW = 40      # rows that fail one by one are counted up to here
CONNECT_US = 3_000_000
FOOTER = 53  # bytes of a RocksDB file's end: checksum type, two handles padded to 40, version, magic
START_LIMIT_S = 60


def engram_client(build):
    """The module of that build."""
    path = str(pathlib.Path(build).resolve() / "python")
    if path not in sys.path:
        sys.path.insert(0, path)
    import engram_client as module  # pylint: disable=import-outside-toplevel
    return module


class Bed:
    """A directory in memory with a table's checkpoint, and servers that start on damaged copies of it."""

    def __init__(self, run, like, bucket_floor, *synth):
        self.bin = pathlib.Path(run.build).resolve() / "bin"
        self.client = engram_client(run.build)
        self.like, self._synth = like, ["--bucket-floor", bucket_floor, *synth]

    def __enter__(self):
        root = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="engram-corruption.", dir=root))
        self.checkpoint, self.damaged = self.directory / "checkpoint", self.directory / "damaged"
        self.socket, self.log = self.directory / "socket", self.directory / "log"
        self.ctl("synth", "--out", self.checkpoint, "--like", self.like, *self._synth)
        self.digest = json.loads(self.ctl("digest", self.checkpoint))["digest"]
        with self.serving("--checkpoint", self.checkpoint) as server:
            check(server.up, f"the undamaged table: {server.said()}")
            self.ctl("verify", "--servers", f"unix:{self.socket}", "--checkpoint", self.checkpoint, "--seconds", "0.3")
            with self.connect() as client:
                self.rows = {layer: self.read(client, layer) for layer in client.table.layers}
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.directory, ignore_errors=True)

    def ctl(self, *args, may_fail=False):
        done = subprocess.run([self.bin / "engramctl", *map(str, args)], capture_output=True, text=True,
                              timeout=START_LIMIT_S, check=False)
        if may_fail:
            return done
        check(done.returncode == 0, f"engramctl {args[0]}: {done.stderr.strip()}")
        return done.stdout

    def connect(self, address=None, **settings):
        return self.client.Client([address or f"unix:{self.socket}"], verify_share=1.0, connect_timeout_us=CONNECT_US,
                                  **settings)

    @staticmethod
    def read(client, layer):
        rows = client.layer(layer).rows
        parts = [client.lookup(layer, np.arange(begin, min(begin + CHUNK, rows)))
                 for begin in range(0, rows, CHUNK)]
        return np.concatenate(parts)

    def serving(self, *args):
        return Serving(self, [self.bin / "engramd", *args, "--listen", f"unix:{self.socket}", "--threads", "1"])

    def compare(self):
        """(rows that failed, rows that were wrong, first error); of the server that serves."""
        failed, wrong, first = 0, 0, ""
        with self.connect() as client:
            for layer, expected in self.rows.items():
                if client.layer(layer).rows != len(expected):
                    return 0, len(expected), f"layer {layer} has {client.layer(layer).rows} rows"
                ranges = [(begin, min(begin + CHUNK, len(expected))) for begin in range(0, len(expected), CHUNK)]
                while ranges:
                    begin, end = ranges.pop()
                    try:
                        got = client.lookup(layer, np.arange(begin, end), timeout=5.0)
                    except self.client.EngramError as error:
                        first = first or f"{error.code}: {error}"
                        if end - begin == 1:
                            failed += 1
                            if failed >= FEW:
                                return failed, wrong, first
                        else:
                            middle = (begin + end) // 2
                            ranges += [(middle, end), (begin, middle)]
                        continue
                    if not np.array_equal(got, expected[begin:end]):
                        wrong += int(np.any(got != expected[begin:end], axis=1).sum())
        return failed, wrong, first


class Serving:
    """In `with`: an engramd; .up unless it ended before it served."""

    def __init__(self, bed, command):
        self._bed, self._command = bed, [str(part) for part in command]

    def __enter__(self):
        with contextlib.suppress(FileNotFoundError):
            self._bed.socket.unlink()
        with open(self._bed.log, "wb") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        end = time.monotonic() + START_LIMIT_S
        while True:
            ended = self.process.poll() is not None
            self.up = not ended and "\nserving model=" in "\n" + self.said()
            if self.up or ended:
                return self
            check(time.monotonic() < end, f"it neither serves nor ends: {self.said()}")
            time.sleep(0.002)

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def said(self):
        return self._bed.log.read_text(errors="replace")

    def error(self):
        return (re.findall(r"^error: .*$", self.said(), re.M) or [""])[-1]


def flip(path, at):
    """Bit `at` of a file."""
    with open(path, "r+b") as file:
        file.seek(at // 8)
        (byte,) = file.read(1)
        file.seek(at // 8)
        file.write(bytes([byte ^ (1 << at % 8)]))


class Flips:
    """What became of them, for the table."""

    def __init__(self, run, what):
        self._run, self._what = run, what
        self.counts, self.unread, self.said = collections.Counter(), collections.Counter(), collections.Counter()
        self.wrong, self.bad = 0, []

    def add(self, where, outcome, words="", wrong=0, unread=None):
        """`unread`: why nobody reads the bit; None: it should have been noticed."""
        self.counts[outcome] += 1
        self.wrong += wrong
        self.said[re.sub(r"[0-9a-f]{16,}|\d+|/\S+", "*", words)[:90]] += 1
        if wrong:
            self.bad.append(f"{where}: {wrong} wrong rows")
        elif outcome == "unread" and unread is None:
            self.bad.append(f"{where}: nobody noticed")
        elif outcome == "unread":
            self.unread[unread] += 1

    def report(self):
        unread = ", ".join(f"{count:,} {why}" for why, count in self.unread.most_common())
        counts = {name: self.counts[name] for name in ("refused", "anew", "failed", "unread")}
        self._run.row = {"flips": sum(self.counts.values()), "cause": self._what, "outcomes": counts, "where_unread": unread,
                         "wrong": self.wrong}
        print(f"  {json.dumps(self._run.row)}", flush=True)
        for words, count in self.said.most_common(6):
            print(f"    {count:6} {words}")
        check(not self.bad, f"{len(self.bad)} of {sum(self.counts.values())}: " + "; ".join(self.bad[:6]))


def try_files(run, bed, flips, paths, prepare, args, count, unread, anew=None):
    """`count` flips of bits of `paths`, names below bed.damaged, which `prepare` makes afresh; an engramd each.

    paths    {name: weight}; half of the bits are of the first 4 KiB
    unread   (name, byte) -> why nobody reads it, or None
    anew     words of the log that say that what was damaged is not used
    """
    names, weights = list(paths), list(paths.values())
    for _ in range(count):
        prepare()
        name = run.random.choices(names, weights)[0]
        path = bed.damaged / name
        size = path.stat().st_size
        at = run.random.randrange(8 * (min(size, 4096) if run.random.random() < 0.5 else size))
        flip(path, at)
        where = f"{name}, byte {at // 8} of {size}, bit {at % 8}"
        with bed.serving(*args) as server:
            if not server.up:
                check(server.error(), f"{where}: it ended without an error: {server.said()[-500:]}")
                flips.add(where, "refused", server.error())
                continue
            try:
                failed, wrong, words = bed.compare()
            except bed.client.EngramError as error:
                flips.add(where, "refused", f"{error.code}: {error}")
                continue
            said = server.said()
            if wrong:
                flips.add(where, "wrong", wrong=wrong)
            elif failed:
                flips.add(where, "failed", words)
            elif anew and re.search(anew, said):
                flips.add(where, "anew", re.search(anew + ".*", said)[0])
            else:
                flips.add(where, "unread", unread=unread(name, at // 8))


def copy_to(bed, source):
    shutil.rmtree(bed.damaged, ignore_errors=True)
    shutil.copytree(source, bed.damaged)


def arena(run):
    """More rows than are sampled at a start."""
    if not os.access("/dev/shm", os.W_OK):
        raise Skip("no tmpfs at /dev/shm")
    flips = Flips(run, "a bit of an arena file, then a start with it")
    with Bed(run, "v41-flash", 10_000) as bed:
        kept = bed.directory / "kept"
        kept.mkdir()
        args = ["--checkpoint", bed.checkpoint, "--arena-dir", bed.damaged]
        with bed.serving("--checkpoint", bed.checkpoint, "--arena-dir", kept) as server:
            check(server.up, server.said())
        (name,) = [path.name for path in kept.iterdir()]
        rows = sum(len(each) for each in bed.rows.values())
        row_bytes = bed.rows[1].shape[1]
        header = 28 + struct.unpack("<Q", (kept / name).read_bytes()[16:24])[0]
        huge = 2 << 20

        def unread(_, byte):
            rows_at = huge
            checksums_at = (rows_at + rows * row_bytes + huge - 1) // huge * huge
            if header <= byte < rows_at or rows_at + rows * row_bytes <= byte < checksums_at:
                return "between header, rows and checksums"
            return "behind the checksums" if byte >= checksums_at + 4 * rows else None

        try_files(run, bed, flips, {name: 1}, lambda: copy_to(bed, kept), args, run.seconds(8, 500), unread,
                  anew="is not used|is loaded anew|loading: ")
    flips.report()


def sorted_files(run):
    flips = Flips(run, "a bit of a RocksDB shard's files: rows, and what describes them")
    with Bed(run, "v41-flash", 500) as bed:
        kept = bed.directory / "kept"
        bed.ctl("import", bed.checkpoint, "--data-dir", kept, "--shard", "0/1")
        files = [path.relative_to(kept) for path in kept.rglob("*") if path.is_file() and path.stat().st_size > 0]
        sorts = {str(path): 4 if path.suffix == ".sst" else 1 for path in files
                 if not re.search(r"^(LOG|LOCK)", path.name) and path.suffix != ".log"}
        args = ["--store", "rocksdb", "--data-dir", bed.damaged, "--memory-budget", "4000000", "--expect-digest", bed.digest]

        def unread(name, byte):
            path = kept / name
            if path.name.startswith(("OPTIONS-", "IDENTITY")):
                return "in OPTIONS and IDENTITY, which are not read back"
            if path.suffix != ".sst":
                return None
            held = path.read_bytes()
            if not held[byte:(byte // 4096 + 1) * 4096].strip(b"\0"):
                return "in the zeros behind a block that ends before its 4 KiB do"
            if held[byte] == 0 and len(held) - FOOTER <= byte < len(held) - 12:
                return "in the zeros of a footer whose handles are short"
            return None

        try_files(run, bed, flips, sorts, lambda: copy_to(bed, kept), args, run.seconds(16, 1000), unread)
    flips.report()


def published(run):
    flips = Flips(run, "a bit of a data directory's catalogue or delta, then a start with it")
    with Bed(run, "v41-flash", 500) as bed:
        kept, other, delta = bed.directory / "kept", bed.directory / "other", bed.directory / "delta"
        bed.ctl("synth", "--out", other, "--like", "v41-flash", "--bucket-floor", 500)
        for path in other.glob("*.safetensors"):  # some rows changed, in the weights
            with open(path, "r+b") as file:
                begin = 8 + struct.unpack("<Q", file.read(8))[0]
                for _ in range(40):
                    file.seek(begin + run.random.randrange(1_000_000))
                    file.write(b"\x31")
        bed.ctl("digest", other)
        bed.ctl("delta", "--from", bed.checkpoint, "--to", other, "--out", delta)
        target = json.loads(bed.ctl("digest", other))["digest"]
        args = ["--checkpoint", bed.checkpoint, "--data-dir", bed.damaged]
        with bed.serving("--checkpoint", bed.checkpoint, "--data-dir", kept) as server:
            check(server.up, server.said())
            bed.ctl("publish", "--servers", f"unix:{bed.socket}", delta)
            bed.ctl("activate", "--servers", f"unix:{bed.socket}", target)
            with bed.connect() as client:
                bed.rows = {layer: bed.read(client, layer) for layer in bed.rows}
        names = {path.name: 3 if path.name.startswith("delta-") else 1 for path in kept.iterdir()
                 if path.name.startswith(("delta-", "catalogue"))}
        try_files(run, bed, flips, names, lambda: copy_to(bed, kept), args, run.seconds(8, 600), lambda *_: None)
        # And what an operator publishes.
        with bed.serving("--checkpoint", bed.checkpoint, "--data-dir", bed.directory / "empty") as server:
            for _ in range(run.seconds(8, 400)):
                shutil.copy(delta, bed.damaged / "sent")
                at = run.random.randrange(8 * delta.stat().st_size)
                flip(bed.damaged / "sent", at)
                done = bed.ctl("publish", "--servers", f"unix:{bed.socket}", bed.damaged / "sent", may_fail=True)
                outcome = "unread" if done.returncode == 0 else "refused"
                flips.add(f"published delta, byte {at // 8}, bit {at % 8}", outcome, done.stderr.strip())
            check(server.process.poll() is None, "the server ended")
    flips.report()


def sidecar(run):
    flips = Flips(run, "a bit of the sidecar, then a load with it")
    with Bed(run, "v41-flash", 500) as bed:
        args = ["--checkpoint", bed.damaged, "--expect-digest", bed.digest]
        try_files(run, bed, flips, {"engram.sidecar": 1}, lambda: copy_to(bed, bed.checkpoint), args,
                  run.seconds(8, 400), lambda *_: None, anew="sidecar")
    flips.report()


def checkpoint(run):
    flips = Flips(run, "a bit of a checkpoint's safetensors, index or config, loaded under a pinned digest with and without sidecar")
    with Bed(run, "v41-flash", 500) as bed:
        args = ["--checkpoint", bed.damaged, "--expect-digest", bed.digest]
        names = {path.name: 4 if path.suffix == ".safetensors" else 1 for path in bed.checkpoint.iterdir()
                 if path.suffix in (".safetensors", ".json")}

        def prepare():
            copy_to(bed, bed.checkpoint)
            if run.random.random() < 0.5:
                (bed.damaged / "engram.sidecar").unlink()

        def unread(name, byte):
            if name.endswith(".json"):
                return "in fields of JSON that say nothing of tables"
            if byte < 8:
                return None
            header = (bed.checkpoint / name).read_bytes()[8:8 + struct.unpack(
                "<Q", (bed.checkpoint / name).read_bytes()[:8])[0]]
            return "in the header's metadata and spaces" if byte - 8 < len(header) else None

        try_files(run, bed, flips, names, prepare, args, run.seconds(12, 1200), unread)
    flips.report()


class FlippingProxy(Proxy):
    """Flips bit `at` of all that servers have sent since `arm`, over all connections."""

    def __init__(self, target, seed):
        super().__init__(target, seed)
        self._lock = threading.Lock()
        self.arm(None)

    def arm(self, at):
        with self._lock:
            self._at, self.sent, self.flipped = at, 0, False

    async def _pass(self, direction, reader, writer, budget):
        try:
            while piece := await reader.read(PIECE):
                if direction == "down":
                    piece = self._damage(piece)
                writer.write(piece)
                await writer.drain()
        except (ConnectionError, OSError, asyncio.IncompleteReadError):
            pass

    def _damage(self, piece):
        with self._lock:
            begin, self.sent = self.sent, self.sent + len(piece)
            if self._at is None or not begin <= self._at // 8 < self.sent:
                return piece
            damaged = bytearray(piece)
            damaged[self._at // 8 - begin] ^= 1 << self._at % 8
            self.flipped = True
            return bytes(damaged)


def wire(run):
    flips = Flips(run, "a bit of what a server sends, in plaintext, to a client that asks for checksums")
    with Bed(run, "paper", 400, "--tokenizer", KJV / "tokenizer.json") as bed, contextlib.ExitStack() as stack:
        tokens = np.random.default_rng(run.seed).integers(0, 256, 48).astype(np.uint32)
        ids = {layer: np.random.default_rng(run.seed + layer).integers(0, len(rows), 64)
               for layer, rows in bed.rows.items()}

        def session(address):
            """{what: rows}, as a client gets them; or its error."""
            got = {}
            with bed.connect(address) as client:
                for layer, each in ids.items():
                    got[layer, "ids"] = client.lookup(layer, each, timeout=0.5)
                shape = (len(tokens), client.table.columns, client.table.row_bytes)
                outs = {layer: np.zeros(shape, np.uint8) for layer in ids}
                client.submit_tokens(tokens, outs, timeout=0.5).wait()
                got.update({(layer, "tokens"): out for layer, out in outs.items()})
            return got

        port = faults_support.local.free_port()
        server = stack.enter_context(Serving(bed, [bed.bin / "engramd", "--checkpoint", bed.checkpoint, "--threads", "1",
                                                   "--listen", f"127.0.0.1:{port}"]))
        check(server.up, server.said())
        right = session(f"127.0.0.1:{port}")
        for layer, each in ids.items():
            check(np.array_equal(right[layer, "ids"], bed.rows[layer][each]), "rows of an undamaged session")
        proxy = stack.enter_context(FlippingProxy(f"127.0.0.1:{port}", run.seed))
        session(proxy.address)
        total = proxy.sent
        print(f"  a session is {total} bytes of the server's", flush=True)
        for _ in range(run.seconds(40, 2000)):
            most = 8 * total
            at = int(most ** run.random.random()) if run.random.random() < 0.5 else run.random.randrange(most)
            proxy.arm(at)
            where = f"byte {at // 8} of {total}, bit {at % 8}"
            try:
                got = session(proxy.address)
            except bed.client.EngramError as error:
                flips.add(where, "failed" if "connect" not in str(error) else "refused", f"{error.code}: {error}")
                continue
            if not proxy.flipped:
                continue
            wrong = sum(int(np.any(got[key] != right[key], axis=-1).sum()) for key in right)
            flips.add(where, "wrong" if wrong else "unread", wrong=wrong, unread="in what says nothing of rows (names, counters, windows), or of a connection that was made anew")
    flips.report()


FAULTS = {"arena": arena, "sorted_files": sorted_files, "published": published, "sidecar": sidecar,
          "checkpoint": checkpoint, "wire": wire}

if __name__ == "__main__":
    main("corruption", FAULTS)
