#!/usr/bin/python3
"""A delta under load: publish, activate, back, activate again, retire. README.md, "A delta"."""
from cluster import changed_copy, run, step


def play(cluster, args):
    step("2 shards x 2 servers; a worker that follows generations")
    target = cluster.directory / "target"
    changed_copy(cluster.checkpoint, target)
    old, new = (cluster.ctl("digest", each).split('"')[3] for each in (cluster.checkpoint, target))
    release = cluster.install("memory")
    servers = cluster.pod_addresses(release)
    worker = cluster.work("memory", [cluster.checkpoint, target], follow_generations=True)
    cluster.healthy(servers=2)

    step("engramctl delta, engramctl publish: nothing becomes active")
    delta = cluster.directory / "new.delta"
    print("  ", cluster.ctl("delta", "--from", cluster.checkpoint, "--to", target, "--out", delta).strip())
    cluster.ctl("publish", "--servers", servers, delta)
    print(cluster.ctl("generations", "--servers", servers).rstrip())
    print("  ", cluster.ctl("verify", "--servers", f"memory:{cluster.port}", "--checkpoint", target,
                            "--expect-digest", new, "--seconds", 2).strip())
    cluster.healthy(servers=2)

    for digest, table in ((new, 1), (old, 0), (new, 1)):
        step(f"engramctl activate {digest[:12]}...{' (back)' if digest == old else ''}")
        cluster.ctl("activate", "--servers", servers, digest)
        worker.moved(table)
        cluster.look(f'count(engram_client_info{{digest="{digest}"}})', lambda count: count == 1, "workers went over")
        cluster.look("engram:table_digests:count", lambda count: count == 1, "servers agree")
        cluster.healthy(servers=2)

    step("engramctl retire of the old generation: no way back but a delta the other way")
    cluster.ctl("retire", "--servers", servers, old)
    print(cluster.ctl("generations", "--servers", servers).rstrip())
    cluster.look(f'count(engram_client_info{{digest="{new}"}})', lambda count: count == 1, "workers of the new one")
    cluster.healthy(servers=2)
    before = worker.seen()["of"][0]
    worker.moved(1)
    if worker.seen()["of"][0] != before:
        raise RuntimeError("rows of the retired generation still come")


if __name__ == "__main__":
    run(__doc__, play)
