#!/usr/bin/env python3
"""Links that take long, now longer and now shorter, and bring packets late, twice or not at all (emulator.py)."""
import collections
import contextlib
import json
import math
import re
import statistics
import time

from emulator import Emulator, Fate
from faults_support import LIMIT_S, Skip, Windows, check, long, main, percentile
from namespaces import Links, command, first_replicas, linked
from plain_tcp import Answers, answers_s, round_trips_s, stream

# What TCP saw, of the kernel's counters: segments sent again; that came out of order; that came twice, as the receiver
# noticed (what it had read, or had not).
TCP_COUNTERS = {"sent again": ("TcpRetransSegs",), "out of order": ("TcpExtTCPOFOQueue",),
                "twice": ("TcpExtTCPDSACKOldSent", "TcpExtTCPDSACKOfoSent")}
# Packets that wait in a device for the emulator: more than the fleet has under way, so that none is dropped there.
QUEUE_PACKETS = 5000
LOOKUP_BYTES = 2 * 192 * 264  # layers, rows, bytes of a row


class EmulatedLinks(Links):
    """Links whose packets meet the fate that was set."""

    def __init__(self, seed):
        super().__init__()
        self.emulator = Emulator(seed)
        self._ends = []

    def __exit__(self, *_):
        self.emulator.__exit__()  # before its devices go with their namespaces
        super().__exit__()

    def _connect(self, near, far):
        try:
            self.emulator.connect(near, far)
        except OSError as error:
            raise Skip(f"no TUN devices: {error}") from error
        for namespace, device in (near, far):
            command("ip", "-n", namespace, "link", "set", device, "txqueuelen", str(QUEUE_PACKETS))
            self._ends.append((namespace, device))

    def overrun(self):
        """Packets dropped because the emulator did not keep up."""
        return sum(json.loads(command("ip", "-j", "-s", "-n", namespace, "link", "show", "dev", device))[0]
                   ["stats64"]["tx"]["dropped"] for namespace, device in self._ends)

    def tcp(self):
        """TCP's counters so far, of all namespaces."""
        seen = collections.Counter()
        for namespace in self.namespaces:
            of = json.loads(command("ip", "netns", "exec", namespace, "nstat", "-asz", "--json"))["kernel"]
            seen.update({name: sum(of[part] for part in parts) for name, parts in TCP_COUNTERS.items()})
        return seen

    def round_trip_ms(self, numbers):
        """TCP's estimate, the median of the client's connections to these servers; None: there are none."""
        said = command(*self.inside, "ss", "-tinH", "state", "established").split("10.99.")
        times = [float(match[1]) for number in numbers for each in said
                 if each.startswith(f"{number}.2:") and (match := re.search(r"\brtt:([\d.]+)/", each))]
        return statistics.median(times) if times else None


