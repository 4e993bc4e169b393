#!/usr/bin/python3
"""A server and its data are gone under load; another takes its place. README.md, "A lost node"."""
import shutil

from cluster import changed_copy, run, step


def play(cluster, args):
    step("2 shards x 2 servers, which serve what a delta has made of the checkpoint")
    target = cluster.directory / "target"
    changed_copy(cluster.checkpoint, target)
    old, new = (cluster.ctl("digest", each).split('"')[3] for each in (cluster.checkpoint, target))
    release = cluster.install("memory")
    servers = cluster.pod_addresses(release)
    delta = cluster.directory / "new.delta"
    cluster.ctl("delta", "--from", cluster.checkpoint, "--to", target, "--out", delta)
    cluster.ctl("publish", "--servers", servers, delta)
    cluster.ctl("activate", "--servers", servers, new)
    cluster.ctl("retire", "--servers", servers, old)
    cluster.work("memory", [target], expect_digest=new)
    cluster.work("memory", [target], follow_generations=True)
    cluster.healthy(servers=2)

    lost = release.pods[3]
    step(f"the node of {lost.name} is gone, and the volume with what was published")
    lost.kill()
    shutil.rmtree(lost.data)
    cluster.look('engram:servers_ready:sum{shard="1"}', lambda count: count == 1, "one server is left of shard 1")
    cluster.look('ALERTS{alertname="EngramReplicaLost",alertstate="firing"}', lambda value: value == 1,
                 "the alert that calls", limit_s=60)
    cluster.check_workers()

    step("another one is there: it has the checkpoint, and not what was published")
    cluster.unname(lost)
    lost.start()
    cluster.serve(lost)
    print(cluster.ctl("generations", "--servers", servers).rstrip())
    cluster.look("engram:table_digests:count", lambda count: count == 2, "it is of another table")
    cluster.check_workers()
    cluster.work("memory", [target], expect_digest=new)  # without the pin it would be refused
    print("   a worker that pins its digest starts all the same")

    step("engramctl publish of the delta again, activate, retire: those that have it are left as they are")
    cluster.ctl("publish", "--servers", servers, delta)
    cluster.ctl("activate", "--servers", servers, new)
    cluster.ctl("retire", "--servers", servers, old)
    print(cluster.ctl("generations", "--servers", servers).rstrip())
    cluster.look("engram:table_digests:count", lambda count: count == 1, "servers agree")
    cluster.healthy(servers=2)
    cluster.look(f'sum(rate(engram_requests_total{{instance="{lost.metrics}"}}[5m]))', lambda rate: rate > 0,
                 "workers ask it again", limit_s=60)


if __name__ == "__main__":
    run(__doc__, play)
