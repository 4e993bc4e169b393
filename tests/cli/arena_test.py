#!/usr/bin/env python3
"""A server whose rows outlive it, and what happens to them between two lives."""
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time
import unittest

from cli_support import BIN, LIMIT_S, Engramd, run, run_json, synth_row

SEED = 11
SHM = pathlib.Path("/dev/shm")
ROW_BYTES = 264
COMPLETE = b"\x08\x02"  # the header's first field: ARENA_STATE_COMPLETE


@unittest.skipUnless(SHM.is_dir() and os.access(SHM, os.W_OK), "no /dev/shm: NOT TESTED")
class Arena(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        scratch = tempfile.TemporaryDirectory(prefix="engram-arena-")
        cls.addClassCleanup(scratch.cleanup)
        cls.checkpoint = pathlib.Path(scratch.name) / "checkpoint"
        made = run("engramctl", "synth", "--out", cls.checkpoint, "--like", "v41-flash",
                   "--bucket-floor", 5000, "--seed", SEED)
        if made.returncode != 0:
            raise AssertionError(made.stderr)
        cls.digest = run_json("engramctl", "digest", cls.checkpoint)["digest"]

    def setUp(self):
        arenas = tempfile.TemporaryDirectory(prefix="engram-arena-", dir=SHM)
        self.addCleanup(arenas.cleanup)
        self.arenas = pathlib.Path(arenas.name)

    def serve(self, *args):
        server = Engramd("--checkpoint", self.checkpoint, "--arena-dir", self.arenas, *args)
        self.addCleanup(server.stop)
        return server

    def arena(self):
        (path,) = self.arenas.glob("engram-*.arena")
        self.assertTrue(path.name.startswith(f"engram-{self.digest[:16]}-"), path)
        return path

    def kill(self, server):
        os.kill(server.pid, signal.SIGKILL)
        self.assertEqual(server.wait(), -signal.SIGKILL)

    def expect_rows(self, server):
        done = run("engramctl", "lookup", "--servers", server.address, "--layer", 1, "--rows",
                   "0,77777,-1", "--hex")
        self.assertEqual(done.stdout.split(), [synth_row(SEED, 1, 0).hex(),
                                               synth_row(SEED, 1, 77777).hex(), "00" * ROW_BYTES],
                         done.stderr)
        done = run("engramctl", "verify", "--servers", server.address, "--checkpoint",
                   self.checkpoint, "--seconds", 0.3)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout)["wrong_rows"], 0)

    def status(self, server):
        return run_json("engramctl", "status", "--servers", server.address, "--json")["servers"][0]

    def wait_for(self, condition):
        limit = time.monotonic() + LIMIT_S
        while not condition():
            self.assertLess(time.monotonic(), limit)
            time.sleep(0.001)

    def test_a_server_that_was_killed_comes_back_with_its_rows(self):
        server = self.serve()
        self.assertRegex(server.said(), r"(?m) loading: .*\n(.*\n)*.* arena /.*: complete$")
        self.expect_rows(server)
        fields = server.fields
        self.kill(server)
        server = self.serve()
        self.assertIn(f"arena {self.arena()}: ", server.said())
        self.assertIn("taken as they are", server.said())
        self.assertNotIn("loading: ", server.said())
        for field in ("digest", "shard", "rows", "bytes"):
            self.assertEqual(server.fields[field], fields[field])
        self.expect_rows(server)
        self.wait_for(lambda: self.status(server)["verification"]["passes"] == 1)
        # Rows are shared memory of the file's, not the process's own.
        self.assertLess(server.memory("RssAnon"), int(fields["bytes"]) // 2)

    def test_sigterm_leaves_the_rows(self):
        server = self.serve()
        self.assertEqual(server.stop(), 0)
        server = self.serve()
        self.assertIn("taken as they are", server.said())
        self.expect_rows(server)

    def test_a_load_that_was_killed_is_made_anew(self):
        for _ in range(20):
            process = subprocess.Popen(
                [BIN / "engramd", "--checkpoint", self.checkpoint, "--arena-dir", self.arenas,
                 "--listen", "127.0.0.1:0", "--load-threads", "1"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                self.wait_for(lambda: any(path.stat().st_size for path in self.arenas.iterdir()))
            finally:
                process.kill()
                process.wait()
            if self.arena().read_bytes()[28:30] != COMPLETE:
                break
            self.arena().unlink()  # It was too quick for us.
        else:
            self.fail("no load could be killed")
        server = self.serve()
        self.assertRegex(server.said(), re.escape(str(self.arena())) +
                         r"( was not completely loaded| has no header yet): loading anew")
        self.expect_rows(server)
        self.assertEqual(self.arena().read_bytes()[28:30], COMPLETE)

    def test_a_second_server_is_refused(self):
        server = self.serve()
        done = run("engramd", "--checkpoint", self.checkpoint, "--arena-dir", self.arenas,
                   "--listen", "127.0.0.1:0")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(f"error: arena {self.arena()} is in use by another process", done.stderr)
        self.expect_rows(server)

    def test_damage_found_while_serving_is_not_served_again(self):
        self.serve().stop()
        server = self.serve("--verify-mb-s", 0, "--verify-interval", 1)
        self.expect_rows(server)
        with open(self.arena(), "r+b") as file:
            file.seek(30 << 20)
            byte = file.read(1)
            file.seek(30 << 20)
            file.write(bytes([byte[0] ^ 1]))
        self.wait_for(lambda: self.status(server)["state"] == "FAILED")
        self.assertIn("differs in memory from its checksum", self.status(server)["failure"])
        self.assertNotEqual(run("engramctl", "lookup", "--servers", server.address, "--layer", 1,
                                "--rows", "0", "--hex").returncode, 0)
        self.kill(server)
        server = self.serve()
        self.assertIn(f"{self.arena()} was found to be damaged: loading anew", server.said())
        self.expect_rows(server)

    def test_an_arena_that_is_cut_makes_the_server_unready(self):
        server = self.serve()
        self.expect_rows(server)
        os.truncate(self.arena(), 0)
        done = run("engramctl", "lookup", "--servers", server.address, "--layer", 1, "--rows",
                   "77777", "--hex")
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(self.status(server)["state"], "FAILED")
        self.assertIn(str(self.arena()), self.status(server)["failure"])

    def test_a_file_system_that_is_too_small(self):
        if os.geteuid() != 0:
            self.skipTest("not root: NOT TESTED")
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", self.arenas],
                                 capture_output=True, text=True, check=False)
        if mounted.returncode != 0:
            self.skipTest(f"cannot mount: NOT TESTED: {mounted.stderr}")
        self.addCleanup(subprocess.run, ["umount", "-l", self.arenas], check=True)
        done = run("engramd", "--checkpoint", self.checkpoint, "--arena-dir", self.arenas,
                   "--listen", "127.0.0.1:0")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(f"error: arena directory {self.arenas}: the shard takes ", done.stderr)
        self.assertIn("1048576 bytes (0.00 GiB) free of 1048576", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
