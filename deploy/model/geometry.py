"""Which rows a byte sequence looks up: token map, primes, multipliers, n-gram hash, in numpy.

Written from the description in the top README and apart from proto/: a server that loads the
exported tables derives all of it again, so a difference between the two shows as a wrong row.
"""
import unicodedata

import numpy as np

PAD, BOS, EOS = 256, 257, 258
SPECIALS = {PAD: "<|pad|>", BOS: "<|begin|>", EOS: "<|end|>"}
VOCAB = 256 + len(SPECIALS)


def byte_characters():
    """The character by which a byte-level tokenizer spells each byte."""
    printable = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {**{byte: chr(byte) for byte in printable},
            **{byte: chr(256 + i) for i, byte in enumerate(others)}}


def token_map():
    """[VOCAB] compressed ids: bytes of the same normalized text share one."""
    characters, keys, ids = byte_characters(), {}, []
    for token in range(VOCAB):
        if token in SPECIALS:
            key = SPECIALS[token]
        elif token >= 0x80:  # a part of a UTF-8 sequence
            key = characters[token]
        else:
            text = unicodedata.normalize("NFD", chr(token)).lower()
            key = " " if text in " \t\r\n" else text.strip("\x0b\x0c\x85") or text
        ids.append(keys.setdefault(key, len(keys)))
    return np.array(ids)


def is_prime(number):
    return number > 1 and all(number % d for d in range(2, int(number**0.5) + 1))


class Geometry:
    """Row ids of `layers`; orders 2 .. max_ngram, `heads` columns each."""

    def __init__(self, layers, max_ngram, heads, floor, seed=0):
        self.layers, self.max_ngram, self.heads = layers, max_ngram, heads
        self.floor, self.seed = floor, seed
        self.map = token_map()
        self.compressed = int(self.map.max()) + 1
        self.columns = (max_ngram - 1) * heads
        self.primes, self.multipliers, taken = {}, {}, set()
        high = max(1, (2**63 - 1) // self.compressed // 2)
        for layer in layers:
            self.primes[layer] = []
            for _ in range(2, max_ngram + 1):
                prime = floor - 1
                for _ in range(heads):
                    prime += 1
                    while prime in taken or not is_prime(prime):
                        prime += 1
                    taken.add(prime)
                    self.primes[layer].append(prime)
            draws = np.random.default_rng(seed + 10007 * layer).integers(
                0, high, size=max_ngram, dtype=np.int64)
            self.multipliers[layer] = 2 * draws + 1

    def rows(self, layer):
        return sum(self.primes[layer])

    def row_ids(self, layer, tokens):
        """tokens [sequences, length] from their start -> [sequences, length, columns]."""
        ids = self.map[tokens]
        primes = np.array(self.primes[layer])
        offsets = np.concatenate([[0], np.cumsum(primes)[:-1]])
        mix = ids * self.multipliers[layer][0]
        columns = []
        for back in range(1, self.max_ngram):
            earlier = np.full_like(ids, self.map[PAD])
            earlier[:, back:] = ids[:, :-back]
            mix = mix ^ earlier * self.multipliers[layer][back]
            for _ in range(self.heads):
                column = len(columns)
                columns.append(mix % primes[column] + offsets[column])
        return np.stack(columns, axis=-1)
