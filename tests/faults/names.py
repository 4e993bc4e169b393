#!/usr/bin/env python3
"""Names that do not resolve, resolve slowly, to nothing, or to what has gone, as a headless Service's may."""
import contextlib
import copy
import itertools
import json
import os
import pathlib
import socket
import subprocess
import time
import urllib.request

from dns import Dns
from faults_support import LIMIT_S, Server, Skip, Windows, check, local, long, main

NAME = "table.faults.test"
FAILURES = ("servfail", "silent", "nxdomain", "empty")
IMPATIENT, PATIENT = "timeout:1 attempts:1", "timeout:5 attempts:2"  # PATIENT is what the C library does unasked
RESOLVE_S = 0.25  # how often clients look the name up; by themselves every two seconds

# Mounts are this process's alone: the machine's own files stay.
WITH_FILES = """mount --bind "$1" /etc/resolv.conf && mount --bind "$2" /etc/nsswitch.conf && shift 2 && exec "$@" """

# A client that only connects, and goes: how long that took, and the error.
CONNECT = """
import json, sys, time
import engram_client
begun, said = time.monotonic(), ""
try:
    engram_client.Client(sys.argv[1], **json.loads(sys.argv[2])).close()
except engram_client.EngramError as error:
    said = str(error)
print(json.dumps({"took": time.monotonic() - begun, "said": said}))
"""


class Names:
    """In `with`: a name server, which a client started `inside` asks; servers whose addresses are those of one name.

    Their port is one, as a headless Service's; their addresses are loopback's.
    """

    def __init__(self, run, options, **shape):
        self._run, self._options, self._shape = run, options, shape
        self._net = f"127.{64 + os.getpid() // 256 % 128}.{os.getpid() % 256}"
        self._hosts = itertools.cycle(range(100, 250))
        self.port = local.free_port()
        self.target = f"{NAME}:{self.port}"
        self.dns = Dns(f"{self._net}.53")

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self.dns)
            except OSError as error:
                raise Skip(f"a name server at {self.dns.host}: {error}") from error
            self.fleet = stack.enter_context(self._run.fleet(place=self._place, **self._shape))
            resolv, switch = self.fleet.directory / "resolv.conf", self.fleet.directory / "nsswitch.conf"
            resolv.write_text(f"nameserver {self.dns.host}\noptions {self._options}\n", encoding="utf-8")
            switch.write_text("hosts: files dns\n", encoding="utf-8")
            self.inside = ["unshare", "--mount", "sh", "-c", WITH_FILES, "sh", resolv, switch]
            self.publish()
            self._check_inside()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    def _check_inside(self):
        """The C library has there what the name server says."""
        try:
            subprocess.run([*self.inside, "true"], capture_output=True, text=True, check=True)
        except OSError as error:
            raise Skip(str(error)) from error
        except subprocess.CalledProcessError as error:
            raise Skip(f"a mount namespace with another resolv.conf: {error.stderr.strip()}") from error
        done = subprocess.run([*self.inside, "getent", "ahostsv4", NAME], capture_output=True, text=True, check=False)
        found = {line.split()[0] for line in done.stdout.splitlines()}
        check(found == set(self.dns.names[NAME]), f"the name is {found}, not {self.dns.names[NAME]}")

    def spare(self):
        """An address that no server has had lately."""
        return f"{self._net}.{next(self._hosts)}:{self.port}"

    def _place(self, server):
        """Before it starts."""
        server.address = self.spare()
        server.engramd[server.engramd.index("--listen") + 1] = server.address

    def publish(self, *others, servers=None):
        """The name is these servers' addresses of now (default: all), and the others."""
        addresses = [server.address for server in servers or self.fleet.servers]
        self.dns.names = {NAME: [address.rsplit(":", 1)[0] for address in (*addresses, *others)]}

    def replace(self, server):
        """SIGKILL, and another in its place at another address; the name does not know it yet."""
        server.kill()
        self._place(server)
        server.start()
        server.await_serving()

    def client(self, **flags):
        settings = {"resolve_interval_us": int(RESOLVE_S * 1e6), **flags.pop("settings", {})}
        return self._run.client(self.fleet, addresses=self.target, inside=self.inside, settings=settings, **flags)

    def connect(self, timeout_s, **settings):
        """{"took", "said"} of a client that connects and goes."""
        settings = {"connect_timeout_us": int(timeout_s * 1e6), **settings}
        done = subprocess.run([*self.inside, "/usr/bin/python3", "-c", CONNECT, self.target, json.dumps(settings)],
                              capture_output=True, text=True, timeout=LIMIT_S, check=False,
                              env={**os.environ, "PYTHONPATH": str(self.fleet.build / "python")})
        check(done.returncode == 0, f"a client that connects: {done.stderr}")
        return json.loads(done.stdout)

    def meet(self, client, behaviour, slow_s=0.0):
        """The name server does this from now on; until a whole lookup of the client has met it."""
        self.dns.behaviour, self.dns.slow_s = behaviour, slow_s
        before = self.dns.asked[behaviour]
        # A and AAAA, so many times at most; what is asked after that is the next lookup's.
        enough = before + 2 * int(self._options[-1]) + 1
        client.wait(lambda: self.dns.asked[behaviour] >= enough, f"a lookup of a name that is {behaviour}")

    def await_used(self, client, server, since):
        """Until the client has found the server."""
        client.wait(lambda: self.knows(client, server, since), f"{server.name} is found at {server.address}")

    @staticmethod
    def knows(client, server, since):
        return any(line.endswith(f"({server.address}) is up") for line in client.logged(since))

    def sibling(self, server):
        return next(each for row in self.fleet.by_shard for each in row if server in row and each is not server)

    def lean_on(self, client, server):
        """The other replica of its range is killed for a while: only this one can answer."""
        other = self.sibling(server)
        other.kill()
        client.run_for(0.5)
        since = time.monotonic()
        other.start()
        other.await_serving()
        self.await_used(client, other, since)


