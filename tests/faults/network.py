#!/usr/bin/env python3
"""Connections that are cut, go silent or slowly; links that lose packets, all of them or some."""
import contextlib

from faults_support import Windows, check, main
from namespaces import Filter, Links, first_replicas, linked
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


def silent(run, cause, direction):
    """Connections stay open, half-open at last: a host that is gone without a word, or a partition."""
    with behind_proxies(run, {0}) as (client, proxies):
        windows = Windows()
        disturb(run, client, proxies, windows, run.seconds(1, 5), run.seconds(2, 10), silent=direction)
        client.stop()
        run.report(client, windows, cause)


def silent_one(run):
    silent(run, "connections to one replica of each range pass nothing and stay open (half-open)", "both")


def silent_up(run):
    silent(run, "nothing of what the client sends reaches one replica of each range", "up")


def silent_down(run):
    silent(run, "nothing of what one replica of each range answers reaches the client", "down")


def slow_link(run):
    with behind_proxies(run, {0}) as (client, proxies):
        windows = Windows()
        disturb(run, client, proxies, windows, run.seconds(1, 5), run.seconds(2, 10), bytes_per_s=100_000)
        client.stop()
        run.report(client, windows, "100 kB/s of each connection to one replica of each range")


def partition(run, cause, directions, rounds, lasts_s):
    links = Links()
    with linked(run, links) as client:
        windows, rules, dropped = Windows(), Filter(links), 0
        for _ in range(rounds):
            with windows.fault():
                for direction in directions:
                    rules.drop(first_replicas(links.links), direction)
                client.run_for(lasts_s)
                dropped += rules.dropped()
                rules.heal()
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
    links = Links()
    with linked(run, links) as client:
        windows, rules = Windows(), Filter(links)
        with windows.fault():
            for direction in ("input", "output"):
                rules.drop(links.links, direction, "numgen random mod 100 < 1")
            client.run_for(run.seconds(4, 60))
            dropped = rules.dropped()
            rules.heal()
        client.await_well()
        client.run_for(run.seconds(1, 6))
        client.stop()
        run.report(client, windows, f"1 % of the packets of all links, each way ({dropped} dropped; the kernel's "
                   "random numbers, without a seed)")


def flapping(run):
    links = Links()
    with linked(run, links) as client:
        windows = Windows()
        for _ in range(run.seconds(6, 80)):
            link = run.random.choice(first_replicas(links.links))
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
