#!/usr/bin/env python3
"""engram_client.EngramStore, as integrations call it. store_test.py PYTHON_DIR."""
import sys
import unittest

sys.path.insert(0, sys.argv.pop(1))
import numpy as np  # noqa: E402
from engram_client import Client, EngramStore, EngramStoreConfig  # noqa: E402
from python_support import COLUMNS, LAYERS, ROW_BYTES, Table  # noqa: E402


class StoreTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.table = Table()
        cls.addClassCleanup(cls.table.close)
        cls.servers = cls.table.serve()
        for server in cls.servers:
            cls.addClassCleanup(server.stop)
        cls.client = Client([server.address for server in cls.servers])
        cls.addClassCleanup(cls.client.close)

    def config(self, layer):
        config = EngramStoreConfig()
        config.table_vocab_sizes = self.table.head_sizes(layer)
        config.row_bytes = ROW_BYTES
        return config

    def store(self):
        return EngramStore({layer: self.config(layer) for layer in LAYERS},
                           store_client=self.client)

    def test_rows_of_per_head_ids(self):
        random = np.random.default_rng(3)
        store = self.store()
        for layer in LAYERS:
            sizes = np.array(self.table.head_sizes(layer))
            ids = random.integers(0, sizes, (2, 5, COLUMNS))
            ids[0, 1, 7] = -1
            first = np.cumsum([0, *sizes[:-1]])
            right = self.table.packed(layer, np.where(ids < 0, -1, ids + first))
            out = np.full((2, 5, COLUMNS, ROW_BYTES), 0xA5, np.uint8)
            self.assertIsNone(store.lookup_into(layer, ids, out))
            np.testing.assert_array_equal(out, right)
            out[:] = 0xA5
            store.lookup(layer, ids, out).wait()
            np.testing.assert_array_equal(out, right)

    def test_an_id_beyond_its_head_is_refused(self):
        # It would be a row of the next head.
        ids = np.zeros((1, 1, COLUMNS), np.int64)
        ids[0, 0, 2] = self.table.head_sizes(1)[2]
        out = np.empty((1, 1, COLUMNS, ROW_BYTES), np.uint8)
        with self.assertRaisesRegex(Exception, "OUT_OF_RANGE"):
            self.store().lookup_into(1, ids, out)

    def test_sizes_that_are_not_the_servers(self):
        wrong = self.config(1)
        wrong.table_vocab_sizes[3] += 1
        short = EngramStoreConfig(self.table.head_sizes(1)[:-1], ROW_BYTES)
        for layer, config, text in ((1, wrong, "head 3"), (1, short, "of 23 heads"),
                                    (1, EngramStoreConfig(self.table.head_sizes(1), 256),
                                     "row_bytes is 256"), (7, self.config(1), "layer 7")):
            with self.assertRaisesRegex(ValueError, text):
                EngramStore({layer: config}, store_client=self.client)
        with self.assertRaisesRegex(ValueError, "layer 14 is none"):
            EngramStore({1: self.config(1)}, store_client=self.client).lookup(14, None, None)

    def test_shapes(self):
        ids = np.zeros((2, 3, COLUMNS), np.int64)
        out = np.empty((2, 3, COLUMNS, ROW_BYTES), np.uint8)
        with self.assertRaisesRegex(ValueError, "has shape"):
            self.store().lookup_into(1, ids, out[:1])
        with self.assertRaisesRegex(ValueError, "per_column"):
            self.store().lookup_into(1, ids[..., :8].copy(), out[..., :8, :].copy())


if __name__ == "__main__":
    unittest.main()