@contextlib.contextmanager
def named(run, options=IMPATIENT, **flags):
    with Names(run, options) as names, names.client(**flags) as client:
        client.run_for(run.seconds(1, 5))
        yield names, client


def gone(client):
    return [line for line in client.logged() if line.endswith(" has gone")]


def fails(run):
    with named(run, run.seconds(IMPATIENT, PATIENT)) as (names, client):
        windows, replaced = Windows(), 0
        for behaviour in FAILURES:
            with windows.fault():
                names.meet(client, behaviour)
                client.run_for(run.seconds(0, 5))
                names.meet(client, "answer")
            check(not gone(client), f"servers were given up for a name that is {behaviour}: {gone(client)}")
            client.run_for(run.seconds(0, 3))
        for behaviour in run.random.sample(FAILURES, run.seconds(1, len(FAILURES))):
            server = run.random.choice(names.fleet.servers)
            with windows.fault():
                names.meet(client, behaviour)
                since = time.monotonic()
                names.replace(server)
                names.publish()
                client.run_for(run.seconds(1, 3))
                check(not names.knows(client, server, since), "a server was found by a name that fails")
                names.dns.behaviour = "answer"
                names.await_used(client, server, since)
                names.lean_on(client, server)
                replaced += 1
            client.run_for(run.seconds(0, 3))
        names.meet(client, "silent")
        begun = time.monotonic()
        client.stop()
        check(time.monotonic() - begun < 3, f"a client took {time.monotonic() - begun:.1f} s to close while a name is "
              "looked up")
        run.report(client, windows, "the name fails: SERVFAIL, no answer, NXDOMAIN, no address; then a server is "
                   f"replaced at another address meanwhile ({replaced} times), and has to carry its range once the "
                   "name is well")


class Mute:
    """In `with`: takes connections, and never says a word."""

    def __init__(self, address):
        self.address = address
        host, port = address.rsplit(":", 1)
        self._socket = socket.create_server((host, int(port)), backlog=64)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()


@contextlib.contextmanager
def of_another_table(names):
    """A server of all rows of a table of the same shape and other rows; and its digest."""
    other = copy.copy(names.fleet)
    other.directory = names.fleet.directory / "other"
    other.directory.mkdir()
    other.checkpoint, other.shards = other.directory / "checkpoint", 1
    other.ctl("synth", "--out", other.checkpoint, "--like", "v41-flash", "--bucket-floor", other.bucket_floor,
              "--seed", 1)
    digest = json.loads(other.ctl("digest", other.checkpoint))["digest"]
    server = Server(other, 0, 0, [])
    server.address = names.spare()
    server.engramd[server.engramd.index("--listen") + 1] = server.address
    server.start()
    try:
        server.await_serving()
        yield server, digest
    finally:
        server.stop()


