#!/usr/bin/env python3
"""DeepSeek-V4.1-Flash's tables at their true size (203 GB, all but a few rows of them holes), served
from their files, and a slice of them from memory. `--large`: a slice of 1/32 (6.4 GB of memory)."""
import pathlib
import sys
import tempfile
import unittest

from cli_support import Engramd, run, run_json, synth_row

LARGE = "--large" in sys.argv
SEED = 11
ROW_BYTES = 264
ROWS = {1: 384006168, 14: 384016682}  # as the real checkpoint states them
TABLE_BYTES = 202758032400


class FullSize(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        scratch = tempfile.TemporaryDirectory(prefix="engram-full-")
        cls.addClassCleanup(scratch.cleanup)
        cls.checkpoint = pathlib.Path(scratch.name) / "checkpoint"
        made = run("engramctl", "synth", "--out", cls.checkpoint, "--like", "v41-flash", "--sparse",
                   "--seed", SEED)
        assert made.returncode == 0, made.stderr
        cls.digest = run_json("engramctl", "digest", cls.checkpoint)["digest"]
        cls.inspected = run_json("engramctl", "inspect", cls.checkpoint, "--json")

    def stated(self, layer):
        """The rows of the layer that are not holes."""
        rows, offset = {0, ROWS[layer] - 1}, 0
        for prime in self.inspected["primes"][list(ROWS).index(layer)]:
            rows |= {offset, offset + prime - 1}
            offset += prime
        self.assertEqual(offset, ROWS[layer])
        return rows | set(range(0, ROWS[layer], 1 << 19))

    def expect_rows(self, server, layer, rows):
        """Both what `rows` are and that the rows beside them are zeros, unless they are stated."""
        rows = sorted(rows)
        stated = self.stated(layer)
        done = run("engramctl", "lookup", "--servers", server.address, "--layer", layer, "--rows",
                   ",".join(map(str, rows)), "--hex")
        self.assertEqual(done.returncode, 0, done.stderr)
        got = done.stdout.split()
        self.assertEqual(len(got), len(rows))
        for row, hex_row in zip(rows, got):
            expected = synth_row(SEED, layer, row) if row in stated else bytes(ROW_BYTES)
            self.assertEqual(hex_row, expected.hex(), f"layer {layer} row {row}")

    def test_files_are_large_and_nearly_empty(self):
        tables = list(self.checkpoint.glob("*.safetensors"))
        self.assertGreater(sum(table.stat().st_size for table in tables), TABLE_BYTES)
        self.assertLess(sum(table.stat().st_blocks * 512 for table in tables), 200 << 20)

    def test_inspect_has_exact_figures(self):
        self.assertEqual(self.inspected["rows_per_layer"], list(ROWS.values()))
        self.assertEqual(self.inspected["table_bytes"], TABLE_BYTES)
        self.assertEqual(self.inspected["digest"], self.digest)
        scale = self.inspected["tensors"][1]
        self.assertGreater(scale["offset"], ROWS[1] * 256)

    def test_mapped_serves_all_of_it(self):
        server = Engramd("--checkpoint", self.checkpoint, "--store", "mapped", "--expect-digest",
                         self.digest)
        try:
            self.assertEqual(int(server.fields["rows"]), sum(ROWS.values()))
            self.assertEqual(int(server.fields["bytes"]), TABLE_BYTES)
            status = run_json("engramctl", "status", "--servers", server.address, "--json")
            self.assertEqual(status["servers"][0]["bytes"], TABLE_BYTES)
            for layer, count in ROWS.items():
                stated = self.stated(layer)
                # Values beyond 4 GiB of the file from row 2^24 on, scales from the first row on.
                beside = {row + side for row in stated for side in (-1, 1)}
                rows = {row for row in stated | beside if 0 <= row < count}
                self.assertGreater(max(rows), 380_000_000)
                self.expect_rows(server, layer, rows)
            over = run("engramctl", "lookup", "--servers", server.address, "--layer", 14, "--rows",
                       ROWS[14], "--hex")
            self.assertNotEqual(over.returncode, 0)
            self.assertIn(f"row id {ROWS[14]}", over.stderr)
            # Rows stay in the page cache: the process's own memory holds none of them.
            self.assertLess(server.memory("RssAnon"), 64 << 20)
        finally:
            self.assertEqual(server.stop(), 0)

    def test_memory_serves_a_slice(self):
        shards = 32 if LARGE else 512
        for shard in [shards - 1] if LARGE else [0, shards // 2, shards - 1]:
            server = Engramd("--checkpoint", self.checkpoint, "--shard", f"{shard}/{shards}")
            try:
                held = 0
                for layer, count in ROWS.items():
                    begin, end = count * shard // shards, count * (shard + 1) // shards
                    held += end - begin
                    stated = {row for row in self.stated(layer) if begin <= row < end}
                    self.assertTrue(stated)
                    self.expect_rows(server, layer, stated | {begin, end - 1})
                self.assertEqual(int(server.fields["rows"]), held)
                self.assertEqual(int(server.fields["bytes"]), held * ROW_BYTES)
                # Rows and their checksums, and little beside them; holes are not even touched.
                limit = held * (ROW_BYTES + 4) * 1.015 + (64 << 20)
                self.assertLess(server.memory("VmHWM"), limit)
            finally:
                self.assertEqual(server.stop(), 0)

    def test_a_shard_beyond_memory_is_refused_at_once(self):
        done = run("engramd", "--checkpoint", self.checkpoint, "--memory-budget", 1 << 30)
        self.assertNotEqual(done.returncode, 0)
        need = sum(ROWS.values()) * (ROW_BYTES + 4) + (64 << 20)
        self.assertIn(f"error: this shard takes {need} bytes", done.stderr)
        self.assertIn("1073741824 bytes (1.00 GiB) are its budget", done.stderr)


if __name__ == "__main__":
    unittest.main(argv=[arg for arg in sys.argv if arg != "--large"], verbosity=2)
