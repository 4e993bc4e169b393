"""A stand-in for a cluster: servers behind names, workers that verify, Prometheus with our rules.

What Kubernetes does to pods the methods of Cluster do to processes: a pod that is replaced has a new address,
names are those of ready pods only, as a headless Service's. Names come from a hosts file that is mounted over
/etc/hosts for this process and its children alone. Everything else is in a temporary directory.
"""
import argparse
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "local"))
import fleet as local  # noqa: E402
from fleet import wait_for  # noqa: E402

TIME_SCALE = 20  # durations of rules and of queries are so many times shorter
HOSTS_BYTES = 4096
MIN_LOOKUPS = 50  # of a worker, or it has shown nothing
IN_NAMESPACE = "ENGRAM_UPGRADES_NAMESPACE"


class WentWrong(Exception):
    """What an operator would stop at."""


def step(text):
    print(f"\n== {text}", flush=True)


class Pod(local.Child):
    """An engramd; started again it has another address, as a pod has. Its data directory stays, as a claim does."""

    def __init__(self, cluster, release, shard, replica):
        self.release, self.shard = release, shard
        self.set = f"{release.name}-{shard}"
        self.data = cluster.directory / f"data-{self.set}-{replica}"
        self._cluster = cluster
        super().__init__(f"{self.set}-{replica}", [], cluster.directory / f"{self.set}-{replica}.log")

    def start(self):
        self.ip = self._cluster.new_ip()
        self.metrics = f"{self.ip}:{self._cluster.metrics_port}"
        self.command = [str(part) for part in (
            self.release.bin / "engramd", "--checkpoint", self.release.checkpoint,
            "--shard", f"{self.shard}/{self.release.shards}", "--listen", f"{self.ip}:{self._cluster.port}",
            "--metrics", self.metrics, "--threads", "1", "--data-dir", self.data,
            "--drain-ms", "1000", *self.release.args)]
        super().start()

    def ready(self):
        self.check()
        try:
            with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=5) as page:
                return "\nengram_ready 1" in page.read().decode()
        except OSError:
            return False


class Release:
    """What `helm install NAME` makes. `services` are further names of its pods, by a label of theirs."""

    def __init__(self, cluster, name, checkpoint, shards, replicas, services=(), args=()):
        self.name, self.checkpoint, self.shards = name, checkpoint, shards
        self.services, self.bin, self.args = services, cluster.bin, args
        self.pods = [Pod(cluster, self, shard, replica) for shard in range(shards) for replica in range(replicas)]


