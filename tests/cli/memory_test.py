#!/usr/bin/env python3
"""What a shard takes of a machine's memory, of a table without holes."""
import pathlib
import tempfile
import unittest

from cli_support import Engramd, run, run_json

ROW_BYTES = 264
CHECKSUM_BYTES = 4


class Memory(unittest.TestCase):
    def test_little_beside_rows_and_checksums(self):
        with tempfile.TemporaryDirectory(prefix="engram-memory-") as scratch:
            checkpoint = pathlib.Path(scratch) / "checkpoint"
            made = run("engramctl", "synth", "--out", checkpoint, "--like", "v41-flash",
                       "--bucket-floor", 30000)
            self.assertEqual(made.returncode, 0, made.stderr)
            run_json("engramctl", "digest", checkpoint)
            for shard in ("0/1", "1/3"):
                server = Engramd("--checkpoint", checkpoint, "--shard", shard)
                self.addCleanup(server.stop)
                needed = int(server.fields["rows"]) * (ROW_BYTES + CHECKSUM_BYTES)
                self.assertGreater(server.memory("VmHWM"), needed)
                self.assertLess(server.memory("VmHWM"), 1.015 * needed + (64 << 20))
                self.assertRegex(server.said(), r"(?m)^.*loading: \d+\.\d\d GB in ")


if __name__ == "__main__":
    unittest.main(verbosity=2)
