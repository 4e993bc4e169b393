#!/usr/bin/env python3
"""Servers that die, stand still, are slow, start again and again, or have no memory, descriptors or disk left."""
import contextlib
import json
import pathlib
import resource
import signal
import socket
import subprocess
import sys
import threading
import time

from faults_support import LIMIT_S, Skip, Windows, check, local, long, main

# What an error says of rows that nobody has: which layer's, and which of its rows.
NAMES_RANGE = (" holds layer ", "no answer for layer ")


def kill(server):
    server.kill()


def start(server):
    server.start()
    server.await_serving()


def stand_still(server):
    server.signal(signal.SIGSTOP)


def go_on(server):
    server.signal(signal.SIGCONT)


def in_turn(run, cause, disturb, mend, rounds, lasts_s, reconnects):
    """One server at a time, in random order: disturbed, after a while mended, and usable again before the next."""
    with run.fleet() as fleet, run.client(fleet) as client:
        windows = Windows()
        client.run_for(run.seconds(1, 5))
        for _ in range(rounds):
            server = run.random.choice(fleet.servers)
            with windows.fault():
                disturb(server)
                client.run_for(lasts_s * run.random.uniform(0.5, 1.5))
                since = time.monotonic()
                mend(server)
            if reconnects:
                client.await_up(server, since)
            client.await_well()
            client.run_for(run.seconds(0.5, 4))
        client.stop()
        run.report(client, windows, cause)


def without(run, cause, disturb, mend, victims, rounds, lasts_s):
    """All replicas of a range, or all servers, at once: errors that say so, and afterwards all is well by itself."""
    with run.fleet() as fleet, run.client(fleet) as client:
        windows = Windows()
        client.run_for(run.seconds(1, 5))
        for _ in range(rounds):
            servers = victims(run, fleet)
            with windows.fault():
                for server in servers:
                    disturb(server)
                client.run_for(lasts_s)
                for server in servers:
                    mend(server)
            client.await_well()
            client.run_for(run.seconds(0.5, 4))
        client.stop()
        run.report(client, windows, cause, says=NAMES_RANGE)


def one_range(run, fleet):
    return run.random.choice(fleet.by_shard)


def every(_, fleet):
    return fleet.servers


def kill_one(run):
    in_turn(run, "SIGKILL of a random server of 2x2, started again", kill, start, run.seconds(3, 30), 0.5, True)


def stop_one(run):
    in_turn(run, "SIGSTOP of a random server of 2x2, then SIGCONT", stand_still, go_on, run.seconds(3, 30),
            run.seconds(1, 3), False)


@long
def stop_one_for_long(run):
    in_turn(run, "the same for about 45 s, when keep-alive has given its connections up", stand_still, go_on, 2, 45,
            False)


def kill_range(run):
    without(run, "SIGKILL of both replicas of a random shard, started again", kill, start, one_range,
            run.seconds(1, 8), 1.5)


def stop_range(run):
    without(run, "SIGSTOP of both replicas of a random shard, then SIGCONT", stand_still, go_on, one_range,
            run.seconds(1, 8), 2.5)


def kill_all(run):
    without(run, "SIGKILL of all four servers, started again", kill, start, every, run.seconds(1, 8), 1.5)


def stop_all(run):
    without(run, "SIGSTOP of all four servers, then SIGCONT", stand_still, go_on, every, run.seconds(1, 8), 2.5)


class DutyCycle(threading.Thread):
    """In `with`: a process runs a tenth of the time, 5 ms of every 50."""

    def __init__(self, server):
        super().__init__()
        self._server, self._over = server, threading.Event()

    def __enter__(self):
        self.start()

    def __exit__(self, *_):
        self._over.set()
        self.join()
        go_on(self._server)

    def run(self):
        while not self._over.is_set():
            stand_still(self._server)
            self._over.wait(0.045)
            go_on(self._server)
            self._over.wait(0.005)


def slow_one(run):
    with run.fleet() as fleet, run.client(fleet) as client:
        windows = Windows()
        client.run_for(run.seconds(1, 5))
        for _ in range(run.seconds(1, 10)):
            with windows.fault(), DutyCycle(run.random.choice(fleet.servers)):
                client.run_for(run.seconds(2, 6))
            client.run_for(run.seconds(0.5, 5))
        client.stop()
        run.report(client, windows, "a random server of 2x2 runs 5 ms of every 50 (SIGSTOP, SIGCONT): 10x slower")


