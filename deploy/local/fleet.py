#!/usr/bin/env python3
"""Shards x replicas of engramd on loopback, a worker, and Prometheus with deploy/monitoring's rules.

Prints the addresses, runs until Ctrl-C, SIGTERM or --seconds, and stops all it started. Everything it
writes is in a temporary directory that it removes.
"""
import argparse
import contextlib
import itertools
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
RULES = HERE.parent / "monitoring/rules"
START_LIMIT_S = 60
UNIT_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}

ports_tried = itertools.count()


def free_port():
    """Another one each time, and not one of those that connections get: they could take it before it is listened on."""
    end = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for number in ports_tried:
        # Processes that run at a time begin at different ones.
        port = end - 1 - (64 * os.getpid() + number) % 16384 if end > 32000 else 0
        with socket.socket() as taken, contextlib.suppress(OSError):
            taken.bind(("127.0.0.1", port))
            return taken.getsockname()[1]


def scaled(rules, scale):
    """Rules text whose windows and waits are `scale` times shorter."""
    def shorter(match):
        return f"{max(1, int(match[1]) * UNIT_MS[match[2]] // scale)}ms"
    return re.sub(r"(?<=\[)(\d+)([smhd])(?=\])|(?<=for: )(\d+)([smhd])\b",
                  lambda m: shorter(m if m[1] else (m[0], m[3], m[4])), rules)


def wait_for(condition, what, limit_s=START_LIMIT_S):
    """The condition's first true value."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.1)
    raise RuntimeError(f"{what} not within {limit_s} s")


class Child:
    """A process that can be started again, with what it says in a file."""

    def __init__(self, name, command, log, env=None):
        self.name, self.command, self.log = name, [str(part) for part in command], log
        self._env, self._process = env, None

    def start(self):
        # Its own session: Ctrl-C reaches it through stop() alone, in order.
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(self.command, stdout=log, stderr=log,
                                             stdin=subprocess.DEVNULL, start_new_session=True,
                                             env=self._env)

    @property
    def pid(self):
        return self._process.pid

    def running(self):
        return self._process is not None and self._process.poll() is None

    def signal(self, number):
        self._process.send_signal(number)

    def kill(self):
        """SIGKILL; it can be started again."""
        self._process.kill()
        self._process.wait()

    def stop(self):
        if not self.running():
            return
        self.signal(signal.SIGCONT)  # a stopped process takes no SIGTERM
        self.signal(signal.SIGTERM)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self.kill()

    def check(self):
        if not self.running():
            raise RuntimeError(f"{self.name} ended:\n{self.log.read_text()[-2000:]}")


class Server(Child):
    """An engramd at ports that stay its own, so that it can be started again in its place.

    `{name}` in `extra` becomes the server's name.
    """

    def __init__(self, fleet, shard, replica, extra):
        self.shard = f"{shard}/{fleet.shards}"
        self.address = f"127.0.0.1:{free_port()}"
        self.metrics = f"127.0.0.1:{free_port()}"
        name = f"server-{shard}-{replica}"
        super().__init__(name, [
            fleet.bin / "engramd", "--checkpoint", fleet.checkpoint, "--shard", self.shard,
            "--listen", self.address, "--metrics", self.metrics, "--threads", "1",
            "--data-dir", fleet.directory / f"{name}.data", *(each.format(name=name) for each in extra)],
            fleet.directory / f"{name}.log")

    def serves(self):
        self.check()
        return "serving " in self.log.read_text()


class Fleet:
    """Starts in `with`, in order: checkpoint, servers, worker, Prometheus; stops in the other."""

    def __init__(self, build, shards=2, replicas=2, bucket_floor=2000, time_scale=20,
                 server_args=(), worker_args=()):
        self.build, self.bin = pathlib.Path(build).resolve(), pathlib.Path(build).resolve() / "bin"
        self.shards, self.replicas, self.bucket_floor = shards, replicas, bucket_floor
        self.time_scale, self._server_args, self._worker_args = time_scale, server_args, worker_args
        self.servers, self.worker, self.prometheus = [], None, None

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.directory = pathlib.Path(tempfile.mkdtemp(prefix="engram-local."))
            stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
            self.checkpoint = self.directory / "checkpoint"
            self._make_checkpoint()
            for shard in range(self.shards):
                for replica in range(self.replicas):
                    server = Server(self, shard, replica, self._server_args)
                    self.servers.append(server)
                    stack.callback(server.stop)
                    server.start()
            for server in self.servers:
                wait_for(server.serves, f"{server.name} serves")
            self._start_worker(stack)
            self._start_prometheus(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    @property
    def addresses(self):
        return ",".join(server.address for server in self.servers)

    def ctl(self, *args):
        """What engramctl prints."""
        done = subprocess.run([self.bin / "engramctl", *map(str, args)], capture_output=True,
                              text=True, timeout=START_LIMIT_S, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"engramctl {args[0]}: {done.stderr.strip()}")
        return done.stdout

    def _make_checkpoint(self):
        self.ctl("synth", "--out", self.checkpoint, "--like", "v41-flash",
                 "--bucket-floor", self.bucket_floor)
        self.ctl("digest", self.checkpoint)

    def _start_worker(self, stack):
        self.worker_metrics = f"127.0.0.1:{free_port()}"
        self.worker = Child("worker", [
            "/usr/bin/python3", HERE / "worker.py", "--servers", self.addresses,
            "--metrics", self.worker_metrics, *self._worker_args],
            self.directory / "worker.log",
            env={**os.environ, "PYTHONPATH": str(self.build / "python")})
        stack.callback(self.worker.stop)
        self.start_worker()

    def start_worker(self):
        """Returns when it is connected."""
        self.worker.start()
        wait_for(self._worker_answers, "the worker's metrics")

    def _worker_answers(self):
        self.worker.check()
        try:
            with urllib.request.urlopen(f"http://{self.worker_metrics}/metrics", timeout=5):
                return True
        except OSError:
            return False

    def _start_prometheus(self, stack):
        for file in RULES.glob("*.yml"):
            (self.directory / file.name).write_text(scaled(file.read_text(), self.time_scale))
        interval = f"{max(500, 15_000 // self.time_scale)}ms"
        config = {  # JSON is YAML
            "global": {"scrape_interval": interval, "scrape_timeout": interval,
                       "evaluation_interval": interval},
            "rule_files": [str(self.directory / file.name) for file in RULES.glob("*.yml")],
            "scrape_configs": self._scrape_configs()}
        path = self.directory / "prometheus.yml"
        path.write_text(json.dumps(config, indent=1))
        address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{address}"
        self.prometheus = Child("prometheus", [
            "prometheus", f"--config.file={path}", f"--web.listen-address={address}",
            f"--storage.tsdb.path={self.directory / 'prometheus'}"],
            self.directory / "prometheus.log")
        stack.callback(self.prometheus.stop)
        self.prometheus.start()
        wait_for(self._prometheus_ready, "Prometheus")

    def _scrape_configs(self):
        return [{"job_name": "engramd", "static_configs": [
                    {"targets": [server.metrics], "labels": {"shard": server.shard}}
                    for server in self.servers]},
                {"job_name": "engram-client", "static_configs": [{"targets": [self.worker_metrics]}]}]

    def _prometheus_ready(self):
        self.prometheus.check()
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    def query(self, expression):
        """[(labels, value)] of an instant query; RuntimeError with Prometheus' words."""
        data = urllib.parse.urlencode({"query": expression}).encode()
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/query", data, timeout=30) as answer:
                result = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{expression}: {error.read().decode()}") from error
        return [(sample["metric"], float(sample["value"][1])) for sample in result]

    def firing(self):
        """Names of the alerts that fire now."""
        return {labels["alertname"] for labels, _ in self.query('ALERTS{alertstate="firing"}')}