class Cluster(local.Fleet):
    """Starts with Prometheus alone; releases and workers come by install() and work()."""

    def __init__(self, build):
        super().__init__(build, time_scale=TIME_SCALE)
        self.releases, self.workers, self._named, self._next_ip = [], [], set(), 0
        self.port, self.metrics_port = local.free_port(), local.free_port()

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.directory = pathlib.Path(tempfile.mkdtemp(prefix="engram-upgrades."))
            stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
            self._hosts = self.directory / "hosts"
            self._write_names()
            mounted = subprocess.run(["mount", "--bind", self._hosts, "/etc/hosts"], capture_output=True,
                                     text=True, check=False)
            if mounted.returncode != 0:
                raise WentWrong(f"no names: {mounted.stderr.strip()}")
            self.checkpoint = self.directory / "checkpoint"
            self._make_checkpoint()
            self._write_targets()
            self._start_prometheus(stack)
            self._stack = stack.pop_all()
        return self

    # Names and targets.

    def new_ip(self):
        self._next_ip += 1
        return f"127.77.0.{self._next_ip}"

    def _pods(self):
        return [pod for release in self.releases for pod in release.pods]

    def _write_names(self):
        lines = ["127.0.0.1 localhost"]
        for pod in self._named:
            names = (pod.release.name, pod.set, f"{pod.name}.{pod.set}", *pod.release.services)
            lines.append(" ".join((pod.ip, *names)))
        text = "\n".join(lines).encode()
        assert len(text) < HOSTS_BYTES
        # In place, for it is mounted, and in one write of one size, so that no reader sees half of it.
        with open(os.open(self._hosts, os.O_WRONLY | os.O_CREAT, 0o644), "wb", buffering=0) as file:
            file.write(text.ljust(HOSTS_BYTES, b"\n"))

    def _write_targets(self):
        for job, targets in (
                ("engramd", [{"targets": [pod.metrics], "labels": {"shard": str(pod.shard)}}
                             for pod in self._pods() if hasattr(pod, "metrics")]),
                ("engram-client", [{"targets": [worker.metrics]} for worker in self.workers if not worker.finished])):
            new = self.directory / f"{job}.new"
            new.write_text(json.dumps(targets))
            new.rename(self.directory / f"{job}.json")

    def _scrape_configs(self):
        return [{"job_name": job, "file_sd_configs": [{"files": [str(self.directory / f"{job}.json")],
                                                       "refresh_interval": "1s"}]}
                for job in ("engramd", "engram-client")]

    # What Kubernetes does.

    def install(self, name, checkpoint=None, shards=2, replicas=2, services=(), args=()):
        release = Release(self, name, checkpoint or self.checkpoint, shards, replicas, services, args)
        self.releases.append(release)
        for pod in release.pods:
            self._stack.callback(pod.stop)
            pod.start()
        self._write_targets()
        for pod in release.pods:
            self.serve(pod)
        print(f"{name}: {shards} shards x {replicas} servers are ready")
        return release

    def serve(self, pod):
        """Names a pod that was started, once it is ready."""
        wait_for(pod.ready, f"{pod.name} is ready")
        self._named.add(pod)
        self._write_names()
        self._write_targets()

    def unname(self, *pods):
        self._named.difference_update(pods)
        self._write_names()

    def end(self, *pods):
        """As the kubelet ends pods, all at once: no name any more, SIGTERM."""
        self.unname(*pods)
        for pod in pods:
            pod.signal(signal.SIGTERM)
        for pod in pods:
            wait_for(lambda pod=pod: not pod.running(), f"{pod.name} ended", 15)

    def uninstall(self, release):
        self.end(*release.pods)
        self.releases.remove(release)
        self._write_targets()

    def pod_addresses(self, release):
        """Of every server by its own name, which is what publish, activate and retire want."""
        return ",".join(f"{pod.name}.{pod.set}:{self.port}" for pod in release.pods)

    # Workers.

    def work(self, servers, checkpoints, **settings):
        """A worker that verifies, once it has looked rows up. `servers` is a name."""
        worker = Worker(self, len(self.workers), servers, checkpoints, settings)
        self.workers.append(worker)
        self._stack.callback(worker.stop)
        self._write_targets()
        worker.start()
        wait_for(worker.seen, f"{worker.name} looks rows up")
        return worker

    def rest(self, worker):
        """Ends a worker; what it has counted stays for the verdict."""
        wait_for(lambda: worker.seen()["lookups"] > MIN_LOOKUPS, f"{worker.name} looks rows up")
        worker.finish()
        self.check_workers()
        self._write_targets()

    def look(self, expression, wanted, what, limit_s=30):
        """Waits until all values of a query are as wanted, as an operator before the next step."""
        end = time.monotonic() + limit_s
        expression_here = local.scaled(expression, TIME_SCALE)
        while True:
            found = self.query(expression_here)
            values = [value for _, value in found]
            if values and all(wanted(value) for value in values):
                break
            if time.monotonic() > end:
                raise WentWrong(f"{what}: {expression} gives {found} after {limit_s} s")
            time.sleep(0.3)
        print(f"   {expression}: {', '.join(f'{value:g}' for value in values)}   ({what})", flush=True)

    def healthy(self, servers):
        """Every shard has its servers and no lookup fails: may the next step come?"""
        self.look("min(engram:servers_ready:sum)", lambda value: value == servers,
                  f"{servers} servers a shard are ready")
        self.look("sum(rate(engram_client_failed_lookups_total[5m]))", lambda value: value == 0, "no lookup fails")
        self.check_workers()

    def check_workers(self):
        for worker in self.workers:
            seen = worker.seen()
            if seen["failed"] or seen["wrong"]:
                raise WentWrong(f"{worker.name}: {seen}\n{worker.log.read_text()[-2000:]}")

    def verdict(self):
        """After the last step: every lookup of every worker."""
        for worker in self.workers:
            if not worker.finished:
                self.rest(worker)
        print()
        for worker in self.workers:
            seen = worker.seen()
            print(f"{worker.name}: {seen['lookups']} lookups, {seen['failed']} failed, {seen['wrong']} wrong; "
                  f"of each table {seen['of']}")


