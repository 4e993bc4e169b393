#!/usr/bin/env python3
"""A shard on disk: imported, killed while it is, served, damaged."""
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from cli_support import BIN, LIMIT_S, Engramd, run, run_json, synth_row

SEED = 5
FLOOR = 20000  # 480,000 rows a layer: two files each, of 8 blocks together


class Disk(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory(prefix="engram-disk-")
        cls.checkpoint = pathlib.Path(cls.scratch.name) / "checkpoint"
        made = run("engramctl", "synth", "--out", cls.checkpoint, "--like", "v41-flash",
                   "--bucket-floor", FLOOR, "--seed", SEED)
        assert made.returncode == 0, made.stderr
        cls.digest = run_json("engramctl", "digest", cls.checkpoint)["digest"]

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def setUp(self):
        self.data = pathlib.Path(tempfile.mkdtemp(prefix="data-", dir=self.scratch.name))
        self.addCleanup(shutil.rmtree, self.data, True)

    def imported(self, shard="0/1"):
        return run_json("engramctl", "import", self.checkpoint, "--data-dir", self.data, "--shard",
                        shard)

    def serve(self, *args, budget=8 << 20):
        server = Engramd("--store", "rocksdb", "--data-dir", self.data, "--memory-budget", budget,
                         *args)
        self.addCleanup(server.stop)
        return server

    def fails(self, text, *args):
        done = run(*args)
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(done.stdout, "")
        self.assertIn(text, done.stderr)
        self.assertIn("error: ", done.stderr)

    def lookup(self, servers, rows, layer=1):
        return run("engramctl", "lookup", "--servers", servers, "--layer", layer, "--rows",
                   ",".join(map(str, rows)), "--hex")

    def expect_rows(self, servers, rows, layer=1):
        done = self.lookup(servers, rows, layer)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.split(),
                         [synth_row(SEED, layer, row).hex() if row >= 0 else "00" * 264
                          for row in rows])

    def test_imports_once_and_serves_without_the_checkpoint(self):
        whole = self.imported("1/3")
        self.assertEqual(whole["digest"], self.digest)
        self.assertEqual(whole["shard"], "1/3")
        again = run("engramctl", "import", self.checkpoint, "--data-dir", self.data, "--shard",
                    "1/3")
        self.assertIn("nothing is imported", again.stderr)
        server = self.serve("--shard", "1/3", "--expect-digest", self.digest)
        self.assertEqual(server.fields["digest"], self.digest)
        self.assertEqual(int(server.fields["rows"]), whole["rows"])
        self.assertIn("the shard is served from disk", server.said())

    def test_engramd_imports_and_every_row_is_the_checkpoints(self):
        server = self.serve("--checkpoint", self.checkpoint)
        self.assertIn("importing: ", server.said())
        self.expect_rows(server.address, [0, 14, 15, 65535, 65536, -1, 480000])
        self.expect_rows(server.address, [-1, 7, 7], layer=14)
        done = run_json("engramctl", "verify", "--servers", server.address, "--checkpoint",
                        self.checkpoint, "--seconds", 3)
        self.assertEqual((done["failed"], done["wrong_rows"]), (0, 0))
        self.assertGreater(done["lookups"], 0)
        self.assertEqual(server.stop(), 0)
        self.assertTrue((self.data / "hot-rows").exists())
        # With direct reads, and what was hot.
        server = self.serve("--direct-reads", "--read-threads", 4)
        self.expect_rows(server.address, [0, 14, 15, 65535, 65536, 480000])

    def test_what_fits_the_budget_is_served_from_memory(self):
        server = self.serve("--checkpoint", self.checkpoint, budget=1 << 30)
        self.assertIn("served from memory whole", server.said())
        self.expect_rows(server.address, [1, 2, 400000])

    def test_an_import_that_is_killed_goes_on(self):
        command = [BIN / "engramctl", "import", self.checkpoint, "--data-dir", self.data,
                   "--threads", "1"]
        kills = 0
        for delay in range(1, 200):
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
            done = sorted(self.data.glob("import/*.sst"))
            limit = time.monotonic() + LIMIT_S
            # Until it has got on by a file, or a little less.
            while process.poll() is None and time.monotonic() < limit:
                if len(sorted(self.data.glob("import/*.sst"))) > len(done) or delay % 2:
                    break
                time.sleep(0.001)
            time.sleep(0.02 * (delay % 5))
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
            if (self.data / "rows" / "CURRENT").exists() or delay > 12:
                break
        self.assertGreater(kills, 2)
        before = {path.name: path.stat().st_mtime_ns for path in self.data.glob("import/*.sst")}
        self.imported()
        self.assertFalse((self.data / "import").exists())
        kept = {path.stat().st_mtime_ns for path in self.data.glob("rows/*.sst")}
        self.assertTrue({time for name, time in before.items() if name[0].isdigit()} <= kept)
        server = self.serve()
        done = run_json("engramctl", "verify", "--servers", server.address, "--checkpoint",
                        self.checkpoint, "--seconds", 2)
        self.assertEqual((done["failed"], done["wrong_rows"]), (0, 0))

    def test_a_flipped_bit_loses_rows_by_name_and_a_replica_gives_them(self):
        self.imported()
        damaged = self.data.parent / (self.data.name + "-damaged")
        shutil.copytree(self.data, damaged)
        self.addCleanup(shutil.rmtree, damaged, True)
        for path in damaged.glob("rows/*.sst"):
            if path.stat().st_size > 100_000:
                with open(path, "r+b") as file:
                    file.seek(2 * 4096 + 500)
                    byte = file.read(1)
                    file.seek(2 * 4096 + 500)
                    file.write(bytes([byte[0] ^ 1]))
        lost = list(range(30, 45))  # of each layer's first file
        bad = Engramd("--store", "rocksdb", "--data-dir", damaged, "--memory-budget", 8 << 20)
        self.addCleanup(bad.stop)
        done = self.lookup(bad.address, [29, 31])
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("could not read row 31", done.stderr)
        self.assertIn("row 31 of layer 1 could not be read", bad.said())
        self.expect_rows(bad.address, [29, 45, 100000])
        good = self.serve()
        for _ in range(5):
            self.expect_rows(f"{bad.address},{good.address}", [29, *lost, 45])

    def test_a_backup_of_a_server_that_serves_is_restored(self):
        server = self.serve("--checkpoint", self.checkpoint)
        backup = self.data.parent / (self.data.name + "-backup")
        restored = self.data.parent / (self.data.name + "-restored")
        self.addCleanup(shutil.rmtree, backup, True)
        self.addCleanup(shutil.rmtree, restored, True)
        made = run_json("engramctl", "backup", "--data-dir", self.data, "--out", backup)
        self.assertGreater(made["bytes"], 960_000 * 264)
        self.assertEqual(run_json("engramctl", "restore", backup, "--data-dir", restored), made)
        other = Engramd("--store", "rocksdb", "--data-dir", restored, "--memory-budget", 8 << 20,
                        "--expect-digest", self.digest)
        self.addCleanup(other.stop)
        done = run_json("engramctl", "verify", "--servers", other.address, "--checkpoint",
                        self.checkpoint, "--seconds", 2)
        self.assertEqual((done["failed"], done["wrong_rows"]), (0, 0))
        self.expect_rows(server.address, [0, 480000])
        self.fails("is not empty", "engramctl", "restore", backup, "--data-dir", self.data)
        self.fails("is no backup", "engramctl", "restore", self.checkpoint, "--data-dir",
                   self.data.parent / "none")

    def test_bad_input_is_named(self):
        serve = ["engramd", "--listen", "127.0.0.1:0", "--store", "rocksdb"]
        self.fails("--store rocksdb needs --data-dir", *serve, "--checkpoint", self.checkpoint)
        self.fails("--checkpoint is required", "engramd", "--listen", "127.0.0.1:0")
        self.fails("has no shard", *serve, "--data-dir", self.data)
        self.imported("0/2")
        self.fails("has shard 0/2 of", *serve, "--data-dir", self.data)
        self.fails("not the expected 00", *serve, "--data-dir", self.data, "--shard", "0/2",
                   "--expect-digest", "0" * 64)
        self.fails("the budget is 2000", *serve, "--data-dir", self.data, "--shard", "0/2",
                   "--memory-budget", 2000)
        server = self.serve("--shard", "0/2")
        self.fails("is held by another process", *serve, "--data-dir", self.data, "--shard", "0/2")
        self.assertEqual(server.stop(), 0)

    def test_a_directory_that_cannot_be_written_to_is_named(self):
        self.data.chmod(0o555)
        nobody = {"user": 65534, "group": 65534} if os.getuid() == 0 else {}
        for parent in (self.data.parent, self.checkpoint):
            parent.chmod(0o755)
        try:
            done = subprocess.run(
                [BIN / "engramctl", "import", self.checkpoint, "--data-dir", self.data],
                capture_output=True, text=True, timeout=LIMIT_S, check=False, **nobody)
        except PermissionError:
            self.skipTest("another user cannot run the binaries here")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(f"data directory {self.data} cannot be written to", done.stderr)

    def test_a_disk_that_is_too_small_is_said_before_anything_is_written(self):
        small = self.data / "small"
        small.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "none", small],
                                 capture_output=True, check=False)
        if mounted.returncode != 0:
            self.skipTest("no file system can be mounted here")
        self.addCleanup(subprocess.run, ["umount", small], check=True)
        self.fails("are free there", "engramctl", "import", self.checkpoint, "--data-dir",
                   small / "d")
        self.assertEqual(list((small / "d").glob("import/*.sst")), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
