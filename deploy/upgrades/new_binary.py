#!/usr/bin/python3
"""A rolling update under load: each server is replaced by one of another binary. README.md, "A new binary"."""
import pathlib
import time

from cluster import run, step


def play(cluster, args):
    step("2 shards x 2 servers, and a worker that verifies")
    release = cluster.install("memory")
    cluster.work("memory", [cluster.checkpoint])
    cluster.healthy(servers=2)

    step(f"helm upgrade: the binaries of {args.new_build or args.build}")
    release.bin = (args.new_build or args.build).resolve() / "bin"
    # A StatefulSet each shard: both go at the same time, one server after the other, the last one first.
    for replica in (1, 0):
        pods = [release.pods[2 * shard + replica] for shard in range(2)]
        cluster.end(*pods)
        for pod in pods:
            pod.start()
        for pod in pods:
            cluster.serve(pod)
            print(f"   {pod.name} is ready at {pod.ip}", flush=True)
        time.sleep(args.min_ready_seconds)

    step("all are replaced")
    cluster.healthy(servers=2)
    cluster.look("count by (version) (engram_build_info)", lambda count: count == 4, "servers of a version")


def flags(parser):
    parser.add_argument("--new-build", type=pathlib.Path, help="directory with bin/ of the other build "
                        "(default: that of --build: servers are replaced all the same)")
    parser.add_argument("--min-ready-seconds", type=float, default=5,
                        help="between a server's being ready and the next one's end; too short, and clients "
                        "have not looked up its name when its replica goes: lookups fail")


if __name__ == "__main__":
    run(__doc__, play, flags)
