"""What an operator sees of a server that serves: the log, slow requests, bounds for one client."""
import json
import pathlib
import signal
import tempfile
import time
import unittest

from cli_support import LIMIT_S, Engramd, run, run_json


class Life(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        scratch = cls.enterClassContext(tempfile.TemporaryDirectory(prefix="engram-life-"))
        cls.checkpoint = pathlib.Path(scratch) / "checkpoint"
        made = run("engramctl", "synth", "--out", cls.checkpoint, "--like", "v41-flash",
                   "--bucket-floor", 2000)
        assert made.returncode == 0, made.stderr
        run_json("engramctl", "digest", cls.checkpoint)

    def serve(self, *args):
        server = Engramd("--checkpoint", self.checkpoint, *args)
        self.addCleanup(server.stop)
        return server

    def await_said(self, server, words):
        end = time.monotonic() + LIMIT_S
        while words not in server.said():
            self.assertLess(time.monotonic(), end, f"{words!r} not in {server.said()!r}")
            time.sleep(0.02)

    def test_json_lines_and_slow_requests(self):
        server = self.serve("--log-format", "json")
        looked_up = run("engramctl", "lookup", "--servers", server.address, "--layer", 1, "--rows",
                        "1,2,3", "--hex")
        self.assertEqual(looked_up.returncode, 0)
        server.process.send_signal(signal.SIGUSR1)
        self.await_said(server, "3 rows of layer 1")
        lines = [json.loads(line) for line in server.said().splitlines()]
        for line in lines:
            self.assertEqual(list(line), ["time", "level", "message"])
        slow = [line["message"] for line in lines if " rows of layer " in line["message"]]
        self.assertEqual(len(slow), 1)
        self.assertRegex(slow[0], r"^request 1 of ipv4:127\.0\.0\.1:\d+ at .*: 3 rows of layer 1, decode, "
                                  r"[\d.]+ ms: queue [\d.]+, gather [\d.]+, send [\d.]+$")
        self.assertIsNone(server.process.poll())

    def test_limits_of_a_client(self):
        server = self.serve("--max-rows-in-flight-per-client", 1000, "--metrics", "127.0.0.1:0")
        refused = run("engram-bench", "gather", "--servers", server.address, "--layer", 1, "--batch",
                      800, "--depth", 8, "--seconds", 1)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("one client may have 1000", refused.stderr)
        self.await_said(server, "RESOURCE_EXHAUSTED")
        self.assertRegex(server.said(), r"request \d+ of ipv4:127\.0\.0\.1:\d+: RESOURCE_EXHAUSTED")
        few = run("engram-bench", "gather", "--servers", server.address, "--layer", 1, "--batch", 800,
                  "--depth", 1, "--seconds", 0.2)
        self.assertEqual(few.returncode, 0, few.stderr)
        # A client has a stream for decode and one for prefill.
        server = self.serve("--max-streams-per-client", 1)
        refused = run("engramctl", "lookup", "--servers", server.address, "--layer", 1, "--rows", 1, "--hex")
        self.assertIn("one client may have 1", server.said() + refused.stderr)


if __name__ == "__main__":
    unittest.main()
