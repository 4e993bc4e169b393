#!/usr/bin/env python3
"""Runs engramctl and engramd as an operator does, and holds what they print against recomputation.

Needs no packages beyond Python itself.
"""
import json
import pathlib
import re
import socket
import struct
import tempfile
import unicodedata
import unittest

from cli_support import Engramd, byte_alphabet, run, run_json, synth_row, write_byte_tokenizer

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "proto" / "golden"
FLOOR = 500
SEED = 7
LAYERS = [1, 14]
ROW_BYTES = 264
V41_TOKENS = 129280
V41_COMPRESSED = 99092


def is_prime(n):
    return n > 1 and all(n % d for d in range(2, int(n ** 0.5) + 1))


def hash_rows(compressed, pad, max_ngram, primes, multipliers):
    """Rows of one layer of a sequence without dead positions; `primes` in column order."""
    offsets = [sum(primes[:i]) for i in range(len(primes))]
    heads = len(primes) // (max_ngram - 1)
    rows = []
    for position in range(len(compressed)):
        ids = [compressed[position - k] if position >= k else pad for k in range(max_ngram)]
        mixed, row = ids[0] * multipliers[0], []
        for k in range(1, max_ngram):
            mixed ^= ids[k] * multipliers[k]
            first = (k - 1) * heads
            row += [mixed % primes[c] + offsets[c] for c in range(first, first + heads)]
        rows.append(row)
    return rows


def normalize(text):
    text = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text))
    text = "".join(c for c in text if not unicodedata.category(c).startswith("M")).lower()
    text = re.sub(r"[ \t\r\n]+", " ", text)
    # Unicode white space among the characters of one byte; str.strip() would take U+001C .. too.
    return text if text == " " else text.strip(" \t\n\v\f\r\x85\xa0")


def byte_token_map():
    """The token map of write_byte_tokenizer's tokenizer."""
    compressed_of, token_map = {}, []
    for byte, char in sorted(byte_alphabet().items()):
        # Bytes from 0x80 on decode to U+FFFD alone, so they go by their vocabulary string.
        key = normalize(chr(byte)) or chr(byte) if byte < 0x80 else char
        token_map.append(compressed_of.setdefault(key, len(compressed_of)))
    return token_map


class CliTest(unittest.TestCase):
    """What every test wants: a scratch directory with one checkpoint, made and digested once."""

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


