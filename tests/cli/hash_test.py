#!/usr/bin/env python3
"""engramctl of token ids: token maps, rows by hash, n-grams and successors, held against recomputation."""
import json
import pathlib
import re
import struct
import unicodedata
import unittest

from cli_support import LAYERS, SEED, CliTest, byte_alphabet, run_json, write_byte_tokenizer

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "proto" / "golden"
V41_TOKENS = 129280


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
        golden = GOLDEN / "hot-keys-v1.bin"
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


if __name__ == "__main__":
    unittest.main(verbosity=2)
