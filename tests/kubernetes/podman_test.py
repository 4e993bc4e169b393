"""The chart's pods under podman: three shards x two servers behind names, while pods end, come and go.

podman_test.py SOURCE_DIR BUILD_DIR. The pods are those of the chart's StatefulSets but for what podman does
not know (gRPC probes, scheduling), for ports, which it would take from the host, and for emptyDir in
memory, for which a tmpfs stands. A network's aliases stand for headless Services; unlike those they name
servers from their start, and ready or not. A worker (`engramctl verify`) in a container of its own looks
rows up all the while. Exit code 77: no podman that runs, or no helm.
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request

import yaml

from chart_support import Missing, fetch, of_kind, render

SOURCE, BUILD = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
SHARDS, REPLICAS, LIMIT_S = 3, 2, 60
WORKER_S = 90  # longer than what is done to the pods takes
VALUES = {"shards": SHARDS, "replicas": REPLICAS, "image": {"repository": "localhost/engram", "tag": "test"},
          "resources": {"cpu": 1, "memory": "256Mi"}, "arena": {"sizeLimit": "128Mi"},
          "server": {"threads": 1, "drainMs": 1000}, "checkpoint": {"claimName": "engram-checkpoint"}}
CONFIGURATION = """
[containers]
default_ulimits = ["nofile=8192:8192", "nproc=8192:8192"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
"""


def until(what, condition):
    end = time.monotonic() + LIMIT_S
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {LIMIT_S} s")
        time.sleep(0.1)


class Podman:
    """A podman with a store of its own."""

    def __init__(self, scratch):
        (scratch / "containers.conf").write_text(CONFIGURATION)
        self._environment = {**os.environ, "CONTAINERS_CONF": str(scratch / "containers.conf")}
        self._options = ["podman", "--root", scratch / "store", "--runroot", scratch / "run",
                         "--network-config-dir", scratch / "networks", "--storage-driver", "overlay"]

    def start(self, *args, **kwargs):
        return subprocess.Popen([*map(str, (*self._options, *args))], env=self._environment, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)

    def __call__(self, *args, **kwargs):
        process = self.start(*args, **kwargs)
        out, said = process.communicate(timeout=300)
        if process.returncode != 0:
            raise AssertionError(f"podman {args} exited {process.returncode}: {out}{said}")
        return out


class Fleet:
    """Image, network, the volume with the checkpoint, and pods made of the chart's StatefulSets."""

    def __init__(self, podman, scratch):
        self.podman = podman
        self._memory = scratch / "memory"  # a tmpfs
        root = scratch / "root"
        subprocess.run([SOURCE / "deploy/image/rootfs.sh", BUILD, root], check=True, capture_output=True)
        with subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as tar:
            podman("import", "--change", 'ENTRYPOINT ["/usr/bin/engramd"]', "--change", "USER 65532:65532",
                   "-", "localhost/engram:test", stdin=tar.stdout)
        podman("network", "create", "fleet")
        podman("volume", "create", "engram-checkpoint")
        volume = podman("volume", "inspect", "engram-checkpoint", "--format", "{{.Mountpoint}}").strip()
        for command in (("synth", "--out", f"{volume}/c", "--like", "v41-flash", "--bucket-floor", "2000"),
                        ("digest", f"{volume}/c")):
            subprocess.run([BUILD / "bin/engramctl", *command], check=True, capture_output=True)
        for file in pathlib.Path(volume, "c").iterdir():
            file.rename(pathlib.Path(volume, file.name))
            os.chmod(pathlib.Path(volume, file.name), 0o644)
        self._templates = [each["spec"]["template"] for each in of_kind(render(VALUES), "StatefulSet")]
        self._names = [each["spec"]["serviceName"] for each in of_kind(render(VALUES), "StatefulSet")]

    def add(self, shard, replica):
        """The pod's name, once it serves."""
        pod = json.loads(json.dumps(self._templates[shard]))
        name = f"{self._names[shard]}-{replica}"
        pod |= {"apiVersion": "v1", "kind": "Pod"}
        pod["metadata"]["name"] = name
        for key in ("affinity", "topologySpreadConstraints"):
            del pod["spec"][key]
        for key in ("startupProbe", "readinessProbe", "livenessProbe", "ports"):
            del pod["spec"]["containers"][0][key]
        arena = next(volume for volume in pod["spec"]["volumes"] if volume["name"] == "arena")
        assert arena.pop("emptyDir")["medium"] == "Memory"
        arena["hostPath"] = {"path": str(self._memory / name), "type": "Directory"}
        (self._memory / name).mkdir()
        os.chown(self._memory / name, 65532, 65532)
        with tempfile.NamedTemporaryFile("w") as file:
            yaml.safe_dump(pod, file)
            file.flush()
            self.podman("kube", "play", "--network", f"fleet:alias=fleet,alias={self._names[shard]}",
                        file.name)
        self.wait(name)
        return name

    def metric(self, pod, name):
        infra = self.podman("pod", "inspect", pod, "--format", "{{.InfraContainerID}}").strip()
        address = self.podman("inspect", infra, "--format",
                              '{{(index .NetworkSettings.Networks "fleet").IPAddress}}').strip()
        with urllib.request.urlopen(f"http://{address}:50053/metrics", timeout=5) as page:
            lines = page.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    def wait(self, pod):
        """Until it serves."""
        try:
            until(f"{pod} serves", lambda: self.metric(pod, "engram_ready") == 1)
        except AssertionError as error:
            server = self.podman.start("logs", f"{pod}-engramd")
            raise AssertionError(f"{error}: {''.join(server.communicate())}") from None

    def wait_for_lookups(self, pod):
        until(f"lookups reach {pod}", lambda: self.metric(pod, "engram_requests_total") > 0)

    def stop(self, pod):
        """As the kubelet does, the server before its network; the server's exit code."""
        self.podman("stop", "--time", "60", f"{pod}-engramd")
        self.podman("pod", "stop", pod)
        return int(self.podman("inspect", f"{pod}-engramd", "--format", "{{.State.ExitCode}}"))


class Pods(unittest.TestCase):
    def test_no_lookup_fails_while_pods_come_and_go(self):
        keep = tempfile.TemporaryDirectory(prefix="podman-", ignore_cleanup_errors=True)
        self.addCleanup(keep.cleanup)
        scratch = pathlib.Path(keep.name)
        (scratch / "memory").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", scratch / "memory"], check=True)
        self.addCleanup(subprocess.run, ["umount", scratch / "memory"], check=True)
        podman = Podman(scratch)
        for command in (("network", "rm", "--force", "fleet"), ("rm", "--all", "--force"),
                        ("pod", "rm", "--all", "--force")):  # the last one first
            self.addCleanup(podman, *command)
        fleet = Fleet(podman, scratch)
        pods = [fleet.add(shard, replica) for shard in range(SHARDS) for replica in range(REPLICAS)]
        worker = podman.start("run", "--rm", "--name", "worker", "--network", "fleet", "--read-only", "--volume",
                              "engram-checkpoint:/checkpoint:ro", "--entrypoint", "/usr/bin/engramctl",
                              "localhost/engram:test", "verify", "--servers", "fleet:50051", "--checkpoint",
                              "/checkpoint", "--seconds", WORKER_S, "--rate", "200", "--batch", "64")
        self.addCleanup(worker.kill)
        for pod in pods:
            fleet.wait_for_lookups(pod)

        for pod in pods:  # a rolling restart
            self.assertEqual(fleet.stop(pod), 0)
            podman("pod", "start", pod)
            fleet.wait(pod)
            fleet.wait_for_lookups(pod)
        fleet.wait_for_lookups(fleet.add(0, REPLICAS))  # one more
        self.assertEqual(fleet.stop(pods[-1]), 0)  # and one less
        podman("pod", "rm", pods[-1])

        self.assertIsNone(worker.poll(), "the worker ended too early")
        out, said = worker.communicate(timeout=WORKER_S + LIMIT_S)
        figures = json.loads(out)
        print(f"{figures['lookups']} lookups, {figures['failed']} failed", file=sys.stderr)
        self.assertGreater(figures["lookups"], 1000, said)
        self.assertEqual((figures["failed"], figures["wrong_rows"]), (0, 0), said)


def runs():
    """What keeps podman from running here, or nothing."""
    missing = [tool for tool in ("podman", "runc", "iptables") if not shutil.which(tool)]
    if missing or os.getuid() != 0:
        return f"no {', '.join(missing) or 'root'}"
    with tempfile.TemporaryDirectory(prefix="podman-", ignore_cleanup_errors=True) as scratch:
        podman = Podman(pathlib.Path(scratch))
        try:
            fetch("fetch-helm.sh")
            podman("info")
        except (AssertionError, Missing, subprocess.TimeoutExpired) as error:
            return str(error)
    return ""


if __name__ == "__main__":
    reason = runs()
    if reason:
        print(f"SKIPPED: no pods were run: {reason}")
        sys.exit(77)
    unittest.main(argv=sys.argv[:1], verbosity=2)
