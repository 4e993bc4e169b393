"""What the families of faults share: a fleet, a client that verifies, what it saw, and a line of the table.

A fault is a function of a Run, in a list that its family's file gives to main().
"""
import argparse
import collections
import contextlib
import dataclasses
import json
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time

SOURCE = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(SOURCE / "deploy/local"))
import fleet as local  # noqa: E402

LIMIT_S = 60  # for whatever should take seconds at most
SETTLE_S = 2.0  # after a fault everything is normal again within that


class Server(local.Server):
    """Also one that has started again, or inside of a command that runs another."""

    def __init__(self, fleet, shard, replica, extra):
        super().__init__(fleet, shard, replica, extra)
        self.engramd, self._begun_at = self.command, 0

    def move(self, host, *command):
        """To another address, of a namespace that `command` runs in."""
        port = self.address.rsplit(":", 1)[1]
        self.address = f"{host}:{port}"
        self.engramd[self.engramd.index("--listen") + 1] = self.address
        self.engramd.append("--insecure")
        self.run_inside(*command)

    def run_inside(self, *command):
        """From its next start on."""
        self.command = [*map(str, command), *self.engramd]

    def start(self):
        self._begun_at = self.log.stat().st_size if self.log.exists() else 0
        super().start()

    def serves(self):
        self.check()
        return "\nserving " in "\n" + self.said()

    def said(self):
        """Since its last start."""
        with open(self.log, "rb") as log:
            log.seek(self._begun_at)
            return log.read().decode(errors="replace")

    def await_serving(self):
        local.wait_for(self.serves, f"{self.name} serves", LIMIT_S)

    def memory(self, field):
        """Bytes of a field of /proc/PID/status, "VmRSS"."""
        return int(pathlib.Path(f"/proc/{self.pid}/status").read_text().split(field + ":")[1].split()[0]) * 1024


class Fleet:
    """In `with`: shards x replicas, all serving; [shard][replica] of `by_shard`.

    `place(server)` is called before each starts.
    """

    def __init__(self, build, shards=2, replicas=2, bucket_floor=500, server_args=(), place=None):
        self._place = place or (lambda server: None)
        self.build, self.bin = pathlib.Path(build).resolve(), pathlib.Path(build).resolve() / "bin"
        self.shards, self.replicas, self.bucket_floor = shards, replicas, bucket_floor
        self._args = [*([] if "--drain-ms" in server_args else ["--drain-ms", "500"]), *map(str, server_args)]
        self.servers = []

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.directory = pathlib.Path(tempfile.mkdtemp(prefix="engram-faults."))
            stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
            self.checkpoint = self.directory / "checkpoint"
            self.ctl("synth", "--out", self.checkpoint, "--like", "v41-flash", "--bucket-floor", self.bucket_floor)
            self.ctl("digest", self.checkpoint)
            for shard in range(self.shards):
                for replica in range(self.replicas):
                    self.servers.append(Server(self, shard, replica, self._args))
                    stack.callback(self.servers[-1].stop)
                    self._place(self.servers[-1])
                    self.servers[-1].start()
            for server in self.servers:
                server.await_serving()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        for server in self.servers:  # at once: each drains for a while
            if server.running():
                server.signal(signal.SIGCONT)
                server.signal(signal.SIGTERM)
        self._stack.close()

    ctl = local.Fleet.ctl
    addresses = local.Fleet.addresses

    @property
    def by_shard(self):
        return [self.servers[i * self.replicas:][:self.replicas] for i in range(self.shards)]


@dataclasses.dataclass
class Lookup:
    at: float
    took: float
    code: str
    wrong: int
    said: str

    @property
    def failed(self):
        return self.code != "OK"


