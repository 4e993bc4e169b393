#!/usr/bin/env python3
"""The examples run and say what they should. examples_test.py PYTHON_DIR EXAMPLES_DIR."""
import os
import pathlib
import subprocess
import sys
import unittest

PACKAGE, EXAMPLES = pathlib.Path(sys.argv.pop(1)).resolve(), pathlib.Path(sys.argv.pop(1))
from python_support import COLUMNS, ROW_BYTES, Table  # noqa: E402


class ExamplesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.table = Table(tokenizer=True)
        cls.addClassCleanup(cls.table.close)
        cls.servers = cls.table.serve()
        for server in cls.servers:
            cls.addClassCleanup(server.stop)

    def run_example(self, name):
        path = EXAMPLES / name
        self.assertLess(len(path.read_text().splitlines()), 40)
        done = subprocess.run([sys.executable, path, *(server.address for server in self.servers)],
                              env={**os.environ, "PYTHONPATH": str(PACKAGE)}, capture_output=True,
                              text=True, timeout=120, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.splitlines()

    def test_numpy(self):
        lines = self.run_example("lookup_numpy.py")
        self.assertIn(f"3 rows of {ROW_BYTES} bytes", lines[0])
        self.assertEqual(lines[1:], [f"layer {layer}: rows of 5 tokens, "
                                     f"{5 * COLUMNS * ROW_BYTES} bytes" for layer in (1, 14)])

    def test_torch(self):
        lines = self.run_example("step_torch.py")
        self.assertEqual([line.split(":")[0] for line in lines], ["step 0", "step 1", "step 2"])


if __name__ == "__main__":
    unittest.main()
