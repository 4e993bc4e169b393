"""engramctl and engramd as their users call them: outputs, exit codes, messages."""

import glob
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
MASK = (1 << 64) - 1
GOLDEN_GAMMA = 0x9E3779B97F4A7C15


def call(*args, name="engramctl", timeout=120):
    return subprocess.run([os.path.join(BIN, name), *map(str, args)], capture_output=True,
                          text=True, timeout=timeout, check=False)


def mix(x):
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def synth_row(seed, layer, row):
    """The documented function of storage/synth.h, written again."""
    key = mix((mix((mix((seed + GOLDEN_GAMMA) & MASK) + layer + GOLDEN_GAMMA) & MASK)
               + row + GOLDEN_GAMMA) & MASK)
    words = [mix((key + (i + 1) * GOLDEN_GAMMA) & MASK) for i in range(33)]
    raw = b"".join(word.to_bytes(8, "little") for word in words)
    values = bytes(b - 1 if b & 0x7F == 0x7F else b for b in raw[:256])
    return values + bytes(118 + (b & 15) for b in raw[256:])


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
        cls.servers = ",".join(shard.serving["listen"] for shard in cls.shards)

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

    def test_hash_holds_every_golden_vector(self):
        paths = sorted(glob.glob(os.path.join(TESTS, "proto/golden/*.json")))
        self.assertEqual(len(paths), 3)
        for path in paths:
            with open(path, encoding="utf-8") as file:
                golden = json.load(file)
            done = call("hash", "--vectors", path)
            self.assertEqual(done.returncode, 0, done.stderr)
            got = json.loads(done.stdout)
            for field in ("primes", "multipliers", "rows_per_layer"):
                self.assertEqual(got[field], golden[field])
            self.assertEqual([s["rows"] for s in got["sequences"]],
                             [s["rows"] for s in golden["sequences"]])

    def test_token_map_of_the_real_tokenizer(self):
        out = os.path.join(self.work, "map.u32")
        done = call("token-map", "--tokenizer", os.environ["ENGRAM_TEST_TOKENIZER"], "--out", out)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout), {"tokens": 128815, "compressed": 98627})
        with open(out, "rb") as file:
            got = file.read()
        with open(os.path.join(TESTS, "storage/golden/deepseek_v3_token_map.u32"), "rb") as file:
            self.assertEqual(got, file.read())

    def test_lookup_brings_the_documented_bytes(self):
        rows_1 = json.loads(call("inspect", self.checkpoint, "--json").stdout)["rows_per_layer"][0]
        rows = [0, rows_1 - 1, -1, rows_1 // 2, 0]
        done = call("lookup", "--servers", self.servers, "--layer", 1, "--rows",
                    ",".join(map(str, rows)), "--hex")
        self.assertEqual(done.returncode, 0, done.stderr)
        expected = [bytes(264) if row < 0 else synth_row(3, 1, row) for row in rows]
        self.assertEqual(done.stdout.split(), [row.hex() for row in expected])
        ids, out = os.path.join(self.work, "ids"), os.path.join(self.work, "rows")
        with open(ids, "wb") as file:
            file.write(b"".join(row.to_bytes(8, "little", signed=True) for row in rows))
        done = call("lookup", "--servers", self.servers, "--layer", 1, "--rows-file", ids, "--out", out)
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(out, "rb") as file:
            self.assertEqual(file.read(), b"".join(expected))

    def test_status_also_of_servers_that_are_gone(self):
        done = call("status", "--servers", self.servers + ",127.0.0.1:1", "--json")
        servers = json.loads(done.stdout)["servers"]
        self.assertEqual([s["state"] for s in servers], ["SERVING", "SERVING", "UNREACHABLE"])
        self.assertEqual([s["digest"] for s in servers], [self.digest, self.digest, None])
        self.assertEqual([s["shard"] for s in servers], ["0/2", "1/2", None])

    def test_verify(self):
        done = call("verify", "--servers", self.servers, "--checkpoint", self.checkpoint,
                    "--seconds", 1)
        self.assertEqual(done.returncode, 0, done.stderr)
        result = json.loads(done.stdout)
        self.assertGreater(result["lookups"], 0)
        self.assertEqual((result["failed"], result["wrong_rows"]), (0, 0))

    def test_verify_sees_wrong_rows(self):
        other = os.path.join(self.work, "other")
        call("synth", "--out", other, "--like", "v41-flash", "--bucket-floor", 500, "--seed", 4)
        done = call("verify", "--servers", self.servers, "--checkpoint", other, "--seconds", 0.1)
        self.assertEqual(done.returncode, 1)
        self.assertGreater(json.loads(done.stdout)["wrong_rows"], 0)

    def test_bad_calls_are_errors_that_name_the_culprit(self):
        lookup = ("lookup", "--servers", self.servers)
        self.fails("layer 5", *lookup, "--layer", 5, "--rows", 1, "--hex")
        self.fails("row id 99999999", *lookup, "--layer", 1, "--rows", 99999999, "--hex")
        self.fails("--layer", *lookup, "--rows", 1, "--hex")
        self.fails("--frobnicate", "status", "--servers", self.servers, "--frobnicate")
        self.fails("127.0.0.1:1", "lookup", "--servers", "127.0.0.1:1", "--layer", 1, "--rows", 1,
                   "--hex")
        self.fails("no tokenizer.json", "hash", "--checkpoint", self.checkpoint, "--tokens", "/dev/null")
        self.fails("/nowhere", "inspect", "/nowhere")

    def test_engramd_refuses_by_name(self):
        common = ("--checkpoint", self.checkpoint, "--listen", "127.0.0.1:0")
        self.fails("not the expected 0000", *common, "--expect-digest", "0" * 64, name="engramd")
        self.fails("shard `2/2`", *common, "--shard", "2/2", name="engramd")
        self.fails("--store mapped", *common, "--store", "mapped", name="engramd")
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