def connected_to(address):
    """Whether some process is, or was within the last minute, connected to this address."""
    host, port = address.rsplit(":", 1)
    wanted = "%08X:%04X" % (int.from_bytes(socket.inet_aton(host), "little"), int(port))
    return any(line.split()[2] == wanted for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:])


def requests_to(server):
    with urllib.request.urlopen(f"http://{server.metrics}/metrics", timeout=5) as answer:
        return sum(float(line.rsplit(" ", 1)[1]) for line in answer.read().decode().splitlines()
                   if line.startswith("engram_requests_total{"))


def stale(run):
    with named(run) as (names, client), of_another_table(names) as (stranger, digest):
        windows, nobody = Windows(), names.spare()
        with Mute(names.spare()) as mute:
            for others in ([nobody], [mute.address], [stranger.address], [nobody, mute.address, stranger.address]):
                with windows.fault():
                    names.publish(*others)
                    names.meet(client, "answer")
                    client.run_for(run.seconds(1, 10))
                    if stranger.address in others:
                        client.wait(lambda: connected_to(stranger.address), "the other table's server is tried")
                names.publish()
                names.meet(client, "answer")
                client.run_for(run.seconds(0, 3))
            for _ in range(run.seconds(1, 8)):
                server = run.random.choice(names.fleet.servers)
                with windows.fault():
                    old, since = server.address, time.monotonic()
                    names.replace(server)
                    client.run_for(run.seconds(0.5, 3))
                    names.publish(old, nobody, mute.address, stranger.address)  # the new one, and still the old
                    names.await_used(client, server, since)
                    names.lean_on(client, server)
                names.publish()
                client.run_for(run.seconds(0, 3))
            # Who comes now: refuses by itself, or knows which table it wants.
            own = json.loads(names.fleet.ctl("digest", names.fleet.checkpoint))["digest"]
            names.publish(nobody, stranger.address)
            refused = names.connect(5)["said"]
            check("serves the table of digest" in refused and own in refused and digest in refused,
                  f"a client that finds two tables by one name says `{refused}`")
            with names.client(settings={"expect_digest": own}) as chooser:
                chooser.run_for(run.seconds(1, 5))
                chooser.stop()
                bad = [each for each in chooser.lookups() if each.failed or each.wrong]
                check(not bad, f"a client that knows its table's digest: {bad[:1]}")
            check(requests_to(stranger) == 0, "another table's server was asked for rows")
        client.stop()
        run.report(client, windows, "the name also gives addresses where nobody listens, where nobody speaks, and "
                   "where another table of the same shape is served (which is never asked for rows)")


@long
def stale_follower(run):
    """`stale`, for clients that follow generations: another table is none of theirs."""
    following = {"follow_generations": True, "follow_interval_us": 200_000}
    with named(run, settings=following) as (names, client), of_another_table(names) as (stranger, _):
        windows = Windows()
        for _ in range(run.seconds(1, 3)):
            with windows.fault():
                names.publish(stranger.address)
                client.wait(lambda: connected_to(stranger.address), "the other table's server is tried")
                client.run_for(run.seconds(2, 5))
            names.publish()
            client.run_for(run.seconds(1, 5))
        client.stop()
        run.report(client, windows, "the name also gives a server of all rows of another table of the same shape; the "
                   f"client has `follow_generations` ({requests_to(stranger):,.0f} requests to that server)")


def moves(run):
    """Nothing of what the name gave is in what it gives then; what it gave serves on for a while."""
    with Names(run, IMPATIENT, replicas=4) as names:
        here = [server for row in names.fleet.by_shard for server in row[:2]]
        there = [server for server in names.fleet.servers if server not in here]
        names.publish(servers=here)
        with names.client(rate=200) as client:  # of each thread: what a moment without a server costs shows
            client.run_for(run.seconds(1, 5))
            windows = Windows()
            for _ in range(run.seconds(4, 30)):
                here, there = there, here
                since = time.monotonic()
                with windows.fault():
                    names.publish(servers=here)
                    for server in here:
                        names.await_used(client, server, since)
                    client.wait(lambda: len([line for line in client.logged(since) if line.endswith(" has gone")]) ==
                                len(there), "the servers of before are let go")
                client.run_for(run.random.uniform(0, 1))
            client.await_well()
            client.stop()
        run.report(client, windows, "all of the name's addresses change at once, to other servers of the table; those "
                   "of before serve on; 400 lookups a second")


