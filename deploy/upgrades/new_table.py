#!/usr/bin/python3
"""A new table blue/green under load: a second release, workers go over one by one. README.md, "A new table"."""
from cluster import changed_copy, run, step


def play(cluster, args):
    green_table = cluster.directory / "green"
    changed_copy(cluster.checkpoint, green_table, share=1)
    blue_digest, green_digest = (cluster.ctl("digest", each).split('"')[3]
                                 for each in (cluster.checkpoint, green_table))
    step("blue serves two workers, which pin its digest")
    blue = cluster.install("memory", args=("--expect-digest", blue_digest))
    workers = [cluster.work("memory", [cluster.checkpoint], expect_digest=blue_digest) for _ in range(2)]
    cluster.healthy(servers=2)

    step("helm install of green, beside it")
    cluster.install("memory-green", green_table, args=("--expect-digest", green_digest))
    cluster.healthy(servers=4)
    cluster.look("engram:table_digests:count", lambda count: count == 2, "blue and green")

    step("green, compared with its checkpoint before anybody uses it")
    print("  ", cluster.ctl("verify", "--servers", f"memory-green:{cluster.port}", "--checkpoint", green_table,
                            "--expect-digest", green_digest, "--seconds", 2).strip())

    def move(worker, name, table, digest):
        cluster.rest(workers[worker])
        workers[worker] = cluster.work(name, [table], expect_digest=digest)
        print(f"   worker {worker} of 2 was started anew at {name}")
        cluster.healthy(servers=4)

    step("one worker goes over, and back to have tried that; then both go")
    move(0, "memory-green", green_table, green_digest)
    move(0, "memory", cluster.checkpoint, blue_digest)
    for worker in range(2):
        move(worker, "memory-green", green_table, green_digest)
    cluster.look(f'count(engram_client_info{{digest="{green_digest}"}})', lambda count: count == 2,
                 "workers on green")
    cluster.look(f'sum(rate(engram_requests_total[5m]) * on (instance) group_left () '
                 f'(engram_table_info{{digest="{blue_digest}"}} == 1))',
                 lambda rate: rate == 0, "nobody asks blue", limit_s=60)

    step("helm uninstall of blue")
    cluster.uninstall(blue)
    cluster.healthy(servers=2)
    cluster.look("engram:table_digests:count", lambda count: count == 1, "green alone")


if __name__ == "__main__":
    run(__doc__, play)