def tell(fleet):
    print(f"\nPrometheus   {fleet.url}/classic/graph   alerts: {fleet.url}/classic/alerts")
    print(f"worker       pid {fleet.worker.pid}, http://{fleet.worker_metrics}/metrics")
    for server in fleet.servers:
        print(f"{server.name}   pid {server.pid}, shard {server.shard}, {server.address}, "
              f"http://{server.metrics}/metrics")
    print(f"\nEvery duration of the rules is {fleet.time_scale} times shorter than in production.")
    print(f"bin={fleet.bin}\nSERVERS={fleet.addresses}\nDIR={fleet.directory}")
    print("To start a killed server again:")
    for server in fleet.servers:
        print(f"  {server.name}: {shlex.join(server.command)}")
    print("Ctrl-C stops everything above; what you started by hand is yours.", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build/release", help="directory with bin/ and python/")
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--replicas", type=int, default=2, help="servers of each shard")
    parser.add_argument("--bucket-floor", type=int, default=2000,
                        help="rows of a hash column; 2000 make a table of 25 MB")
    parser.add_argument("--time-scale", type=int, default=20,
                        help="alerts wait so many times shorter; 1: as in production")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop by itself")
    args = parser.parse_args()
    for name in ("shards", "replicas", "bucket_floor", "time_scale"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be 1 or more")

    def stop(number, _):
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.SIG_IGN)  # a second Ctrl-C would leave some running
        sys.exit(128 + number)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        with Fleet(args.build, args.shards, args.replicas, args.bucket_floor,
                   args.time_scale) as fleet:
            tell(fleet)
            end = time.monotonic() + args.seconds
            while time.monotonic() < end:
                fleet.worker.check()
                fleet.prometheus.check()
                time.sleep(min(0.5, max(0.0, end - time.monotonic())))
    except RuntimeError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
