"""What tests of the Python package share: a small table, servers of it, and its rows by numpy alone."""
import json
import pathlib
import struct
import sys
import tempfile

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "cli"))
from cli_support import Engramd, run, run_json, write_byte_tokenizer  # noqa: E402

LAYERS = (1, 14)
COLUMNS, DIM, SCALES = 24, 256, 8
ROW_BYTES = DIM + SCALES


def bits_of_bf16(packed):
    """[..., 264] uint8 -> [..., 256]: bf16's bits of value x 2^(scale - 127), by float64."""
    byte, scale = packed[..., :DIM].astype(np.int64), packed[..., DIM:].astype(np.int64)
    exponent, fraction = (byte >> 3) & 15, byte & 7
    value = np.where(exponent == 0, fraction * 2.0**-9, (8 + fraction) * 2.0**(exponent - 10.0))
    value = np.where((byte & 0x7F) == 0x7F, np.nan, np.where(byte & 0x80, -value, value))
    factor = np.where(scale == 255, np.nan, 2.0**(scale - 127.0))
    with np.errstate(over="ignore"):
        single = (value * np.repeat(factor, DIM // SCALES, axis=-1)).astype(np.float32)
    bits = single.view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16  # to nearest even
    return np.where(np.isnan(single), 0x7FC0, rounded).astype(np.uint16)


class Layout:
    """An engine's EngramLayout, as far as the modules read it."""

    def __init__(self, geometry):
        self.layer_ids = LAYERS
        heads = geometry["geometry"]["heads"]
        self.primes = tuple(tuple(tuple(layer[i:i + heads]) for i in range(0, COLUMNS, heads))
                            for layer in geometry["primes"])
        self.num_embeddings = tuple(geometry["rows_per_layer"])
        self.max_ngram_size, self.n_heads, self.head_dim = 4, heads, DIM


class Table:
    """A synthetic checkpoint, its rows read from its files."""

    def __init__(self, seed=3, tokenizer=False):
        self._directory = tempfile.TemporaryDirectory()
        directory = pathlib.Path(self._directory.name)
        self.path = directory / "table"
        options = []
        if tokenizer:
            write_byte_tokenizer(directory / "tokenizer.json")
            options = ["--tokenizer", directory / "tokenizer.json"]
        done = run("engramctl", "synth", "--out", self.path, "--like", "v41-flash",
                   "--bucket-floor", 200, "--seed", seed, *options)
        if done.returncode != 0:
            raise AssertionError(done.stderr)
        self.geometry = json.loads(run("engramctl", "inspect", self.path, "--json").stdout)
        self.layout = Layout(self.geometry)
        tensors = {tensor["name"]: tensor for tensor in self.geometry["tensors"]}
        self._rows = {layer: np.concatenate(
            [self._read(tensors[f"layers.{layer}.engram.embed.{part}"])
             for part in ("weight", "scale")], axis=1) for layer in LAYERS}

    def _read(self, tensor):
        with open(self.path / tensor["file"], "rb") as file:
            header_bytes = struct.unpack("<Q", file.read(8))[0]
            begin, _ = json.loads(file.read(header_bytes))[tensor["name"]]["data_offsets"]
            file.seek(8 + header_bytes + begin)
            return np.fromfile(file, np.uint8, tensor["bytes"]).reshape(tensor["shape"])

    def head_sizes(self, layer):
        return [size for order in self.layout.primes[LAYERS.index(layer)] for size in order]

    def packed(self, layer, ids):
        """[...] global row ids -> [..., 264]; -1 gives zeros."""
        ids = np.asarray(ids)
        return np.where((ids >= 0)[..., None], self._rows[layer][np.maximum(ids, 0)], 0)

    def random_ids(self, random, tokens, dtype):
        """[tokens, layers, 24]: of each column one of its rows."""
        ids = np.empty((tokens, len(LAYERS), COLUMNS), dtype)
        for index, layer in enumerate(LAYERS):
            sizes = np.array(self.head_sizes(layer))
            ids[:, index] = (random.integers(0, sizes, (tokens, COLUMNS))
                             + np.cumsum([0, *sizes[:-1]]))
        return ids

    def hashed(self, tokens):
        """The row ids of a sequence of token ids: {layer: [tokens, 24]}."""
        trace = pathlib.Path(self._directory.name) / "trace"
        trace.write_bytes(np.array([len(tokens), *tokens], "<u4").tobytes())
        rows = run_json("engramctl", "hash", "--checkpoint", self.path, "--tokens",
                        trace)["sequences"][0]["rows"]
        return {layer: np.array(rows[str(layer)]) for layer in LAYERS}

    def serve(self, shards=2, *flags):
        return [Engramd("--checkpoint", self.path, "--shard", f"{i}/{shards}", *flags)
                for i in range(shards)]

    def close(self):
        self._directory.cleanup()


def config_of(servers, **options):
    return json.dumps({"servers": [server.address for server in servers], **options})