def plain_ms(links, fate, seconds):
    """What plain TCP takes for a lookup's bytes, half of them from either range's first replica, with this fate."""
    numbers = first_replicas(range(len(links.links)))
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(Answers(links.namespaces[0], links.namespaces[1 + i], links.address(i),
                                                   LOOKUP_BYTES // 2)) for i in numbers]
        links.emulator.set_fate(numbers, fate)
        times = answers_s(connections, seconds)
        links.emulator.set_fate(numbers, Fate())
    return [each * 1e3 for each in times]


class Disturbed:
    """Links that have had a fate now and again: what became of packets, what TCP saw of that, and the client."""

    def __init__(self, links, numbers, fate, client):
        self._links, self._numbers, self._fate = links, numbers, fate
        self.client, self.windows = client, Windows()
        self.packets, self.tcp = collections.Counter(), collections.Counter()
        self._round_trips = []
        self._plain_ms = []

    def plainly(self, seconds):
        """The same of plain TCP, when the client has ended."""
        self._plain_ms = plain_ms(self._links, self._fate, seconds)

    @property
    def plain_p99_ms(self):
        return percentile(self._plain_ms, 0.99)

    def for_seconds(self, seconds):
        packets, tcp = self._links.emulator.counts(), self._links.tcp()
        self._links.emulator.set_fate(self._numbers, self._fate)
        with self.windows.fault():
            self.client.run_for(seconds)
        self._round_trips.append(self._links.round_trip_ms(self._numbers))
        self._links.emulator.set_fate(self._numbers, Fate())
        # Counter's own minus would leave zeros out.
        self.packets.update({name: n - packets[name] for name, n in self._links.emulator.counts().items()})
        self.tcp.update({name: n - tcp[name] for name, n in self._links.tcp().items()})

    def took_ms(self):
        """Of lookups that began and ended during the fault."""
        return [each.took * 1e3 for each in self.client.lookups() if any(
            begin <= each.at and each.at + each.took <= end for begin, end in self.windows.spans)]

    def report(self, run, cause, **how):
        """After the end."""
        did = [f"{self.packets[name]:,} {name}" for name in ("delayed", "overtaken", "doubled", "lost")
               if self.packets[name]]
        saw = [f"{count:,} segments {name}" for name, count in self.tcp.items() if count]
        known = [each for each in self._round_trips if each is not None]
        if known and self._fate.delay_ms:
            saw.append(f"round trips of {statistics.median(known):.1f} ms")
        plain = (f"; plain TCP takes {statistics.median(self._plain_ms):.1f} ms for a lookup's bytes, p99 "
                 f"{self.plain_p99_ms:.1f}") if self._plain_ms else ""
        run.report(self.client, self.windows, f"{cause} ({self.packets['packets']:,} packets: {', '.join(did)}; "
                   f"TCP saw {', '.join(saw)}{plain})", **how)
        check(self._links.overrun() == 0, f"{self._links.overrun()} packets dropped: the emulator did not keep up")

    def check_delay(self, least_ms, most_ms):
        """What the packets that were delayed took on average."""
        check(self.packets["delayed"] > 0, "no packet was delayed")
        took_ms = 1e3 * self.packets["taken_s"] / self.packets["delayed"]
        check(least_ms <= took_ms <= most_ms, f"packets took {took_ms:.1f} ms, not {least_ms} to {most_ms}")

    def check_share(self, name, share):
        """Of packets: within a half and twice what was asked for."""
        packets, count = self.packets["packets"], self.packets[name]
        check(share / 2 <= count / packets <= 2 * share, f"{count} of {packets} packets {name}, not {share}")

    def check_avoided(self):
        """Who takes all replicas alike has half of the packets delayed."""
        packets, delayed = self.packets["packets"], self.packets["delayed"]
        check(delayed < 0.4 * packets, f"{delayed} of {packets} packets went by the slow links")

    def check_seen(self, name):
        check(self.tcp[name] > 0, f"TCP saw no segments {name}")


@contextlib.contextmanager
def disturbed(run, fate, one=False):
    """The links to `one` replica of each range, or all, have this fate a few times; yields when that is over."""
    links = EmulatedLinks(run.seed)
    with linked(run, links) as client:
        numbers = list(range(len(links.links)))
        what = Disturbed(links, first_replicas(numbers) if one else numbers, fate, client)
        for _ in range(run.seconds(1, 3)):
            what.for_seconds(run.seconds(3, 10))
            client.await_well()
            client.run_for(run.seconds(1, 5))
        client.stop()
        if not one:
            what.plainly(run.seconds(1, 8))
        yield what


def delay_one(run):
    with disturbed(run, Fate(delay_ms=5), one=True) as what:
        waited = sum(took >= 10 for took in what.took_ms())
        what.report(run, f"5 ms more each way on the links of one replica of each range; {waited:,} lookups took 10 ms "
                    "or more")
        what.check_delay(5, 10)
        check(what.packets["overtaken"] == 0, "packets came out of order")
        what.check_avoided()


def delay_all(run):
    with disturbed(run, Fate(delay_ms=5)) as what:
        what.report(run, "5 ms more each way on all links", adds_ms=10)
        what.check_delay(5, 10)
        check(what.packets["overtaken"] == 0, "packets came out of order")
        check(min(what.took_ms()) >= 10, f"a lookup took {min(what.took_ms()):.1f} ms: not by these links")


def jitter_one(run):
    with disturbed(run, Fate(jitter_ms=20, ordered=False), one=True) as what:
        what.report(run, "0 to 20 ms more each way, of each packet anew, on the links of one replica of each range")
        what.check_delay(8, 20)
        what.check_seen("out of order")
        what.check_avoided()


def jitter_all(run):
    """How long lookups take is not bounded: what TCP itself takes differs by more from one time to the next."""
    with disturbed(run, Fate(jitter_ms=20, ordered=False)) as what:
        what.report(run, "0 to 20 ms more each way, of each packet anew, on all links",
                    adds_ms=math.inf)
        what.check_delay(8, 20)
        what.check_seen("out of order")


def jitter_in_order(run):
    with disturbed(run, Fate(jitter_ms=20)) as what:
        what.report(run, "the same, but no packet overtakes another", adds_ms=math.inf)
        check(what.packets["overtaken"] == 0, "packets came out of order")
        what.check_delay(8, 25)


def reordering(run):
    with disturbed(run, Fate(held_share=0.05, held_ms=5)) as what:
        what.report(run, "5 % of the packets of all links, each way, are held for 5 ms, and overtaken",
                    adds_ms=what.plain_p99_ms)
        what.check_share("delayed", 0.05)
        check(what.packets["overtaken"] > 0, "no packet was overtaken")
        what.check_seen("out of order")


def duplication(run):
    with disturbed(run, Fate(doubled_share=0.05, copy_ms=5)) as what:
        what.report(run, "5 % of the packets of all links, each way, come again within 5 ms")
        what.check_share("doubled", 0.05)
        what.check_seen("twice")


def seeded_loss(run):
    with disturbed(run, Fate(lost_share=0.01)) as what:
        what.report(run, "1 % of the packets of all links, each way, by numbers with a seed")
        what.check_share("lost", 0.01)
        what.check_seen("sent again")


def bad_link(run):
    with disturbed(run, Fate(delay_ms=2, jitter_ms=5, ordered=False, doubled_share=0.02, copy_ms=5, lost_share=0.02),
                   one=True) as what:
        what.report(run, "all of that on the links of one replica of each range: 2 to 7 ms each way, 2 % twice, 2 % "
                    "lost")
        for name in ("delayed", "overtaken", "doubled", "lost"):
            check(what.packets[name] > 0, f"no packet {name}")
        what.check_seen("sent again")
        what.check_avoided()


class Place:
    """Of no server: floor() has both ends."""

    def move(self, host, *_):
        self.host = host


@long
def floor(run):
    """What the emulator itself costs, with nothing asked of it: the faults say nothing if it is much."""
    with EmulatedLinks(run.seed) as links:
        place = Place()
        links.place(place)
        near, far = links.namespaces
        times = round_trips_s(near, far, place.host, 5000)
        before, begun = links.emulator.counts(), time.monotonic()
        carried = stream(near, far, place.host, run.seconds(3, 10))
        took, after = time.monotonic() - begun, links.emulator.counts()
        per_s, bytes_per_s = (after["packets"] - before["packets"]) / took, carried / took
        print(f"  round trip of 64 bytes: median {statistics.median(times) * 1e3:.2f} ms, p99 "
              f"{percentile(times, 0.99) * 1e3:.2f}; a TCP stream: {per_s:,.0f} packets/s, {bytes_per_s / 1e6:.0f} "
              f"MB/s; {links.overrun()} packets dropped", flush=True)
        check(statistics.median(times) < 2e-3, "a round trip takes milliseconds")
        check(bytes_per_s > 20e6, "less than twice what the lookups of the faults need")


FAULTS = {function.__name__: function for function in (
    floor, delay_one, delay_all, jitter_one, jitter_all, jitter_in_order, reordering, duplication, seeded_loss,
    bad_link)}

if __name__ == "__main__":
    main("links", FAULTS)
