#!/usr/bin/env python3
"""Connections that are cut, go silent, lose or delay packets; names that lead nowhere."""
import contextlib
import time

from faults_support import Windows, check, long, main
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
                   says=(*NAMES_RANGE, "was lost"), may_succeed=True)


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


FAULTS = {function.__name__: function for function in (
    cut_one, cut_all, silent_one, silent_up, silent_down, slow_link)}

if __name__ == "__main__":
    main("network", FAULTS)