class CheckpointTest(CliTest):
    def test_inspect_states_the_geometry(self):
        self.assertEqual(self.geometry["geometry"], {
            "layer_ids": LAYERS, "max_ngram_size": 4, "heads": 8, "columns": 24,
            "bucket_floor_per_order": [FLOOR] * 3, "seed": 0,
            "compressed_vocab_size": V41_COMPRESSED, "pad_token_id": 2})
        primes = sum(self.geometry["primes"], [])
        self.assertEqual(len(set(primes)), 48)
        self.assertTrue(all(is_prime(p) and p >= FLOOR for p in primes))
        self.assertEqual(self.geometry["rows_per_layer"],
                         [sum(layer) for layer in self.geometry["primes"]])

    def test_multipliers_are_exact(self):
        # The real model's: they depend on the compressed vocabulary, not on the bucket floor.
        self.assertEqual(self.geometry["multipliers"], [
            [76632096046245, 4839876093313, 35959672319349, 73987337458391],
            [67716810739261, 51510806800915, 30921347202721, 82619226485591]])

    def test_inspect_states_rows_tensors_and_bytes(self):
        rows = sum(self.rows.values())
        self.assertEqual(self.geometry["row_bytes"], ROW_BYTES)
        self.assertEqual(self.geometry["rows"], rows)
        self.assertEqual(self.geometry["table_bytes"], rows * ROW_BYTES)
        tensors = {tensor["name"]: tensor for tensor in self.geometry["tensors"]}
        for layer, layer_rows in self.rows.items():
            weight = tensors[f"layers.{layer}.engram.embed.weight"]
            scale = tensors[f"layers.{layer}.engram.embed.scale"]
            self.assertEqual((weight["dtype"], weight["shape"], weight["bytes"]),
                             ("F8_E4M3", [layer_rows, 256], layer_rows * 256))
            self.assertEqual((scale["dtype"], scale["shape"]), ("F8_E8M0", [layer_rows, 8]))
        self.assertEqual(self.geometry["digest"], self.digest)

    def test_tensor_bytes_are_where_inspect_says(self):
        weight = self.geometry["tensors"][0]
        with open(self.checkpoint / weight["file"], "rb") as file:
            file.seek(weight["offset"] + 256 * 3)
            self.assertEqual(file.read(256), synth_row(SEED, LAYERS[0], 3)[:256])

    def test_inspect_without_json_is_text(self):
        done = run("engramctl", "inspect", self.checkpoint)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(self.digest, done.stdout)
        self.assertIn("layers.14.engram.embed.weight", done.stdout)

    def test_digest_is_of_the_bytes(self):
        again = self.make_checkpoint("same", SEED)
        self.assertIsNone(run_json("engramctl", "inspect", again, "--json")["digest"])
        out = self.dir / "same.sidecar"
        self.assertEqual(run_json("engramctl", "digest", again, "--out", out),
                         {"digest": self.digest})
        self.assertTrue(out.is_file())
        self.assertFalse((again / "engram.sidecar").exists())
        other = self.make_checkpoint("one-seed-on", SEED + 1)
        self.assertNotEqual(run_json("engramctl", "digest", other)["digest"], self.digest)

    def test_digest_that_is_expected(self):
        other = self.make_checkpoint("not-expected", SEED + 1)
        self.assert_fails(["engramctl", "digest", other, "--expect-digest", self.digest], self.digest,
                          str(other))
        self.assertFalse((other / "engram.sidecar").exists())
        self.assert_fails(["engramctl", "digest", other, "--expect-digest", "abc"], "abc")
        same = self.make_checkpoint("expected", SEED)
        self.assertEqual(run_json("engramctl", "digest", same, "--expect-digest", self.digest),
                         {"digest": self.digest})
        self.assertTrue((same / "engram.sidecar").is_file())

    def test_synth_refuses(self):
        synth = ["engramctl", "synth", "--out"]
        self.assert_fails([*synth, self.checkpoint, "--like", "v41-flash", "--bucket-floor", FLOOR],
                          self.checkpoint)
        self.assert_fails([*synth, self.dir / "new", "--like", "llama"], "--like llama is not known")
        self.assert_fails([*synth, self.dir / "new", "--like", "v41-flash", "--dtype", "bf16"],
                          "--dtype is for --like paper")
        self.assert_fails([*synth, self.dir / "new", "--like", "v41-flash", "--bucket-floor", 0],
                          "bucket")
        self.assert_fails([*synth, self.dir / "new"], "--like")
        self.assertFalse((self.dir / "new").exists())

    def test_missing_checkpoint_is_named(self):
        nowhere = self.dir / "nowhere"
        for command in ("digest", "inspect"):
            self.assert_fails(["engramctl", command, nowhere], nowhere)
        self.assert_fails(["engramd", "--checkpoint", nowhere], nowhere)

    def test_damaged_sidecar_is_named(self):
        damaged = self.make_checkpoint("damaged", SEED)
        (damaged / "engram.sidecar").write_bytes(b"ENGRSIDE, but not really one")
        self.assert_fails(["engramctl", "inspect", damaged, "--json"], "engram.sidecar")


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