class Together:
    """What several clients saw."""

    def __init__(self, clients):
        self._clients = clients

    def lookups(self):
        return [lookup for client in self._clients for lookup in client.lookups()]

    def story(self, failed):
        return "".join(client.story(failed) for client in self._clients)


def at_start(run, behaviours, what):
    """A client whose patience ends before the name is well says so in time; one with more gets through."""
    with Names(run, PATIENT) as names:
        windows, clients, longest = Windows(), [], 0.0
        for behaviour in behaviours:
            client = names.client()
            try:
                with windows.fault():
                    names.dns.behaviour = behaviour
                    outcome = names.connect(1.5)
                    check(NAME in outcome["said"], f"while the name is {behaviour}, the error is `{outcome['said']}`")
                    check(1.4 < outcome["took"] < 2.5, f"while the name is {behaviour}, a connect timeout of 1.5 s "
                          f"took {outcome['took']:.1f} s")
                    longest = max(longest, outcome["took"])
                    before = names.dns.asked[behaviour]
                    client.process.start()
                    client.wait(lambda: names.dns.asked[behaviour] > before, "a client looks up")
                    client.run_for(run.seconds(1, 8))
                    check(not client.lookups(), "a client got through without the name")
                    names.dns.behaviour = "answer"
                    client.wait(client.lookups, "a first lookup")
                client.run_for(run.seconds(1, 20))
            finally:
                client.stop()
            clients.append(client)
        run.report(Together(clients), windows, f"{what} when a client starts; one with a connect timeout of 1.5 s says "
                   f"so within {longest:.1f} s and names it, one of 20 s gets through once the name is well")


def fails_at_start(run):
    at_start(run, ("servfail", "silent", "nxdomain"), "the name fails (SERVFAIL, no answer, NXDOMAIN)")


def empty_at_start(run):
    at_start(run, ("empty",), "the name has no address")


def slow(run):
    with named(run, PATIENT) as (names, client):
        windows = Windows()
        for _ in range(run.seconds(1, 8)):
            with windows.fault():
                names.meet(client, "answer", slow_s=3)
                server, since = run.random.choice(names.fleet.servers), time.monotonic()
                names.replace(server)
                names.publish()
                names.await_used(client, server, since)
                names.lean_on(client, server)
            names.meet(client, "answer")
            client.run_for(run.seconds(1, 3))
        client.stop()
        run.report(client, windows, "the name server's answers take 3 s; a server is replaced meanwhile")


def flips(run):
    """All of it, at random, while servers are replaced and the name follows with a lag."""
    with named(run) as (names, client), of_another_table(names) as (stranger, _), Mute(names.spare()) as mute:
        windows, end, replaced = Windows(), time.monotonic() + run.seconds(8, 200), 0
        lost = (names.spare(), mute.address, stranger.address)

        def stir(seconds):
            """Behaviours one after the other, for so long."""
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                names.dns.behaviour = run.random.choice(("answer", *FAILURES))
                names.dns.slow_s = run.random.choice((0, 0, 0.1, 0.9, 3))
                client.run_for(run.random.uniform(0.05, 0.7))

        while time.monotonic() < end:
            others = run.random.sample(lost, run.random.randrange(4))
            with windows.fault():
                server = run.random.choice(names.fleet.servers)
                old, since = server.address, time.monotonic()
                names.replace(server)
                stir(run.random.uniform(0, 2))
                names.publish(*others, *run.random.sample((old,), run.random.randrange(2)))
                stir(run.random.uniform(0, 2))
                names.dns.behaviour, names.dns.slow_s = "answer", 0
                names.await_used(client, server, since)
                names.lean_on(client, server)
                replaced += 1
            client.run_for(run.random.uniform(0, 1))
        check(requests_to(stranger) == 0, "another table's server was asked for rows")
        client.stop()
        asked = ", ".join(f"{count} {behaviour}" for behaviour, count in names.dns.asked.items())
        run.report(client, windows, f"all of these at random, {replaced} servers replaced meanwhile; the name follows "
                   f"0 to 2 s later, or more (questions: {asked})")


FAULTS = {function.__name__: function for function in (
    fails, stale, stale_follower, moves, empty_at_start, fails_at_start, slow, flips)}

if __name__ == "__main__":
    main("names", FAULTS)
