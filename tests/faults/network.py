#!/usr/bin/env python3
"""Connections that are cut, go silent, lose or delay packets; names that lead nowhere."""
import contextlib
import os
import subprocess
import time

from faults_support import Skip, Windows, check, main
from proxy import Proxy
from servers import NAMES_RANGE


@contextlib.contextmanager
def behind_proxies(run, replicas):
    """A fleet of 2x2 with these replicas of both ranges behind proxies; yields fleet, client and proxies."""
    with run.fleet() as fleet, contextlib.ExitStack() as stack:
        proxies, addresses = [], []
        for i, server in enumerate(fleet.servers):
            if i % fleet.replicas in replicas:
                proxies.append(stack.enter_context(Proxy(server.address, run.seed + i)))
                addresses.append(proxies[-1].address)
            else:
                addresses.append(server.address)
        client = stack.enter_context(run.client(fleet, addresses=",".join(addresses)))
        client.run_for(run.seconds(1, 5))
        yield client, proxies


def disturb(run, client, proxies, windows, rounds, lasts_s, **what):
    for _ in range(rounds):
        with windows.fault():
            for proxy in proxies:
                for name, value in what.items():
                    setattr(proxy, name, value)
                if proxy.cut:
                    proxy.cut_all()
            client.run_for(lasts_s)
            for proxy in proxies:
                proxy.cut, proxy.silent, proxy.bytes_per_s = False, "", None
                if "cut" in what:
                    proxy.cut_all()  # those that have bytes left to be cut after
        client.await_well()
        client.run_for(run.seconds(1, 6))


def cuts_of(proxies):
    cuts = [cut for proxy in proxies for cut in proxy.cuts]
    offsets = sorted(passed for _, passed in cuts)
    check(cuts, "nothing was cut")
    early = sum(passed < 1000 for passed in offsets)
    return (f"{len(cuts)} connections cut after {offsets[0]} to {offsets[-1]} bytes ({early} within the first 1,000; "
            f"{sum(direction == 'up' for direction, _ in cuts)} by what the client sends), FIN or RST")


def cut_one(run):
    with behind_proxies(run, {0}) as (client, proxies):
        windows = Windows()
        disturb(run, client, proxies, windows, 1, run.seconds(4, 120), cut=True)
        client.stop()
        run.report(client, windows, f"one replica of each range behind a proxy: {cuts_of(proxies)}")


def cut_all(run):
    with behind_proxies(run, {0, 1}) as (client, proxies):
        windows = Windows()
        disturb(run, client, proxies, windows, 1, run.seconds(4, 120), cut=True)
        client.stop()
        run.report(client, windows, f"all replicas behind proxies: {cuts_of(proxies)}",
                   says=NAMES_RANGE, may_succeed=True)


def silent_one(run):
    """Half-open connections: the host behind them is gone without a word."""
    with behind_proxies(run, {0}) as (client, proxies):
        windows = Windows()
        disturb(run, client, proxies, windows, run.seconds(1, 5), run.seconds(3, 10), silent="both")
        client.stop()
        run.report(client, windows, "connections to one replica of each range pass nothing and stay open (half-open)")


def silent_up(run):
    with behind_proxies(run, {0}) as (client, proxies):
        windows = Windows()
        disturb(run, client, proxies, windows, run.seconds(1, 5), run.seconds(2, 10), silent="up")
        client.stop()
        run.report(client, windows, "nothing of what the client sends reaches one replica of each range")


def silent_down(run):
    with behind_proxies(run, {0}) as (client, proxies):
        windows = Windows()
        disturb(run, client, proxies, windows, run.seconds(1, 5), run.seconds(2, 10), silent="down")
        client.stop()
        run.report(client, windows, "nothing of what one replica of each range answers reaches the client")


def slow_link(run):
    with behind_proxies(run, {0}) as (client, proxies):
        windows = Windows()
        disturb(run, client, proxies, windows, run.seconds(1, 5), run.seconds(2, 10), bytes_per_s=100_000)
        client.stop()
        run.report(client, windows, "100 kB/s of each connection to one replica of each range")


