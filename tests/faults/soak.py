#!/usr/bin/env python3
"""Hours of work while clients and servers come and go: memory, descriptors and threads must stay where they are.

2x2 servers. One replica of each range lives all the time; the other is ended (SIGTERM and SIGKILL in turn) and started
again, over and over. One client looks rows up all the time; 64 others connect, look up, and go. Every row is compared.
Each second the long-lived ones are measured: both servers, the client, and the process that the 64 are in. After the
warm-up (a fifth, ten minutes at most) the medians of the first and of the last third of what is left must be as high.

  soak.py --build build/release --seconds 3600 --plot soak.svg --record soak.json
"""
import argparse
import json
import pathlib
import random
import signal
import statistics
import subprocess
import sys
import threading
import time

from faults_support import Client, Fleet, check

CLIENTS = 64      # at a time, that come and go
LIFE_S = (4, 12)  # of one
# What may come between the two medians: a share, and so many bytes, descriptors or threads.
ALLOWED = {"rss": (0.05, 4 << 20), "descriptors": (0.05, 8), "threads": (0.05, 2)}
COLORS = ["#1b6ca8", "#c0392b", "#2e8b57", "#8e44ad"]


def measure(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8")

    def field(name):
        return int(status.split(name + ":")[1].split()[0])
    return {"rss": field("VmRSS") * 1024, "threads": field("Threads"),
            "descriptors": sum(1 for _ in pathlib.Path(f"/proc/{pid}/fd").iterdir())}


# ---------------------------------------------------------------- clients that come and go


def churn(servers, directory, seed):
    """Of a process of its own, until SIGTERM; a line of JSON a second of what its clients have seen so far."""
    import engram_client  # pylint: disable=import-outside-toplevel
    import numpy as np  # pylint: disable=import-outside-toplevel
    from verifier import Checkpoint  # pylint: disable=import-outside-toplevel
    checkpoint, over, lock = Checkpoint(directory), threading.Event(), threading.Lock()
    seen = {"clients": 0, "refused": 0, "lookups": 0, "failed": 0, "wrong": 0, "said": ""}

    def add(**more):
        with lock:
            for name, value in more.items():
                seen[name] = seen[name] + value if isinstance(value, int) else value

    def live(place):
        chance = np.random.default_rng(seed + place)
        while not over.is_set():
            try:
                with engram_client.Client(servers.split(","), connect_timeout_us=20_000_000) as client:
                    add(clients=1)
                    end = time.monotonic() + chance.uniform(*LIFE_S)
                    while time.monotonic() < end and not over.wait(chance.uniform(0.2, 0.6)):
                        layer = int(chance.choice(client.table.layers))
                        ids = chance.integers(0, checkpoint.rows(layer), 24 * int(chance.integers(1, 17)))
                        try:
                            got = client.lookup(layer, ids, timeout=2.0)
                            add(lookups=1, wrong=int(np.any(got != checkpoint.read(layer, ids), axis=1).sum()))
                        except engram_client.EngramError as error:
                            add(lookups=1, failed=1, said=str(error))
            except engram_client.EngramError as error:
                add(refused=1, said=str(error))
                over.wait(1.0)

    signal.signal(signal.SIGTERM, lambda *_: over.set())
    threads = [threading.Thread(target=live, args=(place,)) for place in range(CLIENTS)]
    for thread in threads:
        thread.start()
        over.wait(0.05)
    while not over.wait(1.0):
        with lock:
            print(json.dumps(seen), flush=True)
    for thread in threads:
        thread.join()
    print(json.dumps(seen), flush=True)


# ---------------------------------------------------------------- what was measured


def judge(samples, warm_up):
    """[(who, what, first median, last median)] of what has grown."""
    grown = []
    for who, each in samples.items():
        warm = [sample for sample in each if sample["at"] >= warm_up]
        third = max(1, len(warm) // 3)
        for what, (share, much) in ALLOWED.items():
            first, last = (statistics.median(sample[what] for sample in part) for part in (warm[:third], warm[-third:]))
            if last - first > max(share * first, much):
                grown.append((who, what, first, last))
    return grown


def draw(samples, warm_up, path, title):
    """A panel each of memory, descriptors and threads, over minutes."""
    width, height, left, top = 900, 170, 70, 40
    end = max(sample["at"] for each in samples.values() for sample in each)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{3 * (height + 40) + top + 30}" '
           f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>',
           f'<text x="{left}" y="18" font-size="14">{title}</text>']
    for place, who in enumerate(samples):
        out.append(f'<text x="{left + 200 * place}" y="34" fill="{COLORS[place]}">{who}</text>')

    def x(at):
        return left + (width - left - 20) * at / end
    for panel, (what, unit, scale) in enumerate((("rss", "MB resident", 1e6), ("descriptors", "descriptors", 1),
                                                 ("threads", "threads", 1))):
        base = top + panel * (height + 40) + height
        most = max(sample[what] for each in samples.values() for sample in each) / scale * 1.05
        out.append(f'<text x="{left}" y="{base - height + 12}">{unit}</text>')
        for tick in range(5):
            value = most * tick / 4
            y = base - (height - 20) * tick / 4
            out.append(f'<path d="M{left} {y:.1f}H{width - 20}" stroke="#ddd"/>'
                       f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.0f}</text>')
        out.append(f'<path d="M{x(warm_up):.1f} {base}v-{height - 20}" stroke="#999" stroke-dasharray="4 3"/>')
        for place, each in enumerate(samples.values()):
            step = max(1, len(each) // 400)
            points = " ".join(f"{x(sample['at']):.1f},{base - (height - 20) * sample[what] / scale / most:.1f}"
                              for sample in each[::step])
            out.append(f'<polyline points="{points}" fill="none" stroke="{COLORS[place]}"/>')
        for minute in range(0, int(end // 60) + 1, max(1, int(end // 600))):
            out.append(f'<text x="{x(minute * 60):.1f}" y="{base + 14}" text-anchor="middle">{minute}</text>')
    out.append(f'<text x="{width // 2}" y="{3 * (height + 40) + top + 20}" text-anchor="middle">minutes; dashed: the end of '
               'the warm-up</text></svg>')
    path.write_text("\n".join(out) + "\n", encoding="utf-8")


# ---------------------------------------------------------------- the soak


def soak(args):
    chance, restarts = random.Random(args.seed), 0
    warm_up = min(600.0, args.seconds / 5)
    with Fleet(args.build, bucket_floor=500) as fleet, Client(
            fleet, args.seed, rows=64 * 24, threads=2, rate=5, timeout=2.0) as client:
        churn_log = fleet.directory / "churn.jsonl"
        with open(churn_log, "wb") as log:
            churner = subprocess.Popen(["/usr/bin/python3", __file__, "--build", args.build, "--seed", str(args.seed),
                                        "--churn", fleet.addresses, "--checkpoint", fleet.checkpoint],
                                       stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                       env={"PYTHONPATH": f"{fleet.build / 'python'}", "PATH": "/usr/bin:/bin"})
        try:
            watched = {"server 0": fleet.by_shard[0][0].pid, "server 1": fleet.by_shard[1][0].pid,
                       "client": client.process.pid, f"{CLIENTS} clients": churner.pid}
            samples = {who: [] for who in watched}
            begun, next_restart, down = time.monotonic(), 5.0, None
            while (at := time.monotonic() - begun) < args.seconds:
                check(churner.poll() is None, f"the {CLIENTS} clients ended: {churn_log.read_text()[-1500:]}")
                client.process.check()
                for who, pid in watched.items():
                    samples[who].append({"at": at, **measure(pid)})
                if down is not None and not down.running():
                    down.start()
                    down, restarts = None, restarts + 1
                elif at >= next_restart:
                    down = fleet.by_shard[restarts % 2][1]
                    down.signal(signal.SIGKILL if chance.random() < 0.5 else signal.SIGTERM)
                    next_restart = at + chance.uniform(5, 15)
                time.sleep(max(0.0, begun + len(samples["client"]) - time.monotonic()))
        finally:
            churner.terminate()
            churner.wait(60)
        client.stop()
        lookups = client.lookups()
        last = json.loads(churn_log.read_text().splitlines()[-1])
    grown = judge(samples, warm_up)
    failed = [each for each in lookups if each.failed]
    row = {"seconds": args.seconds, "seed": args.seed, "restarts": restarts, "clients": last["clients"],
           "lookups": len(lookups) + last["lookups"], "failed": len(failed) + last["failed"],
           "wrong": sum(each.wrong for each in lookups) + last["wrong"], "refused": last["refused"],
           "grown": grown, "ends": {who: {what: [statistics.median(s[what] for s in part) for part in (
               [s for s in each if s["at"] >= warm_up][:60], each[-60:])] for what in ALLOWED}
               for who, each in samples.items()}}
    print(json.dumps(row, indent=1), flush=True)
    if args.plot:
        draw(samples, warm_up, args.plot, f"{args.seconds:.0f} s, {last['clients']:,} clients, {restarts} restarts, "
             f"{row['lookups']:,} lookups, {row['failed']} failed, {row['wrong']} wrong rows")
    if args.record:
        args.record.write_text(json.dumps({**row, "samples": samples}), encoding="utf-8")
    check(row["wrong"] == 0, f"{row['wrong']} wrong rows")
    check(not grown, "; ".join(f"{what} of {who} went from {first:,.0f} to {last:,.0f}" for who, what, first, last in grown))
    check(row["failed"] + row["refused"] <= row["lookups"] / 1000,
          f"{row['failed']} lookups failed: {[each.said for each in failed][:3]} {last['said']}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build/release", help="directory with bin/ and python/")
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--plot", type=pathlib.Path, help="SVG file to write")
    parser.add_argument("--record", type=pathlib.Path, help="JSON file of all samples")
    parser.add_argument("--churn", help=argparse.SUPPRESS)  # servers: be the process of the clients that come and go
    parser.add_argument("--checkpoint", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.churn:
        return churn(args.churn, args.checkpoint, args.seed)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `with` stops what was started
    print(f"soak: --seed {args.seed} --seconds {args.seconds:.0f}", flush=True)
    try:
        soak(args)
    except (AssertionError, RuntimeError) as error:
        sys.exit(f"error: {error} (again with --seed {args.seed})")
    return None


if __name__ == "__main__":
    main()
