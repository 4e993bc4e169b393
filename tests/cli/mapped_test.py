#!/usr/bin/env python3
"""A server that serves straight from the checkpoint's files, and what happens to those files."""
import json
import os
import pathlib
import shutil
import tempfile
import time
import unittest

from cli_support import LIMIT_S, Engramd, run, run_json, synth_row

SEED = 3


class Mapped(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="engram-mapped-")
        self.addCleanup(scratch.cleanup)
        self.checkpoint = pathlib.Path(scratch.name) / "checkpoint"
        made = run("engramctl", "synth", "--out", self.checkpoint, "--like", "v41-flash",
                   "--bucket-floor", 5000, "--seed", SEED)
        self.assertEqual(made.returncode, 0, made.stderr)
        self.digest = run_json("engramctl", "digest", self.checkpoint)["digest"]
        self.table = sorted(self.checkpoint.glob("*.safetensors"))[0]

    def serve(self, *args):
        server = Engramd("--checkpoint", self.checkpoint, "--store", "mapped", *args)
        self.addCleanup(server.stop)
        return server

    def serve_unverified(self, *args):
        """A server whose verification has come to rest: at a megabyte a second the block after the
        first (of 65,536 rows) is 17 seconds away. What happens to a file now is met by a gather."""
        server = self.serve("--verify-mb-s", 1, *args)
        self.wait_for(lambda: self.status(server)["verification"]["rows"] > 0)
        return server

    def lookup(self, server, layer=1):
        return run("engramctl", "lookup", "--servers", server.address, "--layer", layer, "--rows",
                   "5,-1", "--hex")

    def status(self, server):
        return run_json("engramctl", "status", "--servers", server.address, "--json")["servers"][0]

    def wait_for(self, condition):
        limit = time.monotonic() + LIMIT_S
        while not condition():
            self.assertLess(time.monotonic(), limit)
            time.sleep(0.01)

    def test_serves_and_verifies_in_the_background(self):
        server = self.serve()
        self.assertEqual(server.fields["digest"], self.digest)
        done = self.lookup(server)
        self.assertEqual(done.stdout.split(), [synth_row(SEED, 1, 5).hex(), "00" * 264], done.stderr)
        self.wait_for(lambda: self.status(server)["verification"]["passes"] == 1)
        self.assertIn("verified: ", server.said())
        done = run("engramctl", "verify", "--servers", server.address, "--checkpoint",
                   self.checkpoint, "--seconds", 1)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout)["wrong_rows"], 0)

    def test_status_shows_how_far_verification_is(self):
        server = self.serve_unverified()
        status = self.status(server)
        self.assertEqual((status["state"], status["verification"]),
                         ("SERVING", {"passes": 0, "rows": 65536}))
        done = run("engramctl", "status", "--servers", server.address)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(f" verified {100 * 65536 / status['rows']:.0f} % ", done.stdout)
        self.assertIn(f" {status['rows']} rows ", done.stdout)

    def test_a_file_that_is_replaced_serves_nothing_new(self):
        server = self.serve_unverified()
        self.assertEqual(self.lookup(server).returncode, 0)
        # An export of another seed under the same name: what is mapped is the old file, which has
        # lost its name, and nobody can tell what else was done to it.
        other = self.checkpoint.parent / "other"
        made = run("engramctl", "synth", "--out", other, "--like", "v41-flash", "--bucket-floor",
                   5000, "--seed", SEED + 1)
        self.assertEqual(made.returncode, 0, made.stderr)
        os.replace(other / self.table.name, self.table)
        done = self.lookup(server)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(self.table.name, done.stderr)
        self.assertEqual(self.status(server)["state"], "FAILED")

    def test_a_file_that_shrinks_makes_the_server_unready(self):
        server = self.serve_unverified("--health", "127.0.0.1:0")
        self.assertEqual(self.lookup(server).returncode, 0)
        os.truncate(self.table, self.table.stat().st_size // 2)
        done = self.lookup(server)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(self.table.name, done.stderr)
        status = self.status(server)
        self.assertEqual(status["state"], "FAILED")
        self.assertIn(self.table.name, status["failure"])
        # The other layer's file is whole, but the table is not.
        self.assertNotEqual(self.lookup(server, 14).returncode, 0)

    def test_a_write_of_the_same_bytes_is_a_change(self):
        server = self.serve_unverified()
        self.assertEqual(self.lookup(server).returncode, 0)
        with open(self.table, "r+b") as file:
            file.seek(1000)
            byte = file.read(1)
            file.seek(1000)
            file.write(byte)
        done = self.lookup(server)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("has changed since it was opened", done.stderr)

    def test_damage_before_the_start_is_found_before_serving(self):
        with open(self.table, "r+b") as file:
            file.seek(self.table.stat().st_size - 100)
            file.write(b"x")
        done = run("engramd", "--checkpoint", self.checkpoint, "--store", "mapped", "--listen",
                   "127.0.0.1:0")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("the table files have other times than the sidecar says", done.stderr)
        self.assertIn("differ from the sums in", done.stderr)

    def test_damage_that_the_times_hide_is_found_in_the_background(self):
        times = self.table.stat()
        with open(self.table, "r+b") as file:
            file.seek(times.st_size - 100)
            file.write(b"x")
        os.utime(self.table, ns=(times.st_atime_ns, times.st_mtime_ns))
        server = self.serve()
        self.wait_for(lambda: self.status(server)["state"] == "FAILED")
        self.assertIn("verification failed: ", server.said())

    def test_a_copy_has_other_times_and_is_verified_first(self):
        copy = self.checkpoint.parent / "copy"
        shutil.copytree(self.checkpoint, copy, copy_function=shutil.copyfile)
        server = Engramd("--checkpoint", copy, "--store", "mapped", "--expect-digest", self.digest)
        self.addCleanup(server.stop)
        self.assertIn("verifying them first", server.said())
        self.assertEqual(self.status(server)["verification"]["passes"], 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
