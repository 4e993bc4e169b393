#!/usr/bin/env python3
"""engram-bench scale on small tables: what it prints, and what it refuses."""
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "cli"))
sys.dont_write_bytecode = True

from cli_support import run, run_json  # noqa: E402

SHORT = ("--rounds", 1, "--seconds", 0.02)


class Scale(unittest.TestCase):
    def test_every_size_is_measured(self):
        report = run_json("engram-bench", "scale", "--rows", "20000,200000", "--batch", 256, *SHORT)
        self.assertEqual((report["row_bytes"], report["batch"]), (128, 256))
        for asked, size in zip((20000, 200000), report["sizes"], strict=True):
            self.assertGreaterEqual(size["rows"], asked)
            self.assertLess(size["rows"], 1.1 * asked)
            self.assertEqual(size["bytes"], 128 * size["rows"])
            gathers = [size[pages]["gather"] for pages in ("pages_4k", "pages_2m")]
            for timed in (size["local"], size["remote"], *gathers):
                self.assertGreater(timed["rows_per_s"], 0)
                self.assertGreater(timed["p50_us"], 0)
                self.assertGreaterEqual(timed["p99_us"], timed["p50_us"])
            self.assertGreater(size["local"]["rows_per_s"], size["remote"]["rows_per_s"])
            for pages in ("pages_4k", "pages_2m"):
                self.assertGreater(size[pages]["chase_ns"], 0)
            self.assertLess(size["steal_share"], 3)  # there, and a share of a core or two
            self.assertLess(size["pages_4k"]["huge_page_bytes"], size["bytes"] / 2)

    def test_errors_say_what_and_where(self):
        for arguments, message in ((("--rows", 10), "--rows 10 is not"),
                                   (("--rows", 4_000_000_000), "needs 529073741824 bytes of memory"),
                                   (("--rounds", 0), "--rounds is 0"),
                                   (("--batch", 0), "--batch is not")):
            done = run("engram-bench", "scale", *arguments)
            self.assertEqual(done.returncode, 1, done.stdout)
            self.assertIn(message, done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
