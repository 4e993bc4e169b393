"""Alerts fire because of what they are there for, and clear when it is over.

fire_alerts.py BUILD_DIR [unittest's arguments]. Windows and waits are 60 times shorter. Needs python3-fusepy and
fuse3. Exit code 77: see live_test.py.
"""
import ctypes
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import monitoring_files as files
from live_test import SCALE, lacking
from rough_client import RoughClient

sys.path.insert(0, str(files.SOURCE / "deploy/local"))
import fleet as local  # noqa: E402

LIMIT_S = 90  # an hour's window has to pass for some to clear
SHM = pathlib.Path("/dev/shm")
LIMIT = 4  # requests in flight on a stream
MAKE_CERTS = files.SOURCE / "tests/support/make_certs.sh"
HANGING_VOLUME = pathlib.Path(__file__).with_name("hanging_volume.py")


class Reclaim(threading.Thread):
    """In `with`: takes a process's pages of `file` out of memory again and again, as a machine short of it does."""

    PROCESS_MADVISE, MADV_PAGEOUT = 440, 21

    def __init__(self, pid, file):
        super().__init__()
        self._pid, self._file, self._over = pid, str(file), threading.Event()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self.join()

    def run(self):
        libc, process = ctypes.CDLL(None, use_errno=True), os.pidfd_open(self._pid)
        while not self._over.wait(0.05):
            ranges = []
            for line in pathlib.Path(f"/proc/{self._pid}/maps").read_text().splitlines():
                if line.endswith(self._file):
                    begin, end = (int(part, 16) for part in line.split()[0].split("-"))
                    ranges += [begin, end - begin]  # an iovec
            libc.syscall(self.PROCESS_MADVISE, process, (ctypes.c_size_t * len(ranges))(*ranges),
                         ctypes.c_size_t(len(ranges) // 2), self.MADV_PAGEOUT, 0)
        os.close(process)


class Alerts(unittest.TestCase):
    caused = set()

    @classmethod
    def setUpClass(cls):
        arenas = tempfile.mkdtemp(prefix="engram-fire-", dir=SHM)
        cls.addClassCleanup(shutil.rmtree, arenas, ignore_errors=True)
        cls.arenas = pathlib.Path(arenas)
        for shard in range(2):
            for replica in range(2):
                (cls.arenas / f"server-{shard}-{replica}").mkdir()
        cls.fleet = cls.enterClassContext(local.Fleet(
            sys.argv[1], shards=2, replicas=2, bucket_floor=500, time_scale=SCALE,
            server_args=["--arena-dir", f"{arenas}/{{name}}", "--verify-interval", "1",
                         "--max-requests-in-flight", str(LIMIT)]))

    def setUp(self):
        local.wait_for(lambda: not self.fleet.firing() and self.fleet.query("count(up == 1) == 5"),
                       "a healthy fleet", LIMIT_S)

    def fires(self, name):
        begun = time.monotonic()
        try:
            local.wait_for(lambda: name in self.fleet.firing(), f"{name} fires", LIMIT_S)
        except RuntimeError:
            print(self.fleet.worker.log.read_text()[-2000:], flush=True)
            raise
        self.caused.add(name)
        print(f"  {name} fires after {time.monotonic() - begun:.0f} s", flush=True)

    def clears(self, *names):
        begun = time.monotonic()
        local.wait_for(lambda: not self.fleet.firing() & set(names), f"{names} clear", LIMIT_S)
        print(f"  {', '.join(names)} cleared after {time.monotonic() - begun:.0f} s", flush=True)

    def test_1_replica_killed(self):
        server = self.fleet.servers[0]
        server.kill()
        self.fires("EngramReplicaLost")
        self.assertNotIn("EngramShardDown", self.fleet.firing())
        server.start()
        self.clears("EngramReplicaLost")

    def test_2_shard_killed(self):
        for server in self.fleet.servers[:2]:
            server.kill()
        self.fires("EngramShardDown")
        self.fires("EngramLookupsFail")
        for server in self.fleet.servers[:2]:
            server.start()
        self.clears("EngramShardDown", "EngramLookupsFail")

    def test_3_shard_stands_still(self):
        for server in self.fleet.servers[:2]:
            server.signal(signal.SIGSTOP)
        self.fires("EngramGpusStalled")
        for server in self.fleet.servers[:2]:
            server.signal(signal.SIGCONT)
        self.clears("EngramGpusStalled")

    def test_4_generation_is_active_at_one_server_alone(self):
        fleet = self.fleet
        target, delta = fleet.directory / "target", fleet.directory / "new.delta"
        fleet.ctl("synth", "--out", target, "--like", "v41-flash", "--bucket-floor", 500, "--seed", 1)
        digest = json.loads(fleet.ctl("digest", target))["digest"]
        fleet.ctl("delta", "--from", fleet.checkpoint, "--to", target, "--out", delta)
        fleet.ctl("publish", "--servers", fleet.addresses, delta)
        fleet.ctl("activate", "--servers", fleet.servers[0].address, digest)
        self.fires("EngramVersionSkew")
        fleet.ctl("activate", "--servers", fleet.addresses, digest)
        self.clears("EngramVersionSkew")

    def test_5_row_changes_in_memory(self):
        server = self.fleet.servers[3]
        (arena,) = (self.arenas / server.name).glob("engram-*.arena")
        with open(arena, "r+b") as file:
            file.seek(arena.stat().st_size // 2)
            byte = file.read(1)
            file.seek(-1, 1)
            file.write(bytes([byte[0] ^ 1]))
        self.fires("EngramChecksumFailure")
        server.kill()
        arena.unlink()
        server.start()
        self.clears("EngramChecksumFailure")

    def test_5_server_loses_its_pages(self):
        server = self.fleet.servers[1]
        own = self.fleet.directory / "engramd"  # pages that others have mapped would stay
        shutil.copy(server.command[0], own)
        os.sync()  # dirty ones, too
        server.stop()
        server.command[0] = str(own)
        server.start()
        local.wait_for(lambda: self.fleet.query(f'engram_ready{{instance="{server.metrics}"}} == 1'),
                       "the server is back")
        with Reclaim(server.pid, own):
            self.fires("EngramMajorFaults")
        self.clears("EngramMajorFaults")

    def test_6_worker_goes_on_without_rows(self):
        worker = self.fleet.worker
        worker.stop()
        worker.command += ["--missing-rows", "zeros"]
        self.fleet.start_worker()
        for server in self.fleet.servers[:2]:
            server.kill()
        self.fires("EngramDegradedAnswers")
        for server in self.fleet.servers[:2]:
            server.start()
        self.clears("EngramDegradedAnswers")

    @staticmethod
    def restart(server, *args):
        """With these flags, and what it was first started with for the rest."""
        server.stop()
        plain = server.first = getattr(server, "first", server.command)
        flags = dict(zip(args[::2], args[1::2]))
        kept = [part for i in range(1, len(plain), 2) if plain[i] not in flags for part in plain[i:i + 2]]
        server.command = [plain[0], *kept, *map(str, args)]
        server.start()

    def test_6_certificate_ends_soon(self):
        server, directory = self.fleet.servers[2], self.fleet.directory / "tls"
        directory.mkdir()
        make = [MAKE_CERTS, directory, "ca", "ca", "--", "cert", "server", "ca", "IP:127.0.0.1"]
        subprocess.run([*make, "1"], check=True)
        self.restart(server, "--tls-cert", directory / "server.pem", "--tls-key", directory / "server.key")
        self.fires("EngramCertificateExpiry")
        subprocess.run(make[:2] + make[5:] + ["90"], check=True)  # It is taken without a restart.
        self.clears("EngramCertificateExpiry")
        self.restart(server)

    def test_6_volume_hangs(self):
        server, mount = self.fleet.servers[2], self.fleet.directory / "mount"
        hold = self.fleet.directory / "hold"
        mount.mkdir()
        hold.touch()
        volume = subprocess.Popen(["/usr/bin/python3", HANGING_VOLUME, self.fleet.checkpoint, mount, hold])
        try:
            local.wait_for(lambda: (mount / "config.json").exists(), "the volume is mounted")
            # Its arena has its rows; with an empty one they are loaded.
            empty = self.arenas / "empty"
            empty.mkdir()
            self.restart(server, "--checkpoint", mount, "--arena-dir", empty)
            self.fires("EngramLoadStuck")
            hold.unlink()
            self.clears("EngramLoadStuck")
            self.restart(server)
        finally:
            subprocess.run(["fusermount3", "-u", "-z", mount], check=False)
            volume.wait(30)

    def rough_client(self, **what):
        server = self.fleet.servers[0]
        status = json.loads(self.fleet.ctl("status", "--servers", server.address, "--json"))
        return RoughClient(server.address, status["servers"][0]["digest"], row=0, **what)

    def test_7_client_asks_for_more_than_it_may(self):
        with self.rough_client(rows=4096, in_flight=16 * LIMIT):
            self.fires("EngramOverload")
            self.fires("EngramErrorBurnFast")
            self.fires("EngramErrorBurnSlow")
        self.clears("EngramOverload", "EngramErrorBurnFast", "EngramErrorBurnSlow")

    def test_8_client_reads_slowly(self):
        self.fleet.worker.stop()  # whose requests are quick and many
        with self.rough_client(rows=65536, in_flight=LIMIT, read_every_s=0.002):
            self.fires("EngramLatencyBurnFast")
            self.fires("EngramLatencyBurnSlow")
        self.fleet.start_worker()
        self.clears("EngramLatencyBurnFast", "EngramLatencyBurnSlow")

    def test_9_every_alert_was_caused(self):
        self.assertEqual(sorted(self.caused), sorted(alert["alert"] for alert in files.alerts()))


if __name__ == "__main__":
    reason = lacking() or ("" if SHM.is_dir() else "no /dev/shm")
    if not reason and not (pathlib.Path("/dev/fuse").exists() and shutil.which("fusermount3")):
        reason = "no /dev/fuse, or no fusermount3; Debian's packages fuse3 and python3-fusepy have what is missing"
    if reason:
        print(f"SKIPPED: {reason}")
        sys.exit(77)
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=2, failfast=True)