class HashTest(CliTest):
    def check_golden(self, name):
        golden = json.loads((GOLDEN / name).read_text())
        # Without what is to be derived, so that nothing of it can be read back.
        stripped = {key: value for key, value in golden.items()
                    if key not in ("primes", "multipliers", "rows_per_layer")}
        stripped["sequences"] = [{"compressed_ids": s["compressed_ids"], "dead": s["dead"]}
                                 for s in golden["sequences"]]
        vectors = self.dir / name
        vectors.write_text(json.dumps(stripped))
        got = run_json("engramctl", "hash", "--vectors", vectors)
        for field in ("primes", "multipliers", "rows_per_layer"):
            self.assertEqual(got[field], golden[field], field)
        self.assertEqual(got["sequences"], [{"rows": s["rows"]} for s in golden["sequences"]])

    def test_golden_vectors(self):
        for path in sorted(GOLDEN.glob("*.json")):
            with self.subTest(path.name):
                self.check_golden(path.name)

    def test_bad_vectors_are_named(self):
        golden = json.loads((GOLDEN / "tiny.json").read_text())
        bad = self.dir / "bad.json"
        for field, value in (("heads", 0), ("layer_ids", []), ("seed", -1), ("sequences", None),
                             ("compressed_pad_id", golden["compressed_vocab_size"])):
            bad.write_text(json.dumps({**golden, field: value}))
            self.assert_fails(["engramctl", "hash", "--vectors", bad], bad, field)
        bad.write_text("{")
        self.assert_fails(["engramctl", "hash", "--vectors", bad], bad)
        self.assert_fails(["engramctl", "hash", "--vectors", self.dir / "none.json"], "none.json")
        self.assert_fails(["engramctl", "hash"], "--vectors")
        self.assert_fails(["engramctl", "hash", "--checkpoint", self.checkpoint], "--tokens")

    def test_tokens_need_a_token_map(self):
        trace = self.dir / "a.tok"
        trace.write_bytes(struct.pack("<2I", 1, 5))
        self.assert_fails(["engramctl", "hash", "--checkpoint", self.checkpoint, "--tokens", trace],
                          self.checkpoint, "token")


