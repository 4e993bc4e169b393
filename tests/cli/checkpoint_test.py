#!/usr/bin/env python3
"""engramctl of a checkpoint: what inspect and digest say of it, what synth makes, and what they refuse."""
import unittest

from cli_support import FLOOR, LAYERS, ROW_BYTES, SEED, CliTest, run, run_json, synth_row

V41_COMPRESSED = 99092


def is_prime(n):
    return n > 1 and all(n % d for d in range(2, int(n ** 0.5) + 1))


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


if __name__ == "__main__":
    unittest.main(verbosity=2)