def command(*parts):
    done = subprocess.run(parts, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Skip(f"{' '.join(parts)}: {done.stderr.strip()}")


class Links:
    """In `with`: namespaces, one for the client and one a server, each with a link to the client's."""

    def __init__(self):
        self._name = f"ef{os.getpid()}"
        self.inside = ["ip", "netns", "exec", self._name]
        self.links = []  # at the client, by server

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self._stack = stack
            self._add_namespace(self._name)
            self._nft("add table inet faults")
            for chain in ("input", "output"):
                self._nft(f"add chain inet faults {chain} {{ type filter hook {chain} priority 0; }}")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    def _add_namespace(self, name):
        command("ip", "netns", "add", name)
        self._stack.callback(subprocess.run, ["ip", "netns", "del", name], check=False)
        command("ip", "-n", name, "link", "set", "lo", "up")

    def _nft(self, rule):
        command(*self.inside, "nft", rule)

    def place(self, server):
        """A server, before it starts."""
        number = len(self.links)
        own, link, far = f"{self._name}s{number}", f"to{number}", f"from{number}"
        self._add_namespace(own)
        command("ip", "-n", self._name, "link", "add", link, "type", "veth", "peer", "name", far, "netns", own)
        for namespace, device, host in ((self._name, link, 1), (own, far, 2)):
            command("ip", "-n", namespace, "address", "add", f"10.99.{number}.{host}/30", "dev", device)
            command("ip", "-n", namespace, "link", "set", device, "up")
        self.links.append(link)
        server.move(f"10.99.{number}.2", "ip", "netns", "exec", own)

    def drop(self, links, direction, condition=""):
        """Packets that come from these links ("input") or leave by them ("output")."""
        for link in links:
            name = "iifname" if direction == "input" else "oifname"
            self._nft(f"add rule inet faults {direction} {name} {link} {condition} counter drop")

    def dropped(self):
        """How many packets the rules of now have dropped."""
        said = subprocess.run([*self.inside, "nft", "list", "table", "inet", "faults"], capture_output=True, text=True,
                              check=True).stdout.split()
        return sum(int(said[i + 1]) for i, word in enumerate(said) if word == "packets")

    def heal(self):
        for chain in ("input", "output"):
            self._nft(f"flush chain inet faults {chain}")

    def set_up(self, link, up):
        command("ip", "-n", self._name, "link", "set", link, "up" if up else "down")


@contextlib.contextmanager
def linked(run):
    with Links() as links, run.fleet(place=links.place) as fleet, run.client(fleet, inside=links.inside) as client:
        client.run_for(run.seconds(1, 5))
        yield links, client


def first_replicas(links):
    return links.links[::2]


def partition(run, cause, directions, rounds, lasts_s):
    with linked(run) as (links, client):
        windows, dropped = Windows(), 0
        for _ in range(rounds):
            with windows.fault():
                for direction in directions:
                    links.drop(first_replicas(links), direction)
                client.run_for(lasts_s)
                dropped += links.dropped()
                links.heal()
            client.await_well()
            client.run_for(run.seconds(1, 6))
        client.stop()
        run.report(client, windows, f"{cause} ({dropped} packets dropped)")


def partition_from_one(run):
    partition(run, "packets from one replica of each range are dropped", ["input"], run.seconds(1, 6),
              run.seconds(2, 10))


def partition_to_one(run):
    partition(run, "packets to one replica of each range are dropped", ["output"], run.seconds(1, 6),
              run.seconds(2, 10))


def partition_of_one(run):
    partition(run, "packets to and from one replica of each range are dropped, for longer than keep-alive waits",
              ["input", "output"], 1, run.seconds(3, 50))


def loss(run):
    with linked(run) as (links, client):
        windows = Windows()
        with windows.fault():
            for direction in ("input", "output"):
                links.drop(links.links, direction, "numgen random mod 100 < 1")
            client.run_for(run.seconds(4, 60))
            dropped = links.dropped()
            links.heal()
        client.await_well()
        client.run_for(run.seconds(1, 6))
        client.stop()
        run.report(client, windows, f"1 % of the packets of all links, each way ({dropped} dropped; the kernel's "
                   "random numbers, without a seed)")


def flapping(run):
    with linked(run) as (links, client):
        windows = Windows()
        for _ in range(run.seconds(6, 80)):
            link = run.random.choice(first_replicas(links))
            with windows.fault():
                links.set_up(link, False)
                client.run_for(run.random.uniform(0.05, 0.5))
                links.set_up(link, True)
            client.run_for(run.random.uniform(0.05, 0.5))
        client.await_well()
        client.run_for(run.seconds(1, 6))
        client.stop()
        run.report(client, windows, "the link to a random server (one replica of each range) goes down and up, 0.05 to "
                   "0.5 s each")


FAULTS = {function.__name__: function for function in (
    cut_one, cut_all, silent_one, silent_up, silent_down, slow_link, partition_from_one, partition_to_one,
    partition_of_one, loss, flapping)}

if __name__ == "__main__":
    main("network", FAULTS)
