#!/usr/bin/env python3
"""The wheel: made of an installed package, unpacked elsewhere, used. wheel_test.py PYTHON_DIR BUILD_DIR
SOURCE_DIR."""
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

_, BUILD, SOURCE = (pathlib.Path(sys.argv.pop(1)).resolve() for _ in range(3))
from python_support import LAYERS, Table  # noqa: E402

USE = """
import sys, engram_client, numpy as np
assert engram_client.__file__.startswith({site!r}), engram_client.__file__
with engram_client.Client({servers!r}) as client:
    sys.stdout.buffer.write(client.lookup(1, np.arange(50)).tobytes())
"""


class WheelTest(unittest.TestCase):
    def test_a_lookup_from_an_installed_wheel(self):
        table = Table()
        self.addCleanup(table.close)
        servers = table.serve()
        for server in servers:
            self.addCleanup(server.stop)
        with tempfile.TemporaryDirectory() as scratch:
            scratch = pathlib.Path(scratch)
            made = subprocess.run([SOURCE / "client/python/wheel/make.sh", BUILD, scratch],
                                  capture_output=True, text=True, timeout=120, check=False)
            self.assertEqual(made.returncode, 0, made.stderr)
            wheel = pathlib.Path(made.stdout.split()[-1])
            site = scratch / "site"
            # An environment of its own, with the system's numpy.
            environment = scratch / "env"
            subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", "--without-pip",
                            environment], check=True, timeout=120)
            site = next((environment / "lib").glob("python3*/site-packages"))
            subprocess.run([sys.executable, "-m", "zipfile", "-e", wheel, site], check=True,
                           timeout=60)
            clean = {name: value for name, value in os.environ.items()
                     if not name.startswith(("PYTHON", "LD_LIBRARY", "ENGRAM_"))}
            done = subprocess.run(
                [environment / "bin/python3", "-c",
                 USE.format(site=str(site), servers=[server.address for server in servers])],
                env=clean, cwd=scratch, capture_output=True, timeout=120, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)
            import numpy as np
            self.assertEqual(done.stdout, table.packed(LAYERS[0], np.arange(50)).tobytes())


if __name__ == "__main__":
    unittest.main()