class TokenMapTest(CliTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.tokenizer = cls.dir / "bytes.json"
        write_byte_tokenizer(cls.tokenizer)
        cls.expected = byte_token_map()

    def test_token_map(self):
        out = self.dir / "bytes.u32"
        self.assertEqual(
            run_json("engramctl", "token-map", "--tokenizer", self.tokenizer, "--out", out),
            {"tokens": 256, "compressed": max(self.expected) + 1})
        self.assertEqual(list(struct.unpack("<256I", out.read_bytes())), self.expected)

    def test_hash_of_a_trace(self):
        checkpoint = self.make_checkpoint("with-tokenizer", SEED, "--tokenizer", self.tokenizer)
        inspect = run_json("engramctl", "inspect", checkpoint, "--json")
        self.assertEqual(inspect["tokens"], V41_TOKENS)
        self.assertEqual(inspect["geometry"]["compressed_vocab_size"],
                         max(self.expected) + 1 + V41_TOKENS - 256)
        texts = [b"In the beginning", b"A", b"\xc3\xa9 and E"]
        trace = self.dir / "text.tok"
        trace.write_bytes(b"".join(struct.pack(f"<{len(t) + 1}I", len(t), *t) for t in texts))
        got = run_json("engramctl", "hash", "--checkpoint", checkpoint, "--tokens", trace)
        for text, sequence in zip(texts, got["sequences"], strict=True):
            for i, layer in enumerate(LAYERS):
                self.assertEqual(sequence["rows"][str(layer)],
                                 hash_rows([self.expected[byte] for byte in text], self.expected[2],
                                           4, inspect["primes"][i], inspect["multipliers"][i]))
        trace.write_bytes(struct.pack("<2I", 1, V41_TOKENS))
        self.assert_fails(["engramctl", "hash", "--checkpoint", checkpoint, "--tokens", trace],
                          trace, V41_TOKENS)
        trace.write_bytes(struct.pack("<2I", 2, 5))
        self.assert_fails(["engramctl", "hash", "--checkpoint", checkpoint, "--tokens", trace],
                          trace)

    def test_hot_ngrams_of_a_trace(self):
        checkpoint = self.make_checkpoint("hot", SEED, "--tokenizer", self.tokenizer)
        trace, out = self.dir / "hot.tok", self.dir / "hot.ngrams"
        # "in" as often as "IN": they have the same compressed ids.
        text = b"in IN, in and out"
        trace.write_bytes(struct.pack(f"<{len(text) + 1}I", len(text), *text))
        flags = ["--checkpoint", checkpoint, "--tokens", trace, "--out", out]
        got = run_json("engramctl", "hot-ngrams", *flags, "--most", "1", "--window", "1")
        self.assertEqual((got["ngrams"], got["by_order"]), (1, {"2": 1}))
        data = out.read_bytes()
        self.assertEqual(data[:8], b"ENGRHOT1")
        self.assertEqual(data[8:40].hex(), got["token_map"])
        self.assertEqual(struct.unpack_from("<Q", data, 40), (1,))
        self.assertEqual(struct.unpack_from("<4I", data, 52),
                         (3, 2, self.expected[ord("i")], self.expected[ord("n")]))
        trace.write_bytes(struct.pack("<2I", 1, V41_TOKENS))
        self.assert_fails(["engramctl", "hot-ngrams", *flags], trace, V41_TOKENS)
        self.assert_fails(["engramctl", "hot-ngrams", "--out", out], "or --saved")

    def test_hot_ngrams_that_clients_saved(self):
        golden = pathlib.Path(__file__).parents[1] / "proto/golden/hot-keys-v1.bin"
        out = self.dir / "merged.hot"
        got = run_json("engramctl", "hot-ngrams", "--saved", f"{golden},{golden}", "--out", out)
        self.assertEqual((got["ngrams"], got["digest"]), (2, "07" * 32))
        # The first key's count was 9.
        self.assertEqual(struct.unpack_from("<4I", out.read_bytes(), 56), (1, 8, 18, 3))
        self.assert_fails(["engramctl", "hot-ngrams", "--saved", out.with_name("none"), "--out",
                           out], "none")

    def test_successors_of_a_trace(self):
        checkpoint = self.make_checkpoint("successors", SEED, "--tokenizer", self.tokenizer)
        trace, out = self.dir / "follows.tok", self.dir / "follows.succ"
        # After "i" and "I", which have one compressed id, comes "n" three times, "t" once.
        text = b"in IN in it"
        trace.write_bytes(struct.pack(f"<{len(text) + 1}I", len(text), *text))
        flags = ["--checkpoint", checkpoint, "--tokens", trace, "--out", out]
        got = run_json("engramctl", "successors", *flags, "--max-bytes", "100")
        self.assertLessEqual(out.stat().st_size, 100)
        whole = run_json("engramctl", "successors", *flags)
        # One token: i, n and the space. Two: "in", "n " and " i", which has two successors.
        self.assertEqual(whole["by_tokens"], {"1": 3, "2": 3})
        self.assertEqual(whole["successors"], 4 + 4)
        self.assertLess(got["contexts"], whole["contexts"])
        data = out.read_bytes()
        self.assertEqual(data[:12], b"ENGRSUCC" + struct.pack("<I", 1))
        self.assertEqual(data[12:44].hex(), whole["token_map"])
        self.assertEqual(struct.unpack_from("<3I", data, 44), (3, 3, 8))
        trace.write_bytes(struct.pack("<2I", 1, V41_TOKENS))
        self.assert_fails(["engramctl", "successors", *flags], trace, V41_TOKENS)

    def test_what_is_no_tokenizer_is_named(self):
        bad = self.dir / "no-tokenizer.json"
        bad.write_text("{}")
        out = self.dir / "none.u32"
        self.assert_fails(["engramctl", "token-map", "--tokenizer", bad, "--out", out], bad)
        self.assertFalse(out.exists())


class ClusterTest(CliTest):
    """Two servers, half of every layer each."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.servers = []
        for i in range(2):
            server = Engramd("--checkpoint", cls.checkpoint, "--shard", f"{i}/2",
                             "--expect-digest", cls.digest)
            cls.addClassCleanup(server.stop)
            cls.servers.append(server)
        cls.addresses = ",".join(server.address for server in cls.servers)
        # A port that nobody listens on: held by a socket that never listens.
        cls.reserved = socket.socket()
        cls.addClassCleanup(cls.reserved.close)
        cls.reserved.bind(("127.0.0.1", 0))
        cls.dead = f"127.0.0.1:{cls.reserved.getsockname()[1]}"

    def lookup(self, layer, rows, servers=None):
        done = run("engramctl", "lookup", "--servers", servers or self.addresses,
                   "--layer", layer, "--rows", ",".join(map(str, rows)), "--hex")
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.splitlines()

    def expected_hex(self, layer, rows):
        return [(bytes(ROW_BYTES) if row < 0 else synth_row(SEED, layer, row)).hex()
                for row in rows]

    def shard_rows(self, i):
        return sum(n * (i + 1) // 2 - n * i // 2 for n in self.rows.values())

    def test_serving_line(self):
        for i, server in enumerate(self.servers):
            rows = self.shard_rows(i)
            self.assertEqual(server.line.rstrip("\n"), (
                f"serving model={self.geometry['model']} digest={self.digest} shard={i}/2 "
                f"rows={rows} bytes={rows * ROW_BYTES} listen={server.address}"))
            self.assertNotIn(":0", server.address[-2:])

    def test_status(self):
        servers = run_json("engramctl", "status", "--servers", f"{self.addresses},{self.dead}",
                           "--json")["servers"]
        self.assertEqual([s["address"] for s in servers], [*self.addresses.split(","), self.dead])
        for i, server in enumerate(servers[:2]):
            rows = self.shard_rows(i)
            self.assertEqual(
                {key: server[key]
                 for key in ("model", "digest", "shard", "rows", "bytes", "state")},
                {"model": self.geometry["model"], "digest": self.digest, "shard": f"{i}/2",
                 "rows": rows, "bytes": rows * ROW_BYTES, "state": "SERVING"})
            self.assertRegex(server["version"], r"^\d+\.\d+\.\d+")
        self.assertEqual(servers[2]["state"], "UNREACHABLE")
        self.assertIn(self.dead, servers[2]["error"])

    def test_rows_are_the_checkpoints(self):
        for layer, count in self.rows.items():
            half = count // 2
            rows = [count - 1, 0, half, half - 1, 17, 17, -1, half + 1, 0]
            self.assertEqual(self.lookup(layer, rows), self.expected_hex(layer, rows))

    def test_no_row_is_zeros(self):
        self.assertEqual(self.lookup(1, [-1]), ["00" * ROW_BYTES])
        self.assertEqual(self.lookup(14, [-1, -1]), ["00" * ROW_BYTES] * 2)

    def test_rows_file_and_raw_output(self):
        rows = [*range(self.rows[14] - 1, -1, -1), -1]
        ids, out = self.dir / "rows.i64", self.dir / "rows.bin"
        ids.write_bytes(struct.pack(f"<{len(rows)}q", *rows))
        done = run("engramctl", "lookup", "--servers", self.addresses, "--layer", 14,
                   "--rows-file", ids, "--out", out)
        self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)
        got = out.read_bytes()
        self.assertEqual(len(got), len(rows) * ROW_BYTES)
        for i in [*range(0, len(rows), 101), len(rows) - 2]:
            self.assertEqual(got[i * ROW_BYTES:(i + 1) * ROW_BYTES], synth_row(SEED, 14, rows[i]))
        self.assertEqual(got[-ROW_BYTES:], bytes(ROW_BYTES))
        ids.write_bytes(b"\0" * 9)
        self.assert_fails(["engramctl", "lookup", "--servers", self.addresses, "--layer", 14,
                           "--rows-file", ids, "--out", out], ids)

    def test_order_of_servers_and_dead_ones_do_not_matter(self):
        rows = [0, self.rows[1] - 1]
        backwards = ",".join([self.dead, *reversed(self.addresses.split(","))])
        self.assertEqual(self.lookup(1, rows, backwards), self.expected_hex(1, rows))

    def test_lookup_names_what_is_wrong(self):
        lookup = ["engramctl", "lookup", "--servers", self.addresses, "--hex", "--layer"]
        self.assert_fails([*lookup, 2, "--rows", 1], 2)
        self.assert_fails([*lookup, 1, "--rows", f"0,{self.rows[1]}"], self.rows[1])
        self.assert_fails([*lookup, 1, "--rows", "-2"], "-2")
        self.assert_fails([*lookup, 1, "--rows-file", self.dir / "none.i64"], "none.i64")

    def test_dead_servers_are_named(self):
        lookup = ["engramctl", "lookup", "--hex", "--layer", 1, "--servers"]
        self.assert_fails([*lookup, self.dead, "--rows", 0], self.dead)
        first = self.servers[0].address
        self.assertEqual(self.lookup(1, [0], f"{first},{self.dead}"), self.expected_hex(1, [0]))
        self.assert_fails([*lookup, f"{first},{self.dead}", "--rows", self.rows[1] - 1],
                          f"{self.rows[1]})")
        verify = ["engramctl", "verify", "--checkpoint", self.checkpoint, "--seconds", 1]
        self.assert_fails([*verify, "--servers", f"{first},{self.dead}"], "layer 1", self.dead)

    def test_verify(self):
        for more in ([], ["--rate", 50]):
            got = run_json("engramctl", "verify", "--servers", self.addresses, "--checkpoint",
                           self.checkpoint, "--seconds", 1, *more)
            self.assertEqual((got["failed"], got["wrong_rows"]), (0, 0))
            self.assertGreater(got["lookups"], 1)
            self.assertGreater(got["rows"], got["lookups"])
            self.assertGreater(got["p50_us"], 0)
            self.assertGreaterEqual(got["p99_us"], got["p50_us"])
        self.assertLessEqual(got["lookups"], 52)  # The second time: 50 a second.

    def test_a_slow_rate_does_not_outlast_the_seconds(self):
        got = run_json("engramctl", "verify", "--servers", self.addresses, "--checkpoint",
                       self.checkpoint, "--seconds", 0.1, "--rate", 0.001)
        self.assertEqual(got["lookups"], 1)

    def test_verify_finds_wrong_rows(self):
        other = self.make_checkpoint("other-rows", SEED + 1)
        done = run("engramctl", "verify", "--servers", self.addresses, "--checkpoint", other,
                   "--seconds", 0.2)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"(?m)^error: .*wrong")
        got = json.loads(done.stdout)
        self.assertEqual(got["failed"], 0)
        self.assertGreater(got["wrong_rows"], got["rows"] * 0.9)

    def test_verify_refuses(self):
        verify = ["engramctl", "verify", "--servers", self.addresses, "--checkpoint"]
        self.assert_fails([*verify, self.checkpoint], "--seconds")
        self.assert_fails([*verify, self.checkpoint, "--seconds", 0], "--seconds")
        self.assert_fails([*verify, self.dir / "nowhere", "--seconds", 1], "nowhere")

    def test_port_in_use_is_named(self):
        address = self.servers[0].address
        self.assert_fails(["engramd", "--checkpoint", self.checkpoint, "--listen", address],
                          address)

    def test_sigterm_exits_0(self):
        server = Engramd("--checkpoint", self.checkpoint)
        self.assertEqual(server.stop(), 0)

    def test_servers_of_two_tables_are_refused(self):
        other = self.make_checkpoint("another-table", SEED + 2)
        server = Engramd("--checkpoint", other)
        self.addCleanup(server.stop)
        self.assert_fails(["engramctl", "lookup", "--servers", f"{self.addresses},{server.address}",
                           "--layer", 1, "--rows", 0, "--hex"],
                          self.digest, server.fields["digest"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