def restart_loop(run):
    with run.fleet() as fleet, run.client(fleet) as client:
        windows, server = Windows(), run.random.choice(fleet.servers)
        client.run_for(run.seconds(1, 5))
        end = time.monotonic() + run.seconds(3, 60)
        while time.monotonic() < end:
            with windows.fault():
                server.kill()
                server.start()
                client.run_for(run.random.uniform(0, 0.4))  # while it starts, connects, or serves
        since = time.monotonic()
        server.kill()
        start(server)
        client.await_up(server, since)
        client.run_for(run.seconds(0.5, 4))
        client.stop()
        run.report(client, windows, "one server is started and killed again within 0 to 0.4 s, over and over")


def publish(fleet, target, delta):
    """What engramctl publish exits with: a target of other rows, made at the first call."""
    if not delta.exists():
        fleet.ctl("synth", "--out", target, "--like", "v41-flash", "--bucket-floor", fleet.bucket_floor, "--seed", 1)
        fleet.ctl("digest", target)
        fleet.ctl("delta", "--from", fleet.checkpoint, "--to", target, "--out", delta)
    return subprocess.Popen([fleet.bin / "engramctl", "publish", "--servers", fleet.addresses, delta],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def retire(fleet, target):
    digest = json.loads(fleet.ctl("digest", target))["digest"]
    held = json.loads(fleet.ctl("generations", "--servers", fleet.addresses, "--json"))
    if digest in json.dumps(held):
        subprocess.run([fleet.bin / "engramctl", "retire", "--servers", fleet.addresses, digest],
                       capture_output=True, timeout=LIMIT_S, check=False)


def kill_in_publish(run):
    """All servers hold the new generation, or publish says that it failed and can be tried again."""
    with run.fleet() as fleet, run.client(fleet) as client:
        windows, outcomes = Windows(), []
        target, delta = fleet.directory / "target", fleet.directory / "new.delta"
        client.run_for(run.seconds(1, 5))
        for _ in range(run.seconds(2, 20)):
            server = run.random.choice(fleet.servers)
            publishing = publish(fleet, target, delta)
            with windows.fault():
                time.sleep(run.random.uniform(0, 0.1))
                server.kill()
                said, _ = publishing.communicate(timeout=LIMIT_S)
                outcomes.append(publishing.returncode)
                check(publishing.returncode == 0 or "error:" in said, f"publish exits without a word: {said}")
                since = time.monotonic()
                start(server)
            client.await_up(server, since)
            again = publish(fleet, target, delta)
            said, _ = again.communicate(timeout=LIMIT_S)
            check(again.returncode == 0, f"publish does not succeed after the server has come back: {said}")
            retire(fleet, target)
        client.stop()
        run.report(client, windows, "SIGKILL of a random server 0 to 100 ms after publish began; "
                   f"{sum(code != 0 for code in outcomes)} publishes failed by it, all succeeded when tried again",
                   lost="no generation")


def kill_in_drain(run):
    with run.fleet(server_args=["--drain-ms", 2000]) as fleet, run.client(fleet) as client:
        windows = Windows()
        client.run_for(run.seconds(1, 5))
        for _ in range(run.seconds(2, 20)):
            server = run.random.choice(fleet.servers)
            with windows.fault():
                server.signal(signal.SIGTERM)
                client.run_for(run.random.uniform(0, 0.5))
                server.kill()
                since = time.monotonic()
                start(server)
            client.await_up(server, since)
            client.run_for(run.seconds(0.5, 4))
        client.stop()
        run.report(client, windows, "SIGTERM, and SIGKILL 0 to 0.5 s later, while the server drains")


def kill_in_load(run):
    with run.fleet(bucket_floor=20_000 if run.long else 4000) as fleet, run.client(fleet) as client:
        windows, server = Windows(), run.random.choice(fleet.servers)
        client.run_for(run.seconds(1, 5))
        with windows.fault():
            server.kill()
        for _ in range(run.seconds(5, 50)):
            with windows.fault():
                server.start()
                client.run_for(run.random.uniform(0, 0.15))
                server.kill()
        with windows.fault():
            since = time.monotonic()
            start(server)
        client.await_up(server, since)
        client.run_for(run.seconds(0.5, 4))
        client.stop()
        run.report(client, windows, "SIGKILL 0 to 150 ms after the start of a server, while it loads")


def descriptors(run):
    """Whoever is connected is served on; whoever is not goes to the replica."""
    with run.fleet() as fleet, run.client(fleet) as client:
        windows, server = Windows(), run.random.choice(fleet.servers)
        host, port = server.address.rsplit(":", 1)
        client.run_for(run.seconds(1, 5))
        for _ in range(run.seconds(1, 8)):
            with windows.fault(), contextlib.ExitStack() as stack:
                used = len(list(pathlib.Path(f"/proc/{server.pid}/fd").iterdir()))
                resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (used + 5, 4096))
                for _ in range(50):
                    stack.enter_context(socket.create_connection((host, int(port)), timeout=5))
                with run.client(fleet, rate=20) as second:
                    client.run_for(run.seconds(1.5, 8))
                    second.stop()
                    failed = [each for each in second.lookups() if each.failed or each.wrong]
                    check(not failed, f"a client that came meanwhile: {failed[:1]}")
                resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (4096, 4096))
            client.await_well()
            client.run_for(run.seconds(0.5, 4))
        check(server.running(), "the server has ended")
        client.stop()
        run.report(client, windows, "ulimit -n of a server at 5 more than it has, 50 connections to it; "
                   "another client comes meanwhile")


