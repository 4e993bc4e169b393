#!/usr/bin/env python3
"""More lookups than a server can answer, and clients that ask for much and read nothing."""
import collections
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

from faults_support import HERE, LIMIT_S, SOURCE, Skip, Windows, check, main, percentile

sys.path.insert(0, str(SOURCE / "tests/monitoring"))

CPU_SHARE = 0.1  # of a core, that the servers have together: whoever asks 20 times as often needs the rest
LOADERS = 4  # processes
CGROUP = pathlib.Path("/sys/fs/cgroup/cpu")
# What a server may take beside its table however much is asked of it: answers that wait for four loaders' sockets,
# a megabyte each, and requests.
MEMORY_BOUND = 256 << 20
SHED = {"OK", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}


@contextlib.contextmanager
def throttled(servers, seed):
    """The servers have CPU_SHARE of a core together, each as much as the others."""
    with contextlib.ExitStack() as stack:
        for server in servers:
            stack.enter_context(throttled_one(server, seed, CPU_SHARE / len(servers)))
        yield


@contextlib.contextmanager
def throttled_one(server, seed, share):
    group = CGROUP / f"engram-faults-{seed}-{server.pid}"
    try:
        group.mkdir()
        (group / "cpu.cfs_period_us").write_text("20000")
        (group / "cpu.cfs_quota_us").write_text(str(int(20000 * share)))
        (group / "cpu.shares").write_text("20480")  # whoever asks must not take from it what it may have
        (group / "cgroup.procs").write_text(str(server.pid))
    except OSError as error:
        raise Skip(f"no CPU quota can be set: {error}") from error
    try:
        yield
    finally:
        (CGROUP / "cgroup.procs").write_text(str(server.pid))
        group.rmdir()


class Load:
    """In `with`: loaders that ask for `rate` lookups a second in all. `result` is there after the end."""

    def __init__(self, run, fleet, rate, seconds, **flags):
        self._seconds = seconds
        self._commands = [[
            "/usr/bin/python3", HERE / "loader.py", "--servers", fleet.addresses, "--checkpoint", fleet.checkpoint,
            "--seed", str(run.seed + i), "--rate", str(rate / LOADERS), "--seconds", str(seconds),
            *(part for name, value in flags.items() for part in (f"--{name}", str(value)))] for i in range(LOADERS)]
        self._env = {**os.environ, "PYTHONPATH": f"{fleet.build / 'python'}:{HERE}"}

    def __enter__(self):
        self._loaders = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                          env=self._env) for command in self._commands]
        return self

    def __exit__(self, *_):
        for loader in self._loaders:
            loader.kill()
            loader.wait()

    def result(self):
        parts = []
        for loader in self._loaders:
            out, said = loader.communicate(timeout=self._seconds + LIMIT_S)
            check(loader.returncode == 0, f"a loader ended: {said[-1000:]}")
            parts.append(json.loads(out))
        codes = sum((collections.Counter(part["codes"]) for part in parts), collections.Counter())
        counters = [part["counters"] for part in parts]
        return {"sent_per_s": sum(part["sent"] for part in parts) / self._seconds,
                "goodput": codes["OK"] / self._seconds, "codes": codes,
                "wrong": sum(part["wrong"] for part in parts), "checked": sum(part["checked"] for part in parts),
                "p99_ms": percentile([took for part in parts for took in part["took"]], 0.99) * 1e3,
                "retries": sum(each["engram_client_retries_total"] for each in counters)
                / max(1, sum(each["engram_client_requests_total"] for each in counters))}


def over_rounds(rounds):
    """Of one load: medians, and what was counted in all of them."""
    medians = {name: statistics.median(each[name] for each in rounds)
               for name in ("sent_per_s", "goodput", "p99_ms", "retries")}
    return {**medians, "codes": dict(sum((each["codes"] for each in rounds), collections.Counter())),
            "wrong": sum(each["wrong"] for each in rounds), "checked": sum(each["checked"] for each in rounds)}


def grown_by(servers, before):
    return max(server.memory("VmHWM") - rss for server, rss in zip(servers, before, strict=True))


