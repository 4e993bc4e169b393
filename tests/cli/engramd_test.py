"""engramd as its users start and stop it, and the token map of the real tokenizer."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

BIN = os.environ["ENGRAM_BIN_DIR"]
TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def call(*args, name="engramctl", timeout=120):
    return subprocess.run([os.path.join(BIN, name), *map(str, args)], capture_output=True,
                          text=True, timeout=timeout, check=False)


class Engramd:
    def __init__(self, *args):
        self.process = subprocess.Popen([os.path.join(BIN, "engramd"), *map(str, args)],
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        line = self.process.stdout.readline()
        self.serving = dict(word.split("=", 1) for word in line.split()[1:])

    def stop(self, sig=signal.SIGTERM):
        self.process.send_signal(sig)
        code = self.process.wait(timeout=30)
        self.process.stdout.close()
        return code


class Cli(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.work = tempfile.mkdtemp()
        cls.checkpoint = os.path.join(cls.work, "checkpoint")
        made = call("synth", "--out", cls.checkpoint, "--like", "v41-flash", "--bucket-floor", 500,
                    "--seed", 3)
        assert made.returncode == 0, made.stderr
        digest = call("digest", cls.checkpoint)
        assert digest.returncode == 0, digest.stderr
        cls.digest = json.loads(digest.stdout)["digest"]
        cls.shards = [Engramd("--checkpoint", cls.checkpoint, "--shard", f"{i}/2", "--listen",
                              "127.0.0.1:0", "--expect-digest", cls.digest) for i in range(2)]

    @classmethod
    def tearDownClass(cls):
        codes = [shard.stop() for shard in cls.shards]
        shutil.rmtree(cls.work)
        assert codes == [0, 0], f"SIGTERM drains and exits 0, got {codes}"

    def fails(self, text, *args, name="engramctl"):
        done = call(*args, name=name)
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(done.stdout, "")
        lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        self.assertEqual(len(lines), 1, done.stderr)
        self.assertIn(text, lines[0])

    def test_token_map_of_the_real_tokenizer(self):
        out = os.path.join(self.work, "map.u32")
        done = call("token-map", "--tokenizer", os.environ["ENGRAM_TEST_TOKENIZER"], "--out", out)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout), {"tokens": 128815, "compressed": 98627})
        with open(out, "rb") as file:
            got = file.read()
        with open(os.path.join(TESTS, "storage/golden/deepseek_v3_token_map.u32"), "rb") as file:
            self.assertEqual(got, file.read())

    def test_engramd_refuses_by_name(self):
        common = ("--checkpoint", self.checkpoint, "--listen", "127.0.0.1:0")
        self.fails("not the expected 0000", *common, "--expect-digest", "0" * 64, name="engramd")
        self.fails("shard `2/2`", *common, "--shard", "2/2", name="engramd")
        self.fails("store `redis` is not known", *common, "--store", "redis", name="engramd")
        taken = self.shards[0].serving["listen"]
        self.fails(taken, "--checkpoint", self.checkpoint, "--listen", taken, name="engramd")
        self.fails("--checkpoint is required", name="engramd")

    def test_health_port(self):
        shard = Engramd("--checkpoint", self.checkpoint, "--listen", "127.0.0.1:0", "--health",
                        "127.0.0.1:0")
        self.assertNotEqual(shard.serving["health"], shard.serving["listen"])
        start = time.monotonic()
        self.assertEqual(shard.stop(), 0)
        self.assertLess(time.monotonic() - start, 10)


if __name__ == "__main__":
    unittest.main(verbosity=2)
