#!/usr/bin/env python3
"""engram_client.sglang under a runner with SGLang's seams, against engramd processes: every bf16
value compared with the checkpoint's bytes by the formula.

sglang_test.py PYTHON_DIR. Needs python3-numpy and python3-torch.
"""
import os
import signal
import sys
import unittest

sys.path[:0] = [sys.argv.pop(1), os.path.join(os.path.dirname(__file__), os.pardir)]
import fake_sglang  # noqa: E402  before engram_client.sglang looks for sglang
import numpy as np  # noqa: E402
import torch  # noqa: E402
from python_support import COLUMNS, LAYERS, Table, bits_of_bf16, config_of  # noqa: E402
from engram_client import EngramError  # noqa: E402
from engram_client.sglang import RemoteEngramEmbedding, drop_table_weights  # noqa: E402

MAX_TOKENS = 64


class SglangTest(unittest.TestCase):
    def setUp(self):
        self.table = Table()
        self.addCleanup(self.table.close)
        self.servers = self.table.serve()
        for server in self.servers:
            self.addCleanup(server.stop)
        self.config = config_of(self.servers, lookup_timeout_us=3000000)
        self.random = np.random.default_rng(23)

    def ids(self, tokens):
        return torch.from_numpy(self.table.random_ids(self.random, tokens, np.int64))

    def embedding(self, layer=14):
        return RemoteEngramEmbedding.from_layout(self.table.layout, layer, MAX_TOKENS,
                                                 config=self.config)

    def runner(self):
        return fake_sglang.Runner(self.embedding, self.table.layout)

    def assert_rows(self, rows, layer, ids):
        self.assertEqual((rows.dtype, tuple(rows.shape)),
                         (torch.bfloat16, (len(ids), COLUMNS, 256)))
        np.testing.assert_array_equal(rows.view(torch.int16).numpy().view(np.uint16),
                                      bits_of_bf16(self.table.packed(layer, ids)))

    def assert_step(self, got, ids):
        for index, layer in enumerate(LAYERS):
            self.assert_rows(got[index], layer, ids[:, index])

    def test_steps_of_all_sizes(self):
        runner = self.runner()
        for tokens in (9, MAX_TOKENS, 1, 0, 33):
            with self.subTest(tokens=tokens):
                ids = self.ids(tokens)
                self.assert_step(runner.forward(ids), ids)

    def test_padding_is_zeros(self):
        runner = self.runner()
        runner.forward(self.ids(MAX_TOKENS))
        ids = self.ids(20)
        ids[13:] = 0  # what the hasher leaves of a padded batch
        ids[2] = -1
        got = runner.forward(ids)
        self.assert_step([rows[:13] for rows in got], ids[:13])
        self.assertEqual(sum(int(torch.count_nonzero(rows[13:])) for rows in got), 0)
        first = self.ids(1)[:, 1]
        first[0, 0] = 0  # row 0 of the first column beside others is a row
        embedding = self.embedding()
        embedding.prefetch(first)
        self.assert_rows(embedding(first), 14, first)

    def test_more_rows_than_were_prefetched_are_zeros(self):
        embedding = self.embedding()
        ids = self.ids(5)[:, 1]
        embedding.prefetch(ids)
        rows = embedding(self.ids(8)[:, 1])
        self.assert_rows(rows[:5], 14, ids)
        self.assertEqual(torch.count_nonzero(rows[5:]), 0)

    def test_a_captured_graph_looks_up_when_it_is_replayed(self):
        runner = self.runner()
        batch = torch.full((16, len(LAYERS), COLUMNS), 2**62, dtype=torch.int64)  # no ids yet
        with fake_sglang.Graph() as graph:
            baked = runner.forward(batch)
        for _ in range(3):
            batch.copy_(self.ids(16))
            graph.replay()
            self.assert_step(baked, batch)

    def test_the_last_prefetch_counts(self):
        runner = self.runner()
        runner.prefetch(self.ids(MAX_TOKENS))
        ids = self.ids(7)
        self.assert_step(runner.forward(ids), ids)

    def test_wait_may_be_repeated_and_rows_are_taken_once(self):
        embedding = self.embedding()
        ids = self.ids(3)[:, 1]
        with self.assertRaisesRegex(RuntimeError, "layer 14: no rows were asked for"):
            embedding.wait()
        with self.assertRaisesRegex(RuntimeError, "layer 14: no rows were asked for"):
            embedding(ids)
        embedding.prefetch(ids)
        embedding.wait()
        embedding.wait()
        self.assert_rows(embedding(ids), 14, ids)
        with self.assertRaisesRegex(RuntimeError, "or they were taken"):
            embedding(ids)

    def test_wrong_ids_are_refused(self):
        embedding = self.embedding()
        good = self.ids(4)[:, 1]
        for ids, error, message in (
                (good.int(), TypeError, "layer 14: ids are torch.int32, not torch.int64"),
                (good.numpy(), TypeError, "ndarray, not a tensor"),
                (good[:, 1:], ValueError, r"shape \[4, 23\], not \[tokens, 24\]"),
                (self.ids(4), ValueError, r"shape \[4, 2, 24\]"),
                (good.to("meta"), ValueError, "on meta, not on cpu"),
                (self.ids(MAX_TOKENS + 1)[:, 1], ValueError, "of 65 tokens, at most 64")):
            with self.subTest(message=message), self.assertRaisesRegex(error, message):
                embedding.prefetch(ids)
        embedding.prefetch(good)
        with self.assertRaisesRegex(ValueError, "65 tokens, at most 64"):
            embedding(self.ids(MAX_TOKENS + 1)[:, 1])

    def test_the_engines_geometry_must_be_the_servers(self):
        sizes = self.table.head_sizes(14)
        with self.assertRaisesRegex(ValueError, "layer 14, column 0: 211 rows, the servers have 353"):
            RemoteEngramEmbedding(14, self.table.head_sizes(1), 256, MAX_TOKENS,
                                  config=self.config)
        with self.assertRaisesRegex(ValueError, "head dim 64"):
            RemoteEngramEmbedding(14, sizes, 64, MAX_TOKENS, config=self.config)
        with self.assertRaisesRegex(ValueError, "max_tokens is 0"):
            RemoteEngramEmbedding(14, sizes, 256, 0, config=self.config)

    def test_there_is_nothing_to_load(self):
        embedding = self.embedding()
        self.assertEqual(embedding.state_dict(), {})
        self.assertEqual(list(embedding.parameters()) + list(embedding.buffers()), [])
        self.assertEqual(embedding.load_weights([("scale", torch.empty(0))]), {"scale"})
        embedding.finish_load("layer 14")
        names = ["model.layers.14.engram.embed.scale", "model.layers.14.engram.wkv.scale"]
        self.assertEqual(list(drop_table_weights((name, None) for name in names)),
                         [(names[1], None)])

    def test_a_killed_server(self):
        embedding = self.embedding()
        ids = self.ids(10)[:, 1]
        os.kill(self.servers[1].pid, signal.SIGKILL)
        embedding.prefetch(ids)
        with self.assertRaises(EngramError) as caught:
            embedding(ids)
        self.assertEqual(caught.exception.code, "UNAVAILABLE")
        with self.assertRaisesRegex(RuntimeError, "no rows were asked for"):
            embedding(ids)
        held = torch.where(ids < self.table.layout.num_embeddings[1] // 2, ids, -1)
        embedding.prefetch(held)
        self.assert_rows(embedding(held), 14, held)


if __name__ == "__main__":
    unittest.main()