def disk_full(run):
    """What is published does not fit; what is served stays."""
    with run.fleet() as fleet, contextlib.ExitStack() as stack:
        volume = fleet.directory / "small"
        volume.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", volume],
                                 capture_output=True, text=True, check=False)
        if mounted.returncode != 0:
            raise Skip(f"no tmpfs can be mounted: {mounted.stderr.strip()}")
        stack.callback(subprocess.run, ["umount", "-l", volume], check=False)
        server = fleet.servers[0]
        server.stop()
        server.engramd[server.engramd.index("--data-dir") + 1] = str(volume / "data")
        server.run_inside()
        start(server)
        client = stack.enter_context(run.client(fleet))
        stack.callback(server.stop)  # before its volume goes
        windows, target, delta = Windows(), fleet.directory / "target", fleet.directory / "new.delta"
        client.run_for(run.seconds(1, 5))
        for _ in range(run.seconds(1, 5)):
            with windows.fault():
                publishing = publish(fleet, target, delta)
                said, _ = publishing.communicate(timeout=LIMIT_S)
                check(publishing.returncode != 0 and "No space left" in said, f"publish to a full disk says: {said}")
                client.run_for(run.seconds(0.5, 2))
            with windows.fault():
                server.kill()
                since = time.monotonic()
                start(server)
            client.await_up(server, since)
        client.stop()
        run.report(client, windows, "publish where one server's volume is full, then its SIGKILL and start",
                   lost="the publish, which says so")


CGROUP = pathlib.Path("/sys/fs/cgroup/memory")


@contextlib.contextmanager
def memory_cgroup(run, name, limit):
    group = CGROUP / f"engram-faults-{name}-{run.seed}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(limit))
    except OSError as error:
        raise Skip(f"no memory cgroup can be made: {error}") from error
    try:
        yield group
    finally:
        group.rmdir()


def out_of_memory(run):
    """The kernel's killer takes a server whose cgroup is full."""
    with memory_cgroup(run, "oom", 400 << 20) as group, run.fleet() as fleet, run.client(fleet) as client:
        windows = Windows()
        client.run_for(run.seconds(1, 5))
        for _ in range(run.seconds(1, 8)):
            server = run.random.choice(fleet.servers)
            (group / "cgroup.procs").write_text(str(server.pid))
            pathlib.Path(f"/proc/{server.pid}/oom_score_adj").write_text("1000")
            with windows.fault():
                hog = subprocess.Popen(["sh", "-c", f"echo $$ > {group}/cgroup.procs; exec {sys.executable} -c "
                                        "'import time; held = [bytearray(1 << 20) for _ in range(450)]; time.sleep(9)'"])
                try:
                    local.wait_for(lambda: not server.running(), "the server is killed", LIMIT_S)
                finally:
                    hog.kill()
                    hog.wait()
                client.run_for(0.5)
                since = time.monotonic()
                start(server)
            client.await_up(server, since)
            client.run_for(run.seconds(0.5, 4))
        client.stop()
        run.report(client, windows, "the kernel's out-of-memory killer takes a server whose cgroup another process fills")


FAULTS = {function.__name__: function for function in (
    kill_one, stop_one, stop_one_for_long, kill_range, stop_range, kill_all, stop_all, slow_one, restart_loop,
    kill_in_publish, kill_in_drain, kill_in_load, out_of_memory, descriptors, disk_full)}

if __name__ == "__main__":
    main("servers", FAULTS)
