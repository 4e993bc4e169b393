#!/usr/bin/env python3
"""What libengram_client.so gives and takes: exports_test.py LIBRARY HEADER.

It exports the functions of its header and nothing else, of whatever type and binding, and needs no
library that a host process is likely to carry in another version.
"""
import pathlib
import re
import subprocess
import sys
import unittest

LIBRARY, HEADER = sys.argv[1], sys.argv[2]
# What a symbol is, beside functions: the version's own node.
VERSION_NODE = "engram_client_1"


def readelf(*args):
    return subprocess.run(["readelf", "--wide", *args, LIBRARY], check=True, capture_output=True,
                          text=True).stdout


def dynamic_symbols():
    """(name without version, version, type, binding, defined) of every dynamic symbol."""
    for line in readelf("--dyn-syms").splitlines():
        fields = line.split()
        if len(fields) < 8 or not fields[0].rstrip(":").isdigit():
            continue
        name, _, version = fields[7].partition("@")
        yield name, version.lstrip("@"), fields[3], fields[4], fields[6] != "UND"


class Exports(unittest.TestCase):
    def test_the_header_and_nothing_else(self):
        header = pathlib.Path(HEADER).read_text()
        declared = set(re.findall(r"\b(engram_\w+)\(", re.sub(r"/\*.*?\*/", "", header, flags=re.S)))
        declared -= set(re.findall(r"\(\*(engram_\w+)\)", header))
        self.assertGreaterEqual(len(declared), 40)
        exported = [symbol for symbol in dynamic_symbols() if symbol[4]]
        node = [symbol for symbol in exported if symbol[0] == VERSION_NODE]
        self.assertEqual([(s[2], s[3]) for s in node], [("OBJECT", "GLOBAL")])
        rest = [symbol for symbol in exported if symbol[0] != VERSION_NODE]
        self.assertEqual({symbol[0] for symbol in rest}, declared)
        for name, version, kind, binding, _ in rest:
            self.assertEqual((version, kind, binding), (VERSION_NODE, "FUNC", "GLOBAL"), name)

    def test_nothing_of_the_process_is_replaced(self):
        # Neither unique symbols, which the loader merges over all libraries and never unloads, nor
        # undefined ones of ours or of what is inside.
        for name, _, _, binding, defined in dynamic_symbols():
            self.assertNotEqual(binding, "UNIQUE", name)
            if not defined:
                self.assertNotRegex(name, "nghttp2|google8protobuf|N6engram|^engram_|grpc")

    def test_what_it_needs(self):
        dynamic = readelf("--dynamic")
        major = re.search(r"#define ENGRAM_ABI_MAJOR (\d+)", pathlib.Path(HEADER).read_text())[1]
        self.assertIn(f"Library soname: [libengram_client.so.{major}]", dynamic)
        needed = re.findall(r"\(NEEDED\).*\[(.*?)\]", dynamic)
        self.assertTrue(any(name.startswith("libc.so") for name in needed))
        for name in needed:
            self.assertNotRegex(name, "protobuf|nghttp2|grpc|rocksdb|icu|engram")
        self.assertNotIn("TEXTREL", dynamic)
        self.assertNotIn("RUNPATH", dynamic)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
