#!/usr/bin/env python3
"""engram_client.Slot and Prefetch: every layout, every row compared. slot_test.py PYTHON_DIR."""
import gc
import sys
import unittest

sys.path.insert(0, sys.argv.pop(1))
import numpy as np  # noqa: E402
from engram_client import (WORD_ERROR, WORD_READY, Client, EngramError, LookBack,  # noqa: E402
                           Prefetch, Slot)
from python_support import COLUMNS, DIM, LAYERS, ROW_BYTES, Table  # noqa: E402

TOKENS = 12


class SlotTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.table = Table()
        cls.addClassCleanup(cls.table.close)
        cls.servers = cls.table.serve()
        for server in cls.servers:
            cls.addClassCleanup(server.stop)

    def setUp(self):
        self.random = np.random.default_rng(2)
        self.client = Client([server.address for server in self.servers])
        self.addCleanup(self.client.close)

    def ids(self, tokens=TOKENS, dtype=np.int64):
        both = self.table.random_ids(self.random, tokens, dtype)
        return {layer: both[:, index] for index, layer in enumerate(LAYERS)}

    def test_layouts(self):
        ids = self.ids(dtype=np.int32)
        for columns in (None, (6, 18)):
            begin, end = columns or (0, COLUMNS)
            for order in ("token", "head"):
                for split in (False, True):
                    slot = Slot(self.client, TOKENS, columns=columns, order=order,
                                split_scales=split)
                    slot.submit_ids(ids)
                    slot.wait(timeout=20)
                    self.assertEqual(slot.words.tolist(), [WORD_READY] * 2)
                    for layer in LAYERS:
                        right = self.table.packed(layer, ids[layer][:, begin:end])
                        if order == "head":
                            right = right.swapaxes(0, 1)
                        values = right[..., :DIM] if split else right
                        np.testing.assert_array_equal(slot.rows(layer), values)
                        if split:
                            np.testing.assert_array_equal(slot.scales(layer), right[..., DIM:])
                        else:
                            self.assertIsNone(slot.scales(layer))

    def test_memory_of_the_callers_masks_and_columns_of_ones_own(self):
        memory = [np.full((TOKENS, 4, ROW_BYTES), 0xA5, np.uint8) for _ in LAYERS]
        words = np.zeros(2, np.uint64)
        slot = Slot(self.client, TOKENS, columns=(4, 8), memory=memory, words=words)
        ids = self.ids(5)
        mask = np.array([0, 1, 0, 0, 1], bool)
        slot.submit_ids([ids[layer][:, 4:8] for layer in LAYERS], mask=mask, own_columns=True)
        slot.wait(1)
        slot.wait(14)
        self.assertEqual(words.tolist(), [WORD_READY] * 2)
        for index, layer in enumerate(LAYERS):
            right = self.table.packed(layer, np.where(mask[:, None], -1, ids[layer][:, 4:8]))
            np.testing.assert_array_equal(memory[index][:5], right)
            self.assertTrue((memory[index][5:] == 0xA5).all())
            np.testing.assert_array_equal(slot.rows(layer, 5), right)

    def test_ids_that_count_from_their_column(self):
        ids = self.ids()
        slot = Slot(self.client, TOKENS, layers=[14])
        first = self.client.layer(14).column_first.astype(np.int64)
        slot.submit_ids([ids[14] - first], per_column=True)
        slot.wait()
        np.testing.assert_array_equal(slot.rows(14), self.table.packed(14, ids[14]))

    def test_views_outlive_the_slot_and_dlpack(self):
        import torch
        ids = self.ids()
        slot = Slot(self.client, TOKENS)
        slot.submit_ids(ids)
        slot.wait()
        rows, tensor = slot.rows(1), torch.from_dlpack(slot.rows(14))
        del slot
        gc.collect()
        np.testing.assert_array_equal(rows, self.table.packed(1, ids[1]))
        np.testing.assert_array_equal(tensor.numpy(), self.table.packed(14, ids[14]))

    def test_what_cannot_be(self):
        slot = Slot(self.client, TOKENS)
        ids = self.ids()
        for error, text, call in (
                (ValueError, "ids are of 1 layers", lambda: slot.submit_ids([ids[1]])),
                (ValueError, "not \\(tokens, 24\\)", lambda: slot.submit_ids([ids[1][:, :3]] * 2)),
                (ValueError, "ids have none for layer 14", lambda: slot.submit_ids({1: ids[1]})),
                (ValueError, "other layers", lambda: slot.submit_ids([ids[1], ids[14][:2]])),
                (EngramError, "INVALID_ARGUMENT", lambda: slot.submit_ids(self.ids(TOKENS + 1))),
                (ValueError, "order is 'row'", lambda: Slot(self.client, 1, order="row")),
                (EngramError, "INVALID_ARGUMENT", lambda: Slot(self.client, 1, columns=(3, 99))),
                (EngramError, "NOT_FOUND", lambda: Slot(self.client, 1, layers=[2])),
                (ValueError, "tokens is 13", lambda: slot.rows(1, TOKENS + 1))):
            with self.assertRaisesRegex(error, text):
                call()
        bad = self.ids()
        bad[14][3, 5] = self.client.layer(14).rows
        slot.submit_ids(bad)
        with self.assertRaisesRegex(EngramError, "OUT_OF_RANGE"):
            slot.wait(14)
        slot.wait(1)
        self.assertEqual(slot.words.tolist(), [WORD_READY, WORD_ERROR])
        self.assertFalse(slot.rows(14).any())
        slot.submit_ids(ids)  # and goes on
        slot.wait()
        np.testing.assert_array_equal(slot.rows(14), self.table.packed(14, ids[14]))


