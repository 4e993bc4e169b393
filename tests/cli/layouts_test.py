#!/usr/bin/env python3
"""Tables of other models than DeepSeek-V4.1, from their files to rows at a client."""
import json
import pathlib
import random
import struct
import tempfile
import unittest

from cli_support import Engramd, run, run_json

MASK = (1 << 64) - 1


def write_safetensors(path, tensors):
    """tensors: name -> (dtype, shape, bytes)."""
    header, data = {}, b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape,
                        "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def split_mix(state):
    state = (state + 0x9E3779B97F4A7C15) & MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


def is_prime(n):
    return n > 1 and all(n % d for d in range(2, int(n ** 0.5) + 1))


class Layouts(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="engram-layouts-")
        self.addCleanup(scratch.cleanup)
        self.dir = pathlib.Path(scratch.name)

    def serve_and_verify(self, checkpoint, *args):
        server = Engramd("--checkpoint", checkpoint, *args)
        self.addCleanup(server.stop)
        done = run("engramctl", "verify", "--servers", server.address, "--checkpoint", checkpoint,
                   "--seconds", 0.5)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(json.loads(done.stdout)["wrong_rows"], 0)
        return server

    def test_the_papers_tables(self):
        digests = set()
        for dtype, size in (("bf16", 2), ("f16", 2), ("f32", 4)):
            path = self.dir / dtype
            made = run("engramctl", "synth", "--out", path, "--like", "paper", "--bucket-floor",
                       700, "--dtype", dtype)
            self.assertEqual(made.returncode, 0, made.stderr)
            digests.add(run_json("engramctl", "digest", path)["digest"])
            inspected = run_json("engramctl", "inspect", path, "--json")
            self.assertEqual(inspected["row"], {"value_type": dtype, "values": 64,
                                                "scale_type": "none", "scales": 0})
            for store in ("memory", "mapped"):
                server = self.serve_and_verify(path, "--store", store)
                self.assertEqual(int(server.fields["bytes"]), inspected["rows"] * 64 * size)
        self.assertEqual(len(digests), 3)

    def write_qwen(self, parts, vocab=300, eos=7):
        """A Qwen4-Exp table of 16 columns of a few hundred rows, cut into `parts` tensors."""
        config = {"model_type": "qwen4_exp", "text_config": {
            "ple_layer_ids": [2], "ngram_size": 3, "heads_per_ngram": 8,
            "ngram_vocab_size_base": 200, "make_ngram_vocab_size_divisible_by": 128,
            "ple_embed_dim": 2560, "vocab_size": vocab, "eos_token_id": eos}}
        (self.dir / "config.json").write_text(json.dumps(config))
        primes, n = [], 199
        while len(primes) < 16:
            n += 1
            if is_prime(n):
                primes.append(n)
        rows = -(-sum(primes) // 128) * 128
        table = random.Random(4).randbytes(rows * 160)
        tensors = {}
        for part in range(parts):
            begin, end = rows * part // parts, rows * (part + 1) // parts
            name = ("model.language_model.layers.1.ple.ple_embedding.ngram_embedding."
                    f"shard_{part}.weight")
            tensors[name] = ("F8_E4M3", [end - begin, 160], table[begin * 160:end * 160])
        write_safetensors(self.dir / "model.safetensors", tensors)
        return primes, table

    def test_qwen4_exp_tables(self):
        _, table = self.write_qwen(parts=5)
        rows = len(table) // 160
        for store in ("memory", "mapped"):
            server = self.serve_and_verify(self.dir, "--store", store)
            self.assertEqual(server.fields["model"], "qwen4_exp")
            self.assertEqual(int(server.fields["rows"]), rows)
            ids = [0, rows // 5 - 1, rows // 5, rows - 1, 1000]
            done = run("engramctl", "lookup", "--servers", server.address, "--layer", 2, "--rows",
                       ",".join(map(str, ids)), "--hex")
            self.assertEqual(done.stdout.split(),
                             [table[i * 160:(i + 1) * 160].hex() for i in ids], done.stderr)

    def test_more_rows_than_32_bits_count(self):
        """Row ids then go over the wire as 64 bits. The table is a hole but for four rows."""
        config = {"ple_layer_ids": [2], "ngram_vocab_size_base": 270_000_000, "ple_embed_dim": 512,
                  "vocab_size": 300, "eos_token_id": 7}
        (self.dir / "config.json").write_text(json.dumps(config))
        primes, n = [], 270_000_000
        while len(primes) < 16:
            n += 1
            if is_prime(n):
                primes.append(n)
        rows = -(-sum(primes) // 128) * 128
        header = json.dumps({"layers.1.ple.ple_embedding.ngram_embedding.weight": {
            "dtype": "F8_E4M3", "shape": [rows, 32], "data_offsets": [0, rows * 32]}}).encode()
        # 2^32 - 1 is a row like any other here, not the "no row" of 32-bit ids.
        stated = {row: random.Random(row).randbytes(32)
                  for row in (0, (1 << 32) - 1, 1 << 32, rows - 1)}
        with open(self.dir / "model.safetensors", "wb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            data = file.tell()
            file.truncate(data + rows * 32)
            for row, content in stated.items():
                file.seek(data + row * 32)
                file.write(content)
        run_json("engramctl", "digest", self.dir)
        ids = [rows - 1, 1 << 32, (1 << 32) - 1, (1 << 32) + 1]
        self.assertLess(rows * 99 // 100, (1 << 32) - 1)
        for args, asked in ((["--store", "mapped"], [*ids, -1, 0]), (["--shard", "99/100"], ids)):
            server = Engramd("--checkpoint", self.dir, *args)
            self.addCleanup(server.stop)
            status = run_json("engramctl", "status", "--servers", server.address, "--json")
            held = rows - (rows * 99 // 100 if asked is ids else 0)
            self.assertEqual((status["servers"][0]["rows"], status["servers"][0]["bytes"]),
                             (held, held * 32))
            done = run("engramctl", "lookup", "--servers", server.address, "--layer", 2, "--rows",
                       ",".join(map(str, asked)), "--hex")
            self.assertEqual(done.stdout.split(),
                             [stated.get(row, bytes(32)).hex() for row in asked], done.stderr)

    def test_qwen4_exp_hash(self):
        vocab, eos = 300, 7
        primes, _ = self.write_qwen(1, vocab, eos)
        bound = ((1 << 63) - 1) // vocab // 2
        multipliers = [2 * (split_mix((1234 + 0x9E3779B97F4A7C15 * (k + 1)) & MASK) % bound) + 1
                       for k in range(3)]
        self.assertEqual(run_json("engramctl", "inspect", self.dir, "--json")["multipliers"],
                         [multipliers])
        draw = random.Random(9)
        tokens = [draw.choice([eos, draw.randrange(vocab)]) for _ in range(200)]
        trace = self.dir / "tokens.tok"
        trace.write_bytes(struct.pack(f"<{1 + len(tokens)}I", len(tokens), *tokens))
        got = run_json("engramctl", "hash", "--checkpoint", self.dir, "--tokens", trace)
        expected = []
        for position, token in enumerate(tokens):
            # Newest first; from an end of sequence (or the start) on, all are it.
            context, cut = [token], False
            for back in (1, 2):
                cut = cut or position < back or tokens[position - back] == eos
                context.append(eos if cut else tokens[position - back])
            mixed = context[0] * multipliers[0]
            row = []
            for order in (1, 2):
                mixed ^= context[order] * multipliers[order]
                for column in range(8 * (order - 1), 8 * order):
                    row.append(mixed % primes[column] + sum(primes[:column]))
            expected.append(row)
        self.assertEqual(got["sequences"][0]["rows"]["2"], expected)


if __name__ == "__main__":
    unittest.main(verbosity=2)