class Worker(local.Child):
    def __init__(self, cluster, number, servers, checkpoints, settings):
        self.metrics = f"127.0.0.1:{local.free_port()}"
        self.finished = False
        self._status = cluster.directory / f"worker-{number}.json"
        super().__init__(f"worker-{number}", [
            "/usr/bin/python3", HERE / "worker.py", "--servers", f"{servers}:{cluster.port}",
            "--metrics", self.metrics, "--status", self._status,
            "--checkpoints", ",".join(map(str, checkpoints)), "--settings", json.dumps(settings)],
            cluster.directory / f"worker-{number}.log",
            env={**os.environ, "PYTHONPATH": str(cluster.build / "python")})

    def seen(self):
        """What it has counted so far; None before its first lookup."""
        if not self.finished:
            self.check()
        return json.loads(self._status.read_text()) if self._status.exists() else None

    def finish(self):
        self.finished = True
        self.stop()

    def moved(self, checkpoint):
        """Waits until it gets rows of the table with this number."""
        before = self.seen()["of"][checkpoint]
        wait_for(lambda: self.seen()["of"][checkpoint] > before, f"{self.name} gets rows of table {checkpoint}", 15)


def changed_copy(checkpoint, copy, share=0.1):
    """A checkpoint of the same geometry in which about `share` of the rows differ."""
    import numpy as np
    shutil.copytree(checkpoint, copy)
    (copy / "engram.sidecar").unlink()
    random = np.random.default_rng(2)
    for file in copy.glob("*.safetensors"):
        data = np.memmap(file, np.uint8, "r+")
        size = int.from_bytes(data[:8].tobytes(), "little")
        for name, tensor in json.loads(data[8:8 + size].tobytes()).items():
            if name.endswith(".weight"):
                begin, end = (8 + size + offset for offset in tensor["data_offsets"])
                rows = data[begin:end].reshape(tensor["shape"])
                rows[random.random(len(rows)) < share, 0] ^= 1
        data.flush()


def run(doc, play, add_flags=lambda parser: None):
    """The main of a script: parses flags, goes where names can be its own, plays, and says what came of it.

    Exit code 77: names of our own or Prometheus cannot be had here.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=os.environ.get("ENGRAM_BUILD_DIR", "build/release"), type=pathlib.Path,
                        help="directory with bin/ and python/ (default: $ENGRAM_BUILD_DIR, build/release)")
    add_flags(parser)
    args = parser.parse_args()
    for needed in ("bin/engramd", "bin/engramctl", "python/engram_client"):
        if not (args.build / needed).exists():
            sys.exit(f"error: no {args.build / needed}: build it, or name another --build")
    if not os.environ.get(IN_NAMESPACE):
        namespace = ["unshare", "--mount", *([] if os.getuid() == 0 else ["--map-root-user"])]
        if not shutil.which("prometheus"):
            skip("no prometheus")
        if subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode != 0:
            skip("no mount namespace can be made")
        os.execvpe("unshare", [*namespace, sys.executable, *sys.argv], {**os.environ, IN_NAMESPACE: "1"})
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    begun = time.monotonic()
    try:
        with Cluster(args.build) as cluster:
            play(cluster, args)
            cluster.verdict()
    except (WentWrong, RuntimeError) as error:
        sys.exit(f"error: {error}")
    print(f"done in {time.monotonic() - begun:.0f} s: no lookup failed, no row was wrong")


def skip(why):
    print(f"SKIPPED: {why}", file=sys.stderr)
    sys.exit(77)
