#!/usr/bin/env python3
"""How engramctl and engramd are called: help, and flags that are wrong."""
import unittest

from cli_support import CliTest, run


class UsageTest(CliTest):
    def test_parse_errors(self):
        self.assert_fails(["engramctl"], "subcommand")
        self.assert_fails(["engramctl", "frobnicate"], "frobnicate")
        self.assert_fails(["engramctl", "digest"], "DIR")
        self.assert_fails(["engramctl", "inspect", self.checkpoint, "--yaml"], "--yaml")
        self.assert_fails(["engramctl", "status"], "--servers")
        self.assert_fails(["engramctl", "status", "--servers", "127.0.0.1:1", "stray"], "stray")
        self.assert_fails(["engramctl", "token-map", "--tokenizer", "t.json"], "--out")
        lookup = ["engramctl", "lookup", "--servers", "127.0.0.1:1"]
        self.assert_fails([*lookup, "--rows", "1", "--hex"], "--layer")
        self.assert_fails([*lookup, "--layer", "1", "--hex"], "--rows")
        self.assert_fails([*lookup, "--layer", "1", "--rows", "1"], "--hex", "--out")
        self.assert_fails([*lookup, "--layer", "1", "--rows", "1,x", "--hex"], "--rows")
        self.assert_fails([*lookup, "--layer", "-1", "--rows", "1", "--hex"], "--layer")
        self.assert_fails(["engramd"], "--checkpoint")
        self.assert_fails(["engramd", "--checkpoint", self.checkpoint, "--colour"], "--colour")

    def test_help_is_no_failure(self):
        for args in (["--help"], ["lookup", "--help"]):
            done = run("engramctl", *args)
            self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_engramd_names_what_is_wrong(self):
        engramd = ["engramd", "--checkpoint", self.checkpoint, "--listen", "127.0.0.1:0"]
        self.assert_fails([*engramd, "--shard", "2/2"], "2/2")
        self.assert_fails([*engramd, "--store", "tape"], "tape")
        self.assert_fails([*engramd, "--expect-digest", "0" * 64], "0" * 64, self.digest)
        self.assert_fails([*engramd, "--expect-digest", "abc"], "abc")


if __name__ == "__main__":
    unittest.main(verbosity=2)
