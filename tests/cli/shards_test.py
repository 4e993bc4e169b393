#!/usr/bin/env python3
"""Shards of all sorts: maps of uneven ones, more of them than columns, replicas that are none."""
import json
import pathlib
import shutil
import tempfile
import unittest

from cli_support import Engramd, run, run_json, synth_row

SEED = 5


class Shards(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        scratch = tempfile.TemporaryDirectory(prefix="engram-shards-")
        cls.addClassCleanup(scratch.cleanup)
        cls.dir = pathlib.Path(scratch.name)
        cls.checkpoint = cls.make("checkpoint", SEED)
        cls.rows = dict(zip((1, 14), run_json("engramctl", "inspect", cls.checkpoint,
                                              "--json")["rows_per_layer"]))

    @classmethod
    def make(cls, name, seed):
        made = run("engramctl", "synth", "--out", cls.dir / name, "--like", "v41-flash",
                   "--bucket-floor", 500, "--seed", seed)
        assert made.returncode == 0, made.stderr
        run_json("engramctl", "digest", cls.dir / name)
        return cls.dir / name

    def serve(self, *args, checkpoint=None):
        server = Engramd("--checkpoint", checkpoint or self.checkpoint, *args)
        self.addCleanup(server.stop)
        return server

    def write_map(self, shards):
        path = self.dir / "map.json"
        path.write_text(json.dumps({"shards": shards}))
        return path

    def verify(self, servers):
        done = run("engramctl", "verify", "--servers", ",".join(s.address for s in servers),
                   "--checkpoint", self.checkpoint, "--seconds", 1)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        figures = json.loads(done.stdout)
        self.assertGreater(figures["rows"], 0)
        self.assertEqual((figures["failed"], figures["wrong_rows"]), (0, 0))

    def test_shares_of_different_machines(self):
        path = self.write_map([{"name": "big", "share": 5}, {"name": "small-a", "share": 1},
                               {"name": "small-b", "share": 1}])
        servers = [self.serve("--shard-map", path, "--shard", name)
                   for name in ("small-b", "big", "small-a")]
        self.assertEqual([s.fields["shard"] for s in servers], ["2/3", "0/3", "1/3"])
        rows = [int(s.fields["rows"]) for s in servers]
        self.assertEqual(sum(rows), sum(self.rows.values()))
        self.assertAlmostEqual(rows[1] / rows[0], 5, delta=0.01)
        self.verify(servers)

    def test_explicit_ranges_several_of_a_layer(self):
        one, other = self.rows[1], self.rows[14]
        path = self.write_map([
            {"name": "a", "ranges": [{"layer": 1, "begin": 0, "end": 700},
                                     {"layer": 1, "begin": 900, "end": one},
                                     {"layer": 14, "begin": 5, "end": 6}]},
            {"name": "b", "ranges": [{"layer": 1, "begin": 700, "end": 900},
                                     {"layer": 14, "begin": 0, "end": 5},
                                     {"layer": 14, "begin": 6, "end": other}]}])
        servers = [self.serve("--shard-map", path, "--shard", "a"),
                   self.serve("--shard-map", path, "--shard", "b", "--store", "mapped")]
        rows = [0, 699, 700, 899, 900, one - 1]
        done = run("engramctl", "lookup", "--servers", ",".join(s.address for s in servers),
                   "--layer", 1, "--rows", ",".join(map(str, rows)), "--hex")
        self.assertEqual(done.stdout.split(), [synth_row(SEED, 1, row).hex() for row in rows])
        self.verify(servers)

    def test_more_shards_than_columns(self):
        servers = [self.serve("--shard", f"{i}/30") for i in range(30)]
        self.verify(servers)

    def test_a_shard_that_the_map_lacks(self):
        path = self.write_map([{"name": "a", "share": 1}])
        done = run("engramd", "--checkpoint", self.checkpoint, "--shard-map", path, "--shard", "b")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("has no shard `b`; it has a", done.stderr)
        path.write_text('{"shards": [{"name": "a", "share": 0}]}')
        done = run("engramd", "--checkpoint", self.checkpoint, "--shard-map", path, "--shard", "a")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(f"error: {path}: shard 0: field `share`", done.stderr)

    def expect_conflict(self, other):
        whole = self.serve()
        replica = self.serve("--shard", "0/2", checkpoint=other)
        self.assertNotEqual(replica.fields["digest"], whole.fields["digest"])
        for servers in ([whole, replica], [replica, whole]):
            done = run("engramctl", "lookup", "--servers",
                       ",".join(s.address for s in servers), "--layer", 1, "--rows", 3, "--hex")
            self.assertNotEqual(done.returncode, 0)
            self.assertEqual(done.stdout, "")
            for server in servers:
                self.assertIn(server.fields["digest"], done.stderr)
        done = run("engramd", "--checkpoint", other, "--expect-digest", whole.fields["digest"])
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("not the expected " + whole.fields["digest"], done.stderr)

    def test_a_replica_of_another_seed_is_refused(self):
        self.expect_conflict(self.make("other", SEED + 1))

    def test_a_replica_with_one_flipped_bit_is_refused(self):
        damaged = self.dir / "damaged"
        shutil.copytree(self.checkpoint, damaged)
        (damaged / "engram.sidecar").unlink()  # with it the server would not even start
        table = sorted(damaged.glob("*.safetensors"))[0]
        data = bytearray(table.read_bytes())
        data[-1000] ^= 1
        table.write_bytes(data)
        self.expect_conflict(damaged)
        shutil.copy(self.checkpoint / "engram.sidecar", damaged)
        done = run("engramd", "--checkpoint", damaged)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("differ from the sums in", done.stderr)

    def test_inspect_says_what_a_cut_means(self):
        figures = run_json("engramctl", "inspect", self.checkpoint, "--json", "--shards", 48,
                           "--batch", 128)["layout"]
        self.assertEqual((figures["shards"], figures["batch"]), (48, 128))
        self.assertEqual(figures["largest"]["bytes"], figures["largest"]["rows"] * 264)
        for layer in figures["layers"]:
            # 24 columns, each spread over about two of the shards.
            self.assertAlmostEqual(layer["servers_per_token"], 23, delta=1)
            self.assertAlmostEqual(layer["servers_per_batch"], 48, delta=0.7)
        path = self.write_map([{"name": "a", "share": 3}, {"name": "b", "share": 1}])
        done = run("engramctl", "inspect", self.checkpoint, "--shard-map", path)
        self.assertEqual(done.returncode, 0, done.stderr)
        # Columns grow along a layer: its first three quarters of rows hold more than three quarters
        # of its columns, which is what a token asks for.
        primes = run_json("engramctl", "inspect", self.checkpoint, "--json")["primes"][0]
        left, columns = sum(primes) * 3 / 4, 0
        for prime in primes:
            columns += min(1, max(0, left) / prime)
            left -= prime
        self.assertIn(f"the busiest answers {100 * columns / len(primes):.1f} %", done.stdout)
        self.assertRegex(done.stdout, r"table +\d+ rows, 0.01 GiB")
        both = run("engramctl", "inspect", self.checkpoint, "--shard-map", path, "--shards", 2)
        self.assertNotEqual(both.returncode, 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
