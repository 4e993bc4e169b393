#!/usr/bin/env python3
"""engram-generate as its users call it, and the training code against the tools. Needs numpy."""
import json
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "deploy" / "model"), str(ROOT / "tests" / "cli")]
sys.dont_write_bytecode = True

import numpy as np  # noqa: E402
import safetensors_file  # noqa: E402
from cli_support import Engramd, run, run_json  # noqa: E402
from geometry import BOS, Geometry  # noqa: E402

MODEL = ROOT / "deploy" / "model" / "kjv"


class Generate(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="engram-generate-")
        self.addCleanup(scratch.cleanup)
        self.dir = pathlib.Path(scratch.name)

    def test_training_looks_up_the_rows_that_the_project_does(self):
        config = json.loads((MODEL / "config.json").read_text())
        geometry = Geometry(config["engram_layer_ids"], config["engram_max_ngram_size"],
                            config["engram_n_heads"], config["engram_vocab_size"])
        tokens = np.array([[BOS, *(MODEL / "held_out.txt").read_bytes()[:700], *range(256)]])
        trace = self.dir / "trace"
        trace.write_bytes(struct.pack(f"<{tokens.size + 1}I", tokens.size, *tokens[0]))
        hashed = run_json("engramctl", "hash", "--checkpoint", MODEL, "--tokens", trace)
        rows = hashed["sequences"][0]["rows"]
        self.assertEqual(set(rows), {"1", "2"})
        for layer, ids in rows.items():
            self.assertEqual(ids, geometry.row_ids(int(layer), tokens)[0].tolist())

    def test_fp8_is_the_nearest(self):
        sizes = 10.0 ** np.arange(-3, 2).repeat(10)[:, None]
        values = np.random.default_rng(1).normal(size=(50, 64)) * sizes
        codes, scales = safetensors_file.fp8(values)
        back = safetensors_file.of_fp8(codes, scales)
        scale = 2.0 ** (scales.astype(int).repeat(32, axis=1) - 127)
        steps = np.maximum(np.abs(values) / 16, scale * 2.0**-10)  # half of the last place
        self.assertTrue((np.abs(back - values) <= steps).all())
        largest = np.abs(back / scale).reshape(50, 2, 32).max(-1)
        self.assertTrue(((largest >= 224) & (largest <= 448)).all())

    def test_servers_change_nothing(self):
        servers = [Engramd("--checkpoint", MODEL, "--shard", f"{i}/4") for i in range(4)]
        for server in servers:
            self.addCleanup(server.stop)
        addresses = ",".join(server.address for server in servers)
        write = ("engram-generate", "--model", MODEL, "--prompt", "And it came", "--bytes", 50)
        local, remote = run(*write), run(*write, "--servers", addresses)
        self.assertEqual((local.returncode, remote.returncode), (0, 0), remote.stderr)
        self.assertEqual(local.stdout, remote.stdout)
        self.assertEqual(len(local.stdout), len("And it came") + 50 + 1)
        text = self.dir / "text"
        text.write_bytes((MODEL / "held_out.txt").read_bytes()[:600])
        read = ("engram-generate", "--model", MODEL, "--read", text)
        figures = run_json(*read)
        self.assertEqual(run_json(*read, "--servers", addresses), figures)
        self.assertEqual(figures["bytes"], 512)
        zeroed = run_json(*read, "--rows", "zeros")
        self.assertGreater(zeroed["perplexity"], figures["perplexity"])

    def test_the_picture_of_gates(self):
        text, gates, picture = self.dir / "text", self.dir / "gates", self.dir / "gates.svg"
        text.write_bytes((MODEL / "held_out.txt").read_bytes()[:300])
        run_json("engram-generate", "--model", MODEL, "--read", text, "--gates", gates)
        drawn = subprocess.run([sys.executable, ROOT / "deploy/model/draw_gates.py", gates, picture],
                               check=False, capture_output=True, text=True)
        self.assertEqual(drawn.returncode, 0, drawn.stderr)
        boxes = xml.etree.ElementTree.parse(picture).getroot().findall(
            ".//{http://www.w3.org/2000/svg}rect")
        self.assertEqual(len(boxes), 1 + 2 * 256 + 50)  # the ground, both layers, the scale

    def test_a_model_without_memory_needs_none(self):
        twin = ROOT / "deploy" / "model" / "kjv-without-memory"
        done = run("engram-generate", "--model", twin, "--prompt", "And", "--bytes", 20)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_errors_say_what_and_where(self):
        for arguments, code, message in (
                (("--model", "/nowhere"), 1, "/nowhere/config.json"),
                ((), 2, "--model"),
                (("--model", MODEL, "--rows", "odd"), 2, "--rows"),
                (("--model", MODEL, "--servers", "127.0.0.1:1", "--rows", "zeros"), 2, "--rows"),
                (("--model", MODEL, "--gates", "x"), 2, "--read"),
                (("--model", MODEL, "--read", "/nowhere"), 1, "/nowhere"),
                (("--model", MODEL, "--temperature", "-1"), 1, "temperature of -1")):
            done = run("engram-generate", *arguments)
            self.assertEqual(done.returncode, code, done.stderr)
            self.assertIn(message, done.stderr)


if __name__ == "__main__":
    unittest.main()
