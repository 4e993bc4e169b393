"""engram-bench overlap: that it runs, what its output is made of, and that every row is right.

What it measures is no test's business: a busy machine would fail it.
"""
import os
import pathlib
import signal
import subprocess
import tempfile
import unittest
import xml.etree.ElementTree

from cli_support import BIN, run, run_json

TRACE = pathlib.Path(__file__).resolve().parents[2] / "deploy/data/kjv.tok"
SMALL = ["--bucket-floor", 1000, "--trace", TRACE]


class Overlap(unittest.TestCase):
    def check_shape(self, shape):
        self.assertEqual(shape["wrong_rows"], 0)
        self.assertEqual(shape["failed"], 0)
        self.assertEqual(shape["checked_rows"], 2 * shape["rows_per_step"])
        low, high = shape["overhead_ci95"]
        self.assertLessEqual(low, high)
        for stalls in (shape["stall_us_p50"], shape["stall_us_p99"]):
            self.assertEqual(set(stalls), {"1", "14"})

    def test_named_shape(self):
        with tempfile.TemporaryDirectory() as directory:
            picture = pathlib.Path(directory, "steps.svg")
            report = run_json("engram-bench", "overlap", "--shapes", "decode-64-12ms", "--steps", 3,
                              "--rounds", 1, "--svg", picture, *SMALL)
            root = xml.etree.ElementTree.parse(picture).getroot()
        self.assertTrue(root.tag.endswith("svg"))
        self.assertEqual([shape["shape"] for shape in report["shapes"]], ["decode-64-12ms"])
        shape = report["shapes"][0]
        self.check_shape(shape)
        self.assertEqual(shape["goal"], 0.01)
        self.assertEqual(shape["rows_per_step"], 64 * 24 * 2)
        self.assertEqual(set(shape["step_ms"]), {"none", "local", "needed", "ahead"})
        self.assertAlmostEqual(shape["step_ms"]["none"], 12)
        self.assertGreater(report["rows_per_s_both_layers"], 0)

    def test_own_shape(self):
        report = run_json("engram-bench", "overlap", "--tokens", 4, "--sequences", 2, "--layers-ms",
                          ",".join(["0.5"] * 20), "--ahead-ms", 2, "--steps", 3, "--rounds", 1,
                          *SMALL)
        shape = report["shapes"][0]
        self.check_shape(shape)
        self.assertEqual(shape["tokens"], 8)
        self.assertAlmostEqual(shape["nominal_step_ms"], 10)
        self.assertIsNone(shape["goal"])

    def test_wrong_flags(self):
        for flags, message in [
                (["--shapes", "nothing"], "no shape `nothing`"),
                (["--tokens", 4], "--step-ms and --layers-ms"),
                (["--servers", "127.0.0.1:1"], "--servers needs --checkpoint"),
                (["--link", "delay=soon"], "`delay=soon` is not like"),
                (["--tokens", 4, "--layers-ms", 1], "has no layer 1")]:
            done = run("engram-bench", "overlap", *flags, *SMALL)
            self.assertNotEqual(done.returncode, 0)
            self.assertEqual(done.stdout, "")
            self.assertIn(message, done.stderr)


class Trace(unittest.TestCase):
    def test_every_row_is_right_in_every_variant(self):
        tokenizer = os.environ.get("ENGRAM_TEST_TOKENIZER")
        if not tokenizer:
            self.skipTest("ENGRAM_TEST_TOKENIZER is not set")
        report = run_json("engram-bench", "trace", "--trace", TRACE, "--tokenizer", tokenizer,
                          "--rows", 24000, "--chunk", 1024, "--rounds", 1, "--seconds", 0.1,
                          "--cache-mb", 8, "--guess-steps", 100, "--guess-sequences", "1,2")
        self.assertEqual(report["wrong_rows"], 0)
        self.assertEqual(set(report["text"]), {"off", "dedup", "cache_8mb", "dedup_cache_8mb"})
        text = report["text"]
        self.assertEqual(text["off"]["wire_share"], 1)
        self.assertLess(text["dedup"]["wire_share"], 0.95)
        self.assertLess(text["dedup_cache_8mb"]["wire_share"], text["dedup"]["wire_share"])
        self.assertGreater(report["rows_vs_raw_dedup"], 0)
        if os.geteuid() != 0:
            self.assertIsNone(report["guess_wait_ratio"])
            self.assertIn("skipped", report["guesses"])
            return
        self.assertGreater(report["guess_wait_ratio"], 0)


class Signals(unittest.TestCase):
    def test_nothing_is_left_behind(self):
        with tempfile.TemporaryDirectory() as directory:
            bench = subprocess.Popen(
                [BIN / "engram-bench", "overlap", *map(str, SMALL)], text=True,
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                env={**os.environ, "TMPDIR": directory})
            with bench:
                while "measuring" not in bench.stderr.readline():
                    self.assertIsNone(bench.poll())
                self.assertTrue(os.listdir(directory))
                bench.terminate()
                bench.stderr.read()
            self.assertEqual(bench.returncode, 128 + signal.SIGTERM)
            self.assertEqual(os.listdir(directory), [])


if __name__ == "__main__":
    unittest.main()