class Client:
    """In `with`: verifier.py against a fleet; has looked up when `with` begins."""

    def __init__(self, fleet, seed, addresses=None, inside=(), **flags):
        fleet.clients = getattr(fleet, "clients", 0) + 1
        self._seen = fleet.directory / f"client-{fleet.clients}.jsonl"
        settings = {"connect_timeout_us": 20_000_000, **flags.pop("settings", {})}
        self.process = local.Child("the client", [
            *inside, "/usr/bin/python3", HERE / "verifier.py", "--servers", addresses or fleet.addresses,
            "--checkpoint", fleet.checkpoint, "--log", self._seen, "--seed", seed, "--settings", json.dumps(settings),
            *(part for name, value in flags.items() for part in (f"--{name}", value))],
            fleet.directory / f"client-{fleet.clients}.log",
            env={**os.environ, "PYTHONPATH": str(fleet.build / "python")})

    def __enter__(self):
        self.process.start()
        try:
            self.wait(lambda: any(not lookup.failed for lookup in self.lookups()), "a first lookup")
        except BaseException:
            self.process.stop()
            raise
        return self

    def __exit__(self, *_):
        self.process.stop()

    def stop(self):
        """What is read after that is all that there was."""
        self.process.stop()

    def wait(self, condition, what, limit_s=LIMIT_S):
        def checked():
            self.process.check()
            return condition()
        return local.wait_for(checked, what, limit_s)

    def run_for(self, seconds):
        time.sleep(seconds)
        self.process.check()

    def _lines(self):
        if not self._seen.exists():
            return []
        text = self._seen.read_text(encoding="utf-8")
        return [json.loads(line) for line in text[:text.rfind("\n") + 1].splitlines()]

    def lookups(self):
        return [Lookup(**line) for line in self._lines() if "took" in line]

    def logged(self, since=0.0):
        return [line["log"] for line in self._lines() if "log" in line and line["at"] >= since]

    def story(self, failed):
        """What it logged up to its last failure, with seconds from the first one; and its counters."""
        lines = [f"{line['at'] - failed[0].at:+.3f} {line['log']}" for line in self._lines()
                 if "log" in line and line["at"] < failed[-1].at + failed[-1].took]
        return "\n    ".join(["", *lines[-12:], json.dumps({name: value for name, value in self.counters().items()
                              if any(part in name for part in ("hedge", "retr", "eject", "requests_total"))})])

    def counters(self):
        """Of its metrics, at its end."""
        return next((line["counters"] for line in self._lines() if "counters" in line), {})

    def await_up(self, server, since):
        """Until it has connected to the server again, by what it has logged since then (both lanes of it)."""
        self.wait(lambda: f"server {server.address} is up" in self.logged(since), f"{server.name} is up again")

    def await_well(self):
        """Until a lookup that began after this has succeeded."""
        since = time.monotonic()
        self.wait(lambda: any(each.at > since and not each.failed for each in self.lookups()), "lookups succeed again")


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


class Windows:
    """When a fault was there; `with windows.fault():` around what causes it, once or again and again."""

    def __init__(self):
        self.spans = []

    @contextlib.contextmanager
    def fault(self):
        begun = time.monotonic()
        try:
            yield
        finally:
            self.spans.append((begun, time.monotonic()))

    def part(self, lookup):
        """"before", "during" (also one that had not ended when it began), "settling" or "after"."""
        if lookup.at + lookup.took < self.spans[0][0]:
            return "before"
        if any(begin <= lookup.at + lookup.took and lookup.at <= end for begin, end in self.spans):
            return "during"
        return "settling" if any(0 <= lookup.at - end < SETTLE_S for _, end in self.spans) else "after"


class Skip(Exception):
    """What a fault needs is not there."""


def check(condition, what):
    if not condition:
        raise AssertionError(what)


