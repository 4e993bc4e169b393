#!/usr/bin/env python3
"""Tables that are taught while the model runs: deploy/model/taught_live.py against the tools."""
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "cli"))
sys.dont_write_bytecode = True

from cli_support import run, run_json  # noqa: E402

MODEL, TAUGHT = (ROOT / "deploy" / "model" / name for name in ("kjv", "taught"))
WINDOWS = 8


class TaughtLive(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="engram-taught-test-")
        self.addCleanup(scratch.cleanup)
        self.dir = pathlib.Path(scratch.name)
        self.text = self.dir / "text"
        self.text.write_bytes((TAUGHT / "held_out.txt").read_bytes()[:WINDOWS * 256])

    def read(self, *tables):
        """By local rows."""
        return run_json("engram-generate", "--model", MODEL, "--read", self.text, *tables)

    def test_the_perplexity_drops_from_one_step_to_the_next(self):
        played = self.dir / "steps"
        done = subprocess.run([ROOT / "deploy" / "model" / "taught_live.py", "--bin",
                               os.environ["ENGRAM_BIN_DIR"], "--windows", str(WINDOWS),
                               "--steps-out", played],
                              capture_output=True, text=True, timeout=250, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        figures = json.loads(done.stdout.splitlines()[-1])
        before, after = self.read()["nats_a_byte"], self.read("--tables", TAUGHT)["nats_a_byte"]
        self.assertAlmostEqual(figures["nats_before"], before, places=12)
        self.assertAlmostEqual(figures["nats_after"], after, places=12)
        self.assertLess(after, before - 0.5)
        steps = [json.loads(line) for line in played.read_text().splitlines()]
        self.assertEqual([step["step"] for step in steps], list(range(len(steps))))
        switch = figures["switched"]
        self.assertEqual([step["table"] for step in steps],
                         ["kjv"] * switch + ["taught"] * (len(steps) - switch))
        self.assertGreaterEqual(switch, figures["published"])
        self.assertGreater(figures["retired"], switch)
        self.assertGreater(len(steps), figures["retired"] + WINDOWS)
        self.assertGreater(figures["bytes_written"], 100)

    def test_torch_reads_the_text_as_well(self):
        torch = json.loads((TAUGHT / "logits.json").read_text())
        read = run_json("engram-generate", "--model", MODEL, "--tables", TAUGHT, "--read",
                        TAUGHT / "held_out.txt")
        self.assertAlmostEqual(read["nats_a_byte"], torch["held_out_nats"], places=4)

    def test_only_the_tables_were_trained(self):
        """taught/ holds the tables, of the geometry of kjv/, and most of its rows were changed."""
        def header(directory):
            data = (directory / "model.safetensors").read_bytes()
            size, = struct.unpack("<Q", data[:8])
            return {name: (tensor["dtype"], tensor["shape"])
                    for name, tensor in json.loads(data[8:8 + size]).items()}
        old, new = header(MODEL), header(TAUGHT)
        self.assertEqual(new, {name: old[name] for name in old if ".engram.embed." in name})
        self.assertEqual((MODEL / "config.json").read_bytes(), (TAUGHT / "config.json").read_bytes())
        made = run_json("engramctl", "delta", "--from", MODEL, "--to", TAUGHT, "--out",
                        self.dir / "delta")
        self.assertEqual(made["rows"], 89393)

    def test_errors_say_what_and_where(self):
        for arguments, message in (
                (("--again", MODEL), "--servers"),
                (("--follow",), "--servers"),
                (("--tables", TAUGHT, "--servers", "127.0.0.1:1"), "--servers")):
            done = run("engram-generate", "--model", MODEL, "--read", self.text, *arguments)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(message, done.stderr)
        done = run("engram-generate", "--model", MODEL, "--read", self.text, "--tables", "/nowhere")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("/nowhere", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
