#!/usr/bin/python3
"""Two shards become three under load: a second release behind the same name. README.md, "More shards"."""
import time

from cluster import run, step


def play(cluster, args):
    step("2 shards x 2 servers; the worker is given a name that any release may have")
    old = cluster.install("memory", services=("table",))
    cluster.work("table", [cluster.checkpoint])
    cluster.healthy(servers=2)

    step("helm install of 3 shards x 2 servers of the same table, behind the same name")
    new = cluster.install("memory-b", shards=3, services=("table",))
    cluster.look("count by (digest) (engram_table_info == 1)", lambda count: count == 10, "servers of one table")
    for pod in new.pods:
        cluster.look(f'sum(rate(engram_requests_total{{instance="{pod.metrics}"}}[5m]))', lambda rate: rate > 0,
                     f"{pod.name} is asked")
    cluster.check_workers()

    step("the old servers have no name any more, and serve on: the way back is to give it to them again")
    cluster.unname(*old.pods)
    time.sleep(args.after_names_s)
    cluster.check_workers()
    for pod in old.pods:
        cluster.look(f'sum(rate(engram_requests_total{{instance="{pod.metrics}"}}[5m]))', lambda rate: rate == 0,
                     f"{pod.name} is not asked", limit_s=60)

    step("helm uninstall of the old release: all its servers end at once")
    cluster.uninstall(old)
    cluster.healthy(servers=2)
    cluster.look("count(engram_ready == 1)", lambda count: count == 6, "servers are left")


def flags(parser):
    parser.add_argument("--after-names-s", type=float, default=5, help="until clients have looked names up again")


if __name__ == "__main__":
    run(__doc__, play, flags)
