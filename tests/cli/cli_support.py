"""What the command-line tests share: running the binaries, one small checkpoint, and the rows of synthetic tables.

ENGRAM_BIN_DIR is the directory of the binaries. Needs no packages beyond Python itself.
"""
import json
import os
import pathlib
import queue
import subprocess
import tempfile
import threading
import unittest

BIN = pathlib.Path(os.environ["ENGRAM_BIN_DIR"])
LIMIT_S = 60  # for whatever should take seconds at most

# The checkpoint of a CliTest.
FLOOR = 500
SEED = 7
LAYERS = [1, 14]
ROW_BYTES = 264


def run(*args):
    return subprocess.run([BIN / args[0], *map(str, args[1:])], capture_output=True, text=True,
                          timeout=LIMIT_S, check=False)


def run_json(*args):
    done = run(*args)
    if done.returncode != 0:
        raise AssertionError(f"{args} exited {done.returncode}: {done.stderr}")
    return json.loads(done.stdout)


def mix(x):
    mask = (1 << 64) - 1
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


def synth_row(seed, layer, row):
    """The formula of storage/synth.h."""
    mask, golden = (1 << 64) - 1, 0x9E3779B97F4A7C15
    key = 0
    for part in (seed, layer, row):
        key = mix((key + part + golden) & mask)
    words = [mix((key + (i + 1) * golden) & mask) for i in range(33)]
    raw = b"".join(word.to_bytes(8, "little") for word in words)
    values = bytes(b - 1 if b & 0x7F == 0x7F else b for b in raw[:256])
    return values + bytes(118 + (b & 15) for b in raw[256:])


def byte_alphabet():
    """Byte -> character of byte-level BPE vocabularies."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in plain]
    return {**{b: chr(b) for b in plain}, **{b: chr(256 + i) for i, b in enumerate(rest)}}


def write_byte_tokenizer(path):
    """The smallest byte-level BPE tokenizer: token id = byte."""
    vocab = {char: byte for byte, char in byte_alphabet().items()}
    path.write_text(json.dumps({
        "version": "1.0", "added_tokens": [], "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                          "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                    "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "vocab": vocab,
                  "merges": []}}))


class Engramd:
    """A server process; `fields` are those of the line it prints when it serves."""

    def __init__(self, *args, listen="127.0.0.1:0"):
        self._stderr = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [BIN / "engramd", "--threads", "1", "--listen", listen,
             *([] if "--drain-ms" in args else ["--drain-ms", "0"]), *map(str, args)],
            stdout=subprocess.PIPE, stderr=self._stderr, text=True)
        lines = queue.Queue()
        threading.Thread(target=lambda: lines.put(self.process.stdout.readline()),
                         daemon=True).start()
        try:
            self.line = lines.get(timeout=LIMIT_S)
        except queue.Empty:
            self.line = ""
        if not self.line.startswith("serving "):
            self.process.kill()
            self._stderr.seek(0)
            said = self._stderr.read().decode()
            self.stop()
            raise AssertionError(f"engramd does not serve: {said}")
        self.fields = dict(field.split("=", 1) for field in self.line.split()[1:])
        self.address = self.fields["listen"]
        self.pid = self.process.pid

    def said(self):
        """What it has written to standard error."""
        return os.pread(self._stderr.fileno(), 1 << 20, 0).decode()

    def memory(self, field):
        """Bytes of a field of its /proc/PID/status: "VmHWM", "RssAnon"."""
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split(field + ":")[1].split()[0]) * 1024

    def wait(self):
        """The exit code, once it has ended by itself or was killed."""
        return self.process.wait(LIMIT_S)

    def stop(self):
        """SIGTERM; returns the exit code."""
        self.process.terminate()
        try:
            return self.process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
        finally:
            self.process.stdout.close()
            self._stderr.close()


class CliTest(unittest.TestCase):
    """A test that wants a checkpoint: one, made and digested once, in a scratch directory of its class."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        scratch = tempfile.TemporaryDirectory(prefix="engram-cli-")
        cls.addClassCleanup(scratch.cleanup)
        cls.dir = pathlib.Path(scratch.name)
        cls.checkpoint = cls.make_checkpoint("checkpoint", SEED)
        cls.digest = run_json("engramctl", "digest", cls.checkpoint)["digest"]
        cls.geometry = run_json("engramctl", "inspect", cls.checkpoint, "--json")
        cls.rows = dict(zip(LAYERS, cls.geometry["rows_per_layer"]))

    @classmethod
    def make_checkpoint(cls, name, seed, *more):
        path = cls.dir / name
        done = run("engramctl", "synth", "--out", path, "--like", "v41-flash",
                   "--bucket-floor", FLOOR, "--seed", seed, *more)
        if done.returncode != 0:
            raise AssertionError(done.stderr)
        return path

    def assert_fails(self, args, *culprits):
        """`args` exits non-zero with nothing on stdout and one error line naming all culprits."""
        done = run(*args)
        self.assertNotEqual(done.returncode, 0, args)
        self.assertGreater(done.returncode, 0, f"{args} died of a signal")
        self.assertEqual(done.stdout, "", args)
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        self.assertEqual(len(errors), 1, f"{args}: {done.stderr}")
        for culprit in culprits:
            self.assertIn(str(culprit), errors[0], args)