def goodput(run, replicas=1, clients=LOADERS, least=0.9):
    with run.fleet(shards=1, replicas=replicas, bucket_floor=2000) as fleet:
        with throttled(fleet.servers, run.seed):
            seconds, rounds = run.seconds(2, 10), run.seconds(1, 3)
            with Load(run, fleet, 400, 3) as probe:
                capacity = probe.result()["goodput"]
            check(capacity > 0, "throttled servers answer nothing")
            seen, before = collections.defaultdict(list), [server.memory("VmRSS") for server in fleet.servers]
            # In turns: what a quota is worth changes with whatever else the machine does.
            for multiple in run.seconds((1, 20), (1, 2, 5, 10, 20)) * rounds:
                with Load(run, fleet, multiple * capacity, seconds, clients=clients // LOADERS) as load:
                    seen[multiple].append(load.result())
                print(f"    {multiple}x: {json.dumps(seen[multiple][-1])}", flush=True)
            grown = grown_by(fleet.servers, before)
        steps = {multiple: over_rounds(results) for multiple, results in seen.items()}
        peak = max(step["goodput"] for step in steps.values())
        share = steps[20]["goodput"] / peak
        codes = {code for step in steps.values() for code in step["codes"]}
        text = "; ".join(f"{multiple}x: {step['sent_per_s']:.0f}/s sent, {step['goodput']:.0f}/s good, "
                         f"p99 {step['p99_ms']:.0f} ms, {step['codes']}" for multiple, step in steps.items())
        of = "a server" if replicas == 1 else f"{replicas} replicas"
        run.note(f"{clients} clients, open loop, 4,096 rows a lookup, 0.5 s each, of {of} with {CPU_SHARE} cores in all "
                 f"({capacity:.0f} lookups/s); each load for {seconds} s, medians of {rounds}",
                 f"{text}; at 20x {share:.2f} of the peak; retries {steps[20]['retries']:.3f} of requests; "
                 f"memory grew by {grown >> 20} MiB", wrong=sum(step["wrong"] for step in steps.values()),
                 checked=sum(step["checked"] for step in steps.values()))
        check(all(step["wrong"] == 0 for step in steps.values()), "wrong rows")
        check(codes <= SHED, f"lookups fail by {codes - SHED}")
        check(grown < MEMORY_BOUND, f"the server grew by {grown} bytes")
        check(steps[20]["retries"] <= 0.1, f"{steps[20]['retries']} retries a request")
        check(not run.long or share >= least, f"at 20x {share:.2f} of the goodput at its peak")


def goodput_of_two(run):
    goodput(run, replicas=2)


def goodput_of_many(run):
    goodput(run, clients=256, least=0.7)


def decode_first(run):
    """Decode lookups while prefill alone would take the server 20 times over."""
    with run.fleet(shards=1, replicas=1, bucket_floor=2000) as fleet:
        with throttled(fleet.servers, run.seed):
            with Load(run, fleet, 400, 3) as probe:
                capacity = probe.result()["goodput"]
            seconds = run.seconds(3, 20)
            with run.client(fleet, rows=24, rate=10) as decode:
                windows = Windows()
                decode.run_for(seconds)
                with windows.fault(), Load(run, fleet, 20 * capacity, seconds) as load:
                    prefill = load.result()
                decode.run_for(run.seconds(1, 5))
                decode.stop()
                run.report(decode, windows, f"decode lookups (24 rows a layer) beside prefill at 20x of a server with "
                           f"{CPU_SHARE} cores: {prefill['goodput']:.0f}/s of {prefill['sent_per_s']:.0f}/s succeed",
                           held_to_p99=False)


def rough(run, cause, **what):
    """A client that keeps to nothing, beside one that must not notice."""
    try:
        from rough_client import RoughClient
    except ImportError as error:
        raise Skip(f"no grpcio: {error}") from error
    with run.fleet(shards=1, replicas=1, bucket_floor=2000) as fleet, run.client(fleet) as client:
        windows, (server,) = Windows(), fleet.servers
        status = json.loads(fleet.ctl("status", "--servers", server.address, "--json"))
        client.run_for(run.seconds(1, 5))
        before = server.memory("VmRSS")
        with windows.fault(), RoughClient(server.address, status["servers"][0]["digest"], row=0, **what):
            client.run_for(run.seconds(3, 20))
            grown = server.memory("VmHWM") - before
        client.run_for(run.seconds(0.5, 5))
        client.stop()
        run.report(client, windows, f"{cause}; the server's memory grew by {grown >> 20} MiB")
        check(grown < MEMORY_BOUND, f"the server grew by {grown} bytes")


def thousand_outstanding(run):
    rough(run, "another client with 1,000 requests of 1,024 rows outstanding all the time", rows=1024, in_flight=1000)


def reads_nothing(run):
    rough(run, "another client with 1,000 requests of 4,096 rows that reads an answer's piece every 5 s", rows=4096,
          in_flight=1000, read_every_s=5)


FAULTS = {function.__name__: function
          for function in (goodput, goodput_of_two, goodput_of_many, decode_first, thousand_outstanding, reads_nothing)}

if __name__ == "__main__":
    main("overload", FAULTS)
