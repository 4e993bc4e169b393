#!/usr/bin/env python3
"""deploy/demo.sh on less text: what its last line says, and that what is wrong is noticed."""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "cli"))
sys.dont_write_bytecode = True

from cli_support import Engramd, run  # noqa: E402

MODELS = ROOT / "deploy" / "model"
MODEL, TWIN, TAUGHT = MODELS / "kjv", MODELS / "kjv-without-memory", MODELS / "taught"
BYTES = 8192
LAYERS, COLUMNS, ROW_BYTES = 2, 10, 33
PROMPT = 1 + len("And the LORD said unto")


def perplexity(text, *arguments):
    done = run("engram-generate", "--read", text, *arguments)
    return json.loads(done.stdout)["perplexity"]


class Demo(unittest.TestCase):
    def test_the_last_line(self):
        done = subprocess.run([ROOT / "deploy" / "demo.sh", "--bytes", str(BYTES)],
                              capture_output=True, text=True, timeout=250, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("And the LORD said unto", done.stdout)
        self.assertIn("stopped 4 servers", done.stdout)
        figures = json.loads(done.stdout.splitlines()[-1])
        self.assertIs(figures["logits_equal"], True)
        self.assertEqual(figures["logits_compared"], 2 * BYTES + 2)
        self.assertEqual(figures["wrong_rows"], 0)
        prefill, decode = figures["prefill"], figures["decode"]
        for runs, tokens, steps in ((prefill, BYTES, BYTES // 256), (decode, PROMPT + 400, 401)):
            for run_figures in (runs["ahead"], runs["needed"]):
                self.assertEqual(run_figures["rows"], tokens * COLUMNS * LAYERS)
                self.assertEqual(run_figures["steps"], steps)
                self.assertEqual(set(run_figures["layers"]), {"1", "2"})
        rows = sum(kind[way]["rows"] for kind in (prefill, decode) for way in ("ahead", "needed"))
        self.assertEqual(figures["rows"], rows)
        self.assertEqual(figures["bytes"], rows * ROW_BYTES)
        self.assertGreater(figures["rows_per_s"], 0)
        self.assertGreater(figures["stall_ms_ahead"], 0)
        # A window of text goes ahead by tens of milliseconds.
        self.assertLess(prefill["ahead"]["stall_ms"], prefill["needed"]["stall_ms"])
        self.assertLess(figures["ppl_memory"], figures["ppl_without"])
        self.assertLess(figures["ppl_without"], figures["ppl_zeroed"])

    def test_the_perplexities_are_those_of_engram_generate(self):
        text = self.some_text()
        servers = [Engramd("--checkpoint", MODEL, "--shard", f"{i}/2") for i in range(2)]
        for server in servers:
            self.addCleanup(server.stop)
        done = self.work(servers, text)
        self.assertEqual(done.returncode, 0, done.stderr)
        figures = json.loads(done.stdout.splitlines()[-1])
        self.assertEqual(figures["ppl_memory"], perplexity(text, "--model", MODEL))
        self.assertEqual(figures["ppl_zeroed"], perplexity(text, "--model", MODEL, "--rows", "zeros"))
        self.assertEqual(figures["ppl_without"], perplexity(text, "--model", TWIN))

    def test_other_rows_are_noticed(self):
        """Servers of the same geometry whose rows are not the model's."""
        text = self.some_text()
        server = Engramd("--checkpoint", TAUGHT)
        self.addCleanup(server.stop)
        done = self.work([server], text)
        self.assertEqual(done.returncode, 1)
        self.assertIn("rows are not the checkpoint's", done.stderr)
        self.assertIn("positions are not those by the checkpoint's own rows", done.stderr)
        figures = json.loads(done.stdout.splitlines()[-1])
        self.assertIs(figures["logits_equal"], False)
        self.assertGreater(figures["wrong_rows"], figures["rows"] // 2)

    def test_errors_say_what_and_where(self):
        server = Engramd("--checkpoint", MODEL)
        self.addCleanup(server.stop)
        done = self.work([server], "/nowhere")
        self.assertEqual(done.returncode, 1)
        self.assertIn("/nowhere", done.stderr)
        self.assertEqual(run("engram-demo-worker", "--servers", "x").returncode, 2)

    def some_text(self):
        file = tempfile.NamedTemporaryFile(prefix="engram-demo-test-")
        self.addCleanup(file.close)
        file.write((MODEL / "held_out.txt").read_bytes()[4096:4096 + 1024])
        file.flush()
        return file.name

    @staticmethod
    def work(servers, text):
        return run("engram-demo-worker", "--servers", ",".join(s.address for s in servers), "--model",
                   MODEL, "--twin", TWIN, "--text", text)


if __name__ == "__main__":
    unittest.main(verbosity=2)
