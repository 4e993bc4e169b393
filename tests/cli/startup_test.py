"""A server's life, as those see it who wait for it: states, health, and the signals that end it.

For Debian's /usr/bin/python3 with python3-grpcio.
"""
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time
import unittest
import urllib.request

import grpc

from cli_support import BIN, LIMIT_S, Engramd, run, run_json

READY = ("", "engram.v1.EngramService")


def check(address, service):
    """grpc.health.v1: 1 is SERVING, 2 is NOT_SERVING."""
    name = service.encode()
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary("/grpc.health.v1.Health/Check")
        answer = call(b"\x0a" + bytes([len(name)]) + name if name else b"", timeout=LIMIT_S,
                      wait_for_ready=True)
    return answer[1] if answer else 0


def wait_for(condition):
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        if (got := condition()):
            return got
        time.sleep(0.01)
    raise AssertionError("it did not come to that")


def value(server, metric):
    with urllib.request.urlopen(f"http://{server.fields['metrics']}/metrics",
                                timeout=LIMIT_S) as page:
        return float(re.search(rf"^{metric} (\S+)$", page.read().decode(), re.M)[1])


class Starting:
    """A server that does not come to an end of its load."""

    def __init__(self, checkpoint, *args):
        self._stderr = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [BIN / "engramd", "--checkpoint", checkpoint, "--listen", "127.0.0.1:0", "--health",
             "127.0.0.1:0", "--metrics", "127.0.0.1:0", *args],
            stdout=subprocess.PIPE, stderr=self._stderr, text=True)
        wait_for(lambda: "state loading" in self.said())
        self.health, self.metrics = (
            re.search(f"{name} at (\\S+)", self.said())[1] for name in ("health", "metrics"))

    def said(self):
        return os.pread(self._stderr.fileno(), 1 << 20, 0).decode()

    def state(self):
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=LIMIT_S) as page:
            return re.findall(r'^engram_state\{state="(\w+)"\} 1$', page.read().decode(), re.M)

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self._stderr.close()


class Life(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory()
        cls.checkpoint = pathlib.Path(cls.directory.name) / "checkpoint"
        made = run("engramctl", "synth", "--out", cls.checkpoint, "--like", "v41-flash",
                   "--bucket-floor", 300)
        assert made.returncode == 0, made.stderr
        run_json("engramctl", "digest", cls.checkpoint)
        # 203 GB, nearly all of them holes, whose digest is not known: its load takes minutes.
        cls.large = pathlib.Path(cls.directory.name) / "large"
        made = run("engramctl", "synth", "--out", cls.large, "--like", "v41-flash", "--sparse")
        assert made.returncode == 0, made.stderr

    @classmethod
    def tearDownClass(cls):
        cls.directory.cleanup()

    def starting(self):
        server = Starting(self.large, "--store", "mapped", "--load-threads", "1")
        self.addCleanup(server.end)
        return server

    def test_health_and_metrics_are_there_while_it_loads(self):
        server = self.starting()
        self.assertEqual(check(server.health, "liveness"), 1)
        self.assertEqual([check(server.health, name) for name in READY], [2, 2])
        self.assertEqual(server.state(), ["loading"])
        self.assertIsNone(server.process.poll())

    def test_once_it_serves_it_is_ready(self):
        server = Engramd("--checkpoint", self.checkpoint, "--health", "127.0.0.1:0")
        self.addCleanup(server.stop)
        for address in (server.address, server.fields["health"]):
            self.assertEqual([check(address, name) for name in ("liveness", *READY)], [1, 1, 1])

    def test_a_signal_while_it_loads_ends_it_at_once(self):
        for sent in (signal.SIGTERM, signal.SIGINT):
            server = self.starting()
            server.process.send_signal(sent)
            self.assertEqual(server.process.wait(LIMIT_S), 0)
            self.assertIn(f"signal {sent.value} before serving: ending at once", server.said())

    def test_it_is_not_ready_while_it_drains_and_a_second_signal_ends_it(self):
        for second in (signal.SIGTERM, signal.SIGINT):
            server = Engramd("--checkpoint", self.checkpoint, "--health", "127.0.0.1:0",
                             "--drain-ms", 600000)
            server.process.terminate()
            wait_for(lambda: check(server.fields["health"], "") == 2)
            self.assertEqual(check(server.fields["health"], "liveness"), 1)
            self.assertIsNone(server.process.poll())
            server.process.send_signal(second)
            self.assertEqual(server.wait(), 0)
            self.assertIn(f"signal {second.value} while draining: ending at once", server.said())
            server.stop()

    def test_no_lookup_fails_while_a_replica_ends(self):
        ending, staying = (Engramd("--checkpoint", self.checkpoint, "--metrics", "127.0.0.1:0",
                                   "--drain-ms", "500") for _ in range(2))
        self.addCleanup(staying.stop)
        lookups = subprocess.Popen(
            [BIN / "engramctl", "verify", "--servers", f"{ending.address},{staying.address}",
             "--checkpoint", self.checkpoint, "--seconds", "4"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait_for(lambda: value(ending, "engram_sent_rows_total") > 0)
        self.assertEqual(ending.stop(), 0)
        out, said = lookups.communicate(timeout=LIMIT_S)
        self.assertEqual(lookups.returncode, 0, said)
        result = json.loads(out)
        self.assertGreater(result["lookups"], 0)
        self.assertEqual((result["failed"], result["wrong_rows"]), (0, 0))
        self.assertGreater(value(staying, "engram_sent_rows_total"), 0)

    def test_it_can_wait_for_verification_and_warm_up(self):
        server = Engramd("--checkpoint", self.checkpoint, "--store", "mapped", "--ready-after",
                         "verified", "--warm-up")
        said = server.said()
        states = re.findall(r"state (\w+)", said)
        self.assertEqual(states, ["loading", "verifying", "warming", "serving"], said)
        self.assertEqual(server.stop(), 0)

    def test_a_load_that_fails_says_why(self):
        server = subprocess.run([BIN / "engramd", "--checkpoint", self.directory.name, "--health",
                                 "127.0.0.1:0"], capture_output=True, text=True, timeout=LIMIT_S,
                                check=False)
        self.assertEqual(server.returncode, 1)
        self.assertIn("error: ", server.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