class Run:
    """One fault: its seed, and the line of the table that comes of it."""

    def __init__(self, args):
        self.build, self.long, self.seed = args.build, args.long, args.seed
        self.random = random.Random(self.seed)
        self.row = None

    def fleet(self, **shape):
        return Fleet(self.build, **shape)

    def client(self, fleet, **flags):
        return Client(fleet, self.seed, **flags)

    def seconds(self, short, long):
        return long if self.long else short

    def note(self, cause, saw, **figures):
        """A line of another kind: what was seen, in words."""
        self.row = {"cause": cause, "saw": saw, **figures}
        print(f"  {json.dumps(self.row)}", flush=True)

    def report(self, client, windows, cause, says=(), may_succeed=False, held_to_p99=True, adds_ms=0.0, lost=""):
        """All lookups must have succeeded; or, with `says`, some failed, each with one of these words, in time.

        `may_succeed`: none need have failed. `held_to_p99`: with --long it may be three times that of before, and
        during the fault `adds_ms` more, which no client could avoid.

        Never may a row be wrong. The client has been stopped.
        """
        lookups = client.lookups()
        failed = [each for each in lookups if each.failed]
        wrong = sum(each.wrong for each in lookups)
        parts = collections.defaultdict(list)
        for each in lookups:
            parts[windows.part(each)].append(each.took * 1e3)
        p99 = {part: percentile(parts[part], 0.99) for part in ("before", "during", "settling", "after")}
        last_end = max(end for _, end in windows.spans)
        late = [each.at + each.took - last_end for each in failed if each.at > last_end]
        codes = dict(collections.Counter(each.code for each in failed))
        self.row = {
            "cause": cause, "times": len(windows.spans), "lookups": len(lookups), "failed": len(failed),
            "codes": codes, "wrong": wrong, "p99": p99, "worst": max(each.took for each in lookups) * 1e3,
            "worst_failure": max((each.took for each in failed), default=0.0) * 1e3,
            "failed_until": max(late, default=0.0), "lost": lost}
        print(f"  {json.dumps(self.row)}", flush=True)
        check(wrong == 0, f"{wrong} wrong rows")
        if not says:
            if failed:
                raise AssertionError(f"{len(failed)} lookups failed: {codes}; the client said: {client.story(failed)}")
            for part, more in (("during", adds_ms), ("after", 0.0)) if self.long and held_to_p99 else ():
                check(not p99[part] > 3 * p99["before"] + more,
                      f"p99 {part} is {p99[part]:.1f} ms, before {p99['before']:.1f}")
            return
        check(failed or may_succeed, "no lookup failed: the fault was none")
        for each in failed:
            check(any(words in each.said for words in says), f"an error does not say {says}: {each.code} {each.said}")


def main(family, faults):
    """`faults`: {name: function of a Run}; those whose function has `.long` run with --long alone."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="of faults; none: all")
    parser.add_argument("--build", default="build/release", help="directory with bin/ and python/")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32),
                        help="of rows and schedules")
    parser.add_argument("--long", action="store_true", help="all faults, longer, with assertions on latency")
    parser.add_argument("--record", type=pathlib.Path, help="file that lines for the table are added to")
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    unknown = set(args.names) - set(faults)
    if unknown:
        parser.error(f"no such fault: {', '.join(sorted(unknown))}; there are {', '.join(faults)}")
    if args.list:
        print("\n".join(faults))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `with` stops what was started
    print(f"{family}: --seed {args.seed}", flush=True)
    bad, skipped = [], []
    for name, function in faults.items():
        if name not in (args.names or faults) or not (args.names or args.long) and getattr(function, "long", False):
            continue
        print(name, flush=True)
        run = Run(args)
        begun = time.monotonic()
        try:
            function(run)
            outcome = "ok"
        except (AssertionError, RuntimeError) as error:
            outcome = f"FAILED: {error}"
            bad.append(name)
        except Skip as reason:
            outcome = f"SKIPPED: {reason}"
            skipped.append(name)
        print(f"  {outcome} ({time.monotonic() - begun:.1f} s)", flush=True)
        if args.record and run.row:
            with open(args.record, "a", encoding="utf-8") as record:
                record.write(json.dumps({"family": family, "fault": name, "seed": args.seed, "long": args.long,
                                         "ok": outcome == "ok", **run.row}) + "\n")
    if bad:
        sys.exit(f"error: {', '.join(bad)} (again with --seed {args.seed})")
    if args.names and skipped == args.names:
        sys.exit(77)


def long(function):
    """A fault that runs with --long alone."""
    function.long = True
    return function
