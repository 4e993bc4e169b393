#!/usr/bin/env python3
"""A table that changes under load: delta, publish, activate, retire, generations, restarts."""
import json
import os
import pathlib
import random
import shutil
import subprocess
import tempfile
import threading
import unittest

from cli_support import Engramd, run, run_json


class Delta(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        scratch = tempfile.TemporaryDirectory(prefix="engram-delta-")
        cls.addClassCleanup(scratch.cleanup)
        cls.dir = pathlib.Path(scratch.name)
        cls.old = cls.dir / "old"
        made = run("engramctl", "synth", "--out", cls.old, "--like", "v41-flash",
                   "--bucket-floor", 500)
        assert made.returncode == 0, made.stderr
        cls.new = cls.change(cls.old, "new", 1)
        cls.newest = cls.change(cls.new, "newest", 2)
        cls.digests = [run_json("engramctl", "digest", each)["digest"]
                       for each in (cls.old, cls.new, cls.newest)]
        cls.delta = cls.dir / "old-new.delta"
        cls.made = run_json("engramctl", "delta", "--from", cls.old, "--to", cls.new, "--out",
                            cls.delta)
        cls.second = cls.dir / "new-newest.delta"
        run_json("engramctl", "delta", "--from", cls.new, "--to", cls.newest, "--out", cls.second)

    @classmethod
    def change(cls, checkpoint, name, seed):
        """A copy with some bytes of rows changed."""
        shutil.copytree(checkpoint, cls.dir / name)
        (cls.dir / name / "engram.sidecar").unlink(missing_ok=True)
        generator = random.Random(seed)
        for table in (cls.dir / name).glob("*.safetensors"):
            data = bytearray(table.read_bytes())
            for _ in range(200):
                data[generator.randrange(len(data) // 2, len(data))] ^= 1
            table.write_bytes(data)
        return cls.dir / name

    def serve(self, *args, data_dir=None):
        extra = ["--data-dir", data_dir] if data_dir else []
        server = Engramd("--checkpoint", self.old, *extra, *args)
        self.addCleanup(server.stop)
        return server

    def fleet(self, name):
        self.data = [self.dir / f"{name}-{i}" for i in range(2)]
        return [self.serve("--shard", f"{i}/2", data_dir=self.data[i]) for i in range(2)]

    def ctl(self, command, servers, *args, ok=True):
        done = run("engramctl", command, "--servers", ",".join(s.address for s in servers), *args)
        self.assertEqual(done.returncode == 0, ok, done.stdout + done.stderr)
        return done

    def held(self, servers):
        """Per server what it holds: the place of each digest in `digests`, and its state."""
        said = json.loads(self.ctl("generations", servers, "--json").stdout)["servers"]
        return [[(self.digests.index(g["digest"]), g["state"]) for g in server["generations"]]
                for server in said]

    def verify(self, servers, checkpoint, *args):
        done = self.ctl("verify", servers, "--checkpoint", checkpoint, "--seconds", 0.5, *args)
        figures = json.loads(done.stdout)
        self.assertGreater(figures["rows"], 0)
        self.assertEqual((figures["failed"], figures["wrong_rows"]), (0, 0))

    def test_a_delta_says_what_it_holds(self):
        self.assertEqual(self.made["base"], self.digests[0])
        self.assertEqual(self.made["target"], self.digests[1])
        self.assertGreater(self.made["rows"], 300)
        self.assertLessEqual(self.made["rows"], 400)

    def test_publish_activate_retire_restart(self):
        servers = self.fleet("whole")
        self.ctl("publish", servers, self.delta)
        self.ctl("publish", servers, self.second)
        for number, checkpoint in enumerate((self.old, self.new, self.newest)):
            self.verify(servers, checkpoint, "--expect-digest", self.digests[number])
        prepared = [(0, "ACTIVE"), (1, "PREPARED"), (2, "PREPARED")]
        self.assertEqual(self.held(servers), [prepared, prepared])
        self.verify(servers, self.old)
        self.ctl("activate", servers, self.digests[2])
        self.verify(servers, self.newest)
        done = self.ctl("retire", servers, self.digests[2], ok=False)
        self.assertIn("it is the active generation", done.stderr)
        for digest in self.digests[:2]:
            self.ctl("retire", servers, digest)
        self.assertEqual(self.held(servers), [[(2, "ACTIVE")]] * 2)
        self.verify(servers, self.newest)
        done = self.ctl("retire", servers, self.digests[0], ok=False)
        self.assertIn("none of the servers holds", done.stderr)
        for server in servers:
            server.stop()
        servers = [self.serve("--shard", f"{i}/2", data_dir=self.data[i]) for i in range(2)]
        self.assertEqual([s.fields["digest"] for s in servers], [self.digests[2]] * 2)
        self.verify(servers, self.newest)

    def test_a_server_that_is_not_there_stops_everything(self):
        servers = self.fleet("down")
        servers[1].stop()
        done = self.ctl("publish", servers, self.delta, ok=False)
        self.assertIn(servers[1].address, done.stderr)
        said = json.loads(done.stdout)["servers"]
        self.assertEqual([s["state"] for s in said], ["SERVING", "UNREACHABLE"])
        servers[1] = self.serve("--shard", "1/2", data_dir=self.data[1])
        self.ctl("publish", servers[:1], self.delta, ok=False)  # rows that nobody named holds
        done = self.ctl("activate", servers, self.digests[1], ok=False)
        self.assertIn("publish it there first", done.stderr)
        self.ctl("publish", servers, self.delta)
        self.ctl("activate", servers, self.digests[1])
        self.verify(servers, self.new)

    def test_a_pace_is_not_negative(self):
        done = run("engramctl", "publish", "--servers", "127.0.0.1:1", self.delta, "--max-mb-s", "-1")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("--max-mb-s", done.stderr)

    def test_without_a_data_directory_publishing_is_refused(self):
        server = self.serve()
        done = self.ctl("publish", [server], self.delta, ok=False)
        self.assertIn("without --data-dir", done.stderr)
        self.assertEqual(self.held([server]), [[(0, "ACTIVE")]])

    def test_a_delta_for_another_base_or_damaged_is_refused(self):
        servers = self.fleet("bad")
        done = self.ctl("publish", servers, self.second, ok=False)
        self.assertIn("does not hold the base of", done.stderr)
        data = self.delta.read_bytes()
        bad = self.dir / "bad.delta"
        for damaged, what in ((data[:-9], "cut off"),
                              (data[:-9] + bytes([data[-9] ^ 1]) + data[-8:], "checksum")):
            bad.write_bytes(damaged)
            done = self.ctl("publish", servers, bad, ok=False)
            self.assertIn(what, done.stderr)
        self.assertEqual(self.held(servers), [[(0, "ACTIVE")]] * 2)

    def test_a_server_killed_while_it_holds_deltas_comes_back_with_them(self):
        server = self.serve(data_dir=self.dir / "killed")
        self.ctl("publish", [server], self.delta)
        self.ctl("activate", [server], self.digests[1])
        server.process.kill()
        server.wait()
        server = self.serve(data_dir=self.dir / "killed")
        self.assertEqual(self.held([server]), [[(0, "PREPARED"), (1, "ACTIVE")]])
        self.verify([server], self.new)
        self.verify([server], self.old, "--expect-digest", self.digests[0])

    def test_what_was_acknowledged_outlives_kills_at_random_moments(self):
        old, new = self.digests[:2]
        # What is held, and the change that comes next, round and round.
        self.kill_at_random("random", [
            ([(0, "ACTIVE")], "publish", self.delta),
            ([(0, "ACTIVE"), (1, "PREPARED")], "activate", new),
            ([(0, "PREPARED"), (1, "ACTIVE")], "activate", old),
            ([(0, "ACTIVE"), (1, "PREPARED")], "retire", new)])

    def test_folds_on_disk_outlive_kills_at_random_moments(self):
        old, new = self.digests[:2]
        back = self.dir / "new-old.delta"
        run_json("engramctl", "delta", "--from", self.new, "--to", self.old, "--out", back)
        self.kill_at_random("random-disk", [
            ([(0, "ACTIVE")], "publish", self.delta),
            ([(0, "ACTIVE"), (1, "PREPARED")], "activate", new),
            ([(0, "PREPARED"), (1, "ACTIVE")], "retire", old),
            ([(1, "ACTIVE")], "publish", back),
            ([(1, "ACTIVE"), (0, "PREPARED")], "activate", old),
            ([(1, "PREPARED"), (0, "ACTIVE")], "retire", new)],
            "--store", "rocksdb", "--memory-budget", 8 << 20)

    def kill_at_random(self, name, cycle, *args):
        seed = int(os.environ.get("ENGRAM_TEST_SEED", random.randrange(1 << 32)))
        kills = int(os.environ.get("ENGRAM_TEST_KILLS", 12))
        print(f"ENGRAM_TEST_SEED={seed} ENGRAM_TEST_KILLS={kills}", flush=True)
        generator = random.Random(seed)
        data_dir = self.dir / name
        at = 0  # in the cycle, as acknowledged
        changes, unanswered = 0, 0
        for _ in range(kills):
            server = self.serve(*args, data_dir=data_dir)
            held = self.held([server])[0]
            after = (at + 1) % len(cycle)
            self.assertIn(held, (cycle[at][0], cycle[after][0]))
            if held != cycle[at][0]:  # done, but never acknowledged
                unanswered += 1
                at = after
            self.verify([server], self.new if (1, "ACTIVE") in held else self.old)
            killer = threading.Timer(generator.random() * 0.4, server.process.kill)
            killer.start()
            while True:
                _, command, argument = cycle[at]
                done = run("engramctl", command, "--servers", server.address, argument)
                if done.returncode != 0:
                    break
                at = (at + 1) % len(cycle)
                changes += 1
            killer.join()
            server.wait()
        print(f"{changes} changes acknowledged, {unanswered} done without an answer", flush=True)
        self.assertGreater(changes, 0)
        server = self.serve(*args, data_dir=data_dir)
        held = self.held([server])[0]
        self.verify([server], self.new if (1, "ACTIVE") in held else self.old)

    @staticmethod
    def fill(path, leaving):
        """Makes a file of all that its file system has left, but so many bytes."""
        with open(path, "wb") as file:
            room = os.statvfs(path)
            free = room.f_bavail * room.f_frsize - leaving
            file.write(bytes(free // 4096 * 4096))

    def test_a_full_disk_refuses_a_delta_and_the_server_goes_on(self):
        small = self.dir / "small"
        small.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", small],
                                 capture_output=True, check=False)
        if mounted.returncode != 0:
            self.skipTest("no file system can be mounted here")
        self.addCleanup(subprocess.run, ["umount", "-l", small], check=True)
        server = self.serve(data_dir=small)
        filler = small / "filler"
        self.fill(filler, leaving=40 << 10)  # the delta has more
        for _ in range(2):
            done = self.ctl("publish", [server], self.delta, ok=False)
            self.assertIn("No space left on device", done.stderr)
            self.assertIn(str(small), done.stderr)
            self.assertEqual(self.held([server]), [[(0, "ACTIVE")]])
            self.verify([server], self.old)
        filler.unlink()
        self.ctl("publish", [server], self.delta)
        # No room for another catalogue: the active one stays.
        self.fill(filler, leaving=0)
        done = self.ctl("activate", [server], self.digests[1], ok=False)
        self.assertIn("No space left on device", done.stderr)
        self.assertEqual(self.held([server]), [[(0, "ACTIVE"), (1, "PREPARED")]])
        self.verify([server], self.old)
        filler.unlink()
        self.ctl("activate", [server], self.digests[1])
        self.verify([server], self.new)

    def test_a_delta_of_another_geometry_is_refused(self):
        other = self.dir / "other"
        run("engramctl", "synth", "--out", other, "--like", "v41-flash", "--bucket-floor", 600)
        done = run("engramctl", "delta", "--from", self.old, "--to", other, "--out",
                   self.dir / "none.delta")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("differ in geometry", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
