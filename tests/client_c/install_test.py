#!/usr/bin/env python3
"""Installs into a temporary prefix and builds and runs the examples there as an outside project.

install_test.py BUILD_DIR. Once by find_package(engram), once by pkg-config, in C and in C++.
"""
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "cli"))
from cli_support import Engramd, run, synth_row  # noqa: E402

BUILD = sys.argv[1]
EXAMPLES = HERE.parent.parent / "client" / "examples"
SEED = 5


def call(*args, **kwargs):
    done = subprocess.run([str(arg) for arg in args], capture_output=True, text=True, timeout=240,
                          check=False, **kwargs)
    if done.returncode != 0:
        raise AssertionError(f"{args}: {done.stdout}{done.stderr}")
    return done.stdout


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        scratch = tempfile.TemporaryDirectory(prefix="engram-install-")
        cls.addClassCleanup(scratch.cleanup)
        cls.dir = pathlib.Path(scratch.name)
        call("cmake", "--install", BUILD, "--prefix", cls.dir / "first", "--component",
             "client-runtime")
        call("cmake", "--install", BUILD, "--prefix", cls.dir / "first", "--component",
             "client-dev")
        cls.installed = sorted(str(path.relative_to(cls.dir / "first"))
                               for path in (cls.dir / "first").rglob("*") if not path.is_dir())
        # An installed tree can be moved.
        cls.prefix = (cls.dir / "first").rename(cls.dir / "moved")
        library = next(cls.prefix.rglob("libengram_client.so"))
        cls.environment = {**os.environ, "LD_LIBRARY_PATH": str(library.parent),
                           "PKG_CONFIG_PATH": str(library.parent / "pkgconfig")}
        checkpoint = cls.dir / "checkpoint"
        made = run("engramctl", "synth", "--out", checkpoint, "--like", "v41-flash",
                   "--bucket-floor", 500, "--seed", SEED)
        assert made.returncode == 0, made.stderr
        cls.server = Engramd("--checkpoint", checkpoint)
        cls.addClassCleanup(cls.server.stop)

    def expect_lookup(self, program):
        seven, zero, six = (synth_row(SEED, layer, row)[:2].hex()
                            for layer, row in ((1, 7), (1, 0), (14, 6)))
        self.assertEqual(call(program, self.server.address, env=self.environment),
                         f"row 7: {seven}, row 0: {zero}\nrow 6 of layer 14: {six}\n")
        wrong = subprocess.run([program], capture_output=True, text=True, env=self.environment,
                               timeout=60, check=False)
        self.assertEqual(wrong.returncode, 1)
        self.assertIn("error: client option `servers` is wrong: address `` is neither host:port nor unix:PATH",
                      wrong.stderr)

    def test_components(self):
        names = [pathlib.Path(name).name for name in self.installed]
        self.assertEqual(sorted(names), sorted([
            "engram_client.h", "engram_client.hpp", "engramConfig.cmake",
            "engramConfigVersion.cmake", "engramTargets.cmake", "engram_client.pc",
            "libengram_client.so", "libengram_client.so.1", "libengram_client.so.1.3"] +
            [name for name in names if name.startswith("engramTargets-")]))
        call("cmake", "--install", BUILD, "--prefix", self.dir / "server", "--component", "server")
        self.assertEqual(sorted(path.name for path in (self.dir / "server" / "bin").iterdir()),
                         ["engramctl", "engramd"])

    def test_find_package(self):
        build = self.dir / "outside"
        call("cmake", "-S", HERE / "outside", "-B", build, f"-DEXAMPLES={EXAMPLES}",
             f"-DCMAKE_PREFIX_PATH={self.prefix}")
        call("cmake", "--build", build)
        self.expect_lookup(build / "lookup_c")
        self.expect_lookup(build / "lookup_cc")

    def test_a_version_that_is_not_there(self):
        source = self.dir / "newer"
        source.mkdir()
        text = (HERE / "outside" / "CMakeLists.txt").read_text()
        (source / "CMakeLists.txt").write_text(text.replace("engram 0.1", "engram 0.2"))
        with self.assertRaisesRegex(AssertionError, r"compatible\s+with\s+requested\s+version"):
            call("cmake", "-S", source, "-B", self.dir / "newer-build", f"-DEXAMPLES={EXAMPLES}",
                 f"-DCMAKE_PREFIX_PATH={self.prefix}")

    def test_pkg_config(self):
        flags = shlex.split(call("pkg-config", "--cflags", "--libs", "engram_client",
                                 env=self.environment))
        for compiler, standard, source in (("cc", "c99", "lookup.c"), ("c++", "c++17", "lookup.cc")):
            program = self.dir / source.replace(".", "_")
            call(compiler, f"-std={standard}", "-o", program, EXAMPLES / source, *flags)
            self.expect_lookup(program)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