class TokensTest(unittest.TestCase):
    """By token ids: a table with a tokenizer, hashed by the library and by `engramctl hash`."""

    @classmethod
    def setUpClass(cls):
        cls.table = Table(tokenizer=True)
        cls.addClassCleanup(cls.table.close)
        cls.servers = cls.table.serve()
        for server in cls.servers:
            cls.addClassCleanup(server.stop)
        cls.tokens = np.array([3, 1, 4, 1, 5, 2, 6, 5, 3, 5], np.uint32)
        cls.ids = cls.table.hashed(cls.tokens)

    def setUp(self):
        self.client = Client([server.address for server in self.servers])
        self.addCleanup(self.client.close)

    def assert_rows(self, rows, layer, first, count):
        np.testing.assert_array_equal(
            rows, self.table.packed(layer, self.ids[layer][first:first + count]))

    def test_chunks_of_a_sequence(self):
        state = LookBack()
        slot = Slot(self.client, 6)
        for first, count in ((0, 4), (4, 1), (5, 5)):
            slot.submit_tokens([(self.tokens[first:first + count], state)])
            slot.wait(timeout=20)
            for layer in LAYERS:
                self.assert_rows(slot.rows(layer, count), layer, first, count)
        self.assertGreaterEqual(state.depth, 3)

    def test_a_ticket_by_tokens(self):
        out = np.empty((len(self.tokens), COLUMNS, ROW_BYTES), np.uint8)
        self.client.submit_tokens(self.tokens, {1: out}).wait(1, timeout=20)
        self.assert_rows(out, 1, 0, len(self.tokens))

    def test_a_prefetch_and_the_steps_that_take_it(self):
        state = LookBack()
        ahead = Prefetch(self.client, self.tokens, state)
        self.assertEqual(ahead.tokens, len(self.tokens))
        self.assertGreaterEqual(ahead.bytes, 2 * len(self.tokens) * COLUMNS * ROW_BYTES)
        slot = Slot(self.client, 6)
        for first, count in ((0, 6), (6, 4)):
            slot.submit_tokens([(ahead, first, count)])
            slot.wait(timeout=20)
            for layer in LAYERS:
                self.assert_rows(slot.rows(layer, count), layer, first, count)
        ahead.wait(timeout=20)
        branch = ahead.state_at(5)  # five tokens were accepted
        slot.submit_tokens([(self.tokens[5:], branch)])
        slot.wait()
        self.assert_rows(slot.rows(1, 5), 1, 5, 5)


if __name__ == "__main__":
    unittest.main()
