#!/usr/bin/env python3
"""engram_client.vllm under a runner with vLLM's seams, against engramd processes: every row compared
with the checkpoint's bytes, every bf16 value with the formula.

vllm_test.py PYTHON_DIR. Needs python3-numpy and python3-torch.
"""
import json
import os
import signal
import sys
import threading
import unittest
from unittest import mock

sys.path[:0] = [sys.argv.pop(1), os.path.join(os.path.dirname(__file__), os.pardir)]
import fake_vllm  # noqa: E402  before engram_client.vllm looks for vllm
import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402
from python_support import COLUMNS, LAYERS, Table, bits_of_bf16, config_of  # noqa: E402
from engram_client import EngramError  # noqa: E402
from engram_client._engine_table import shared_client  # noqa: E402
from engram_client.vllm import (RemoteEngram, RemoteEngramEmbedding, drop_table_weights,  # noqa: E402
                                is_table_weight)

MAX_TOKENS = 96


class EngramRemote(RemoteEngram, fake_vllm.Engram):
    """What an engineer writes into vLLM."""


def bits(rows):
    return rows.contiguous().view(torch.int16).numpy().view(np.uint16)


class VllmTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.table = Table()
        cls.servers = cls.table.serve()
        cls.config = config_of(cls.servers)

    @classmethod
    def tearDownClass(cls):
        for server in cls.servers:
            server.stop()
        cls.table.close()

    def setUp(self):
        self.random = np.random.default_rng(11)
        # The engine's environment, without what the tests' own binaries are found by.
        patched = {name: value for name, value in os.environ.items()
                   if not name.startswith("ENGRAM_")}
        environment = mock.patch.dict(os.environ, {**patched, "ENGRAM_CONFIG": self.config},
                                      clear=True)
        environment.start()
        self.addCleanup(environment.stop)

    def ids(self, tokens):
        return torch.from_numpy(self.table.random_ids(self.random, tokens, np.int32))

    def embedding(self, layer=1, **options):
        options.setdefault("config", self.config)
        embedding = RemoteEngramEmbedding(layer, self.table.head_sizes(layer), 256, **options)
        embedding.allocate(MAX_TOKENS)
        return embedding

    def assert_rows(self, rows, layer, ids, first=0):
        """bf16 `rows` are those of columns `first`... of `ids` [tokens, columns]."""
        self.assertEqual(rows.dtype, torch.bfloat16)
        own = np.asarray(ids)[:, first:first + rows.shape[1]]
        np.testing.assert_array_equal(bits(rows), bits_of_bf16(self.table.packed(layer, own)))

    def assert_step(self, got, ids):
        for index, layer in enumerate(LAYERS):
            self.assertEqual(got[index].shape, (len(ids), COLUMNS, 256))
            self.assert_rows(got[index], layer, ids[:, index])

    def test_steps_of_all_sizes(self):
        runner = fake_vllm.Runner(EngramRemote, self.table.layout, MAX_TOKENS)
        for tokens in (5, MAX_TOKENS, 1, 0, 64, 7):
            with self.subTest(tokens=tokens):
                ids = self.ids(tokens)
                self.assert_step(runner.forward(ids), ids)

    def test_packed_rows_are_the_tables_bytes(self):
        embedding = self.embedding(14, packed=True)
        ids = self.ids(33)[:, 1]
        rows = embedding(ids)
        self.assertEqual(rows.shape, (33, COLUMNS, 264))
        np.testing.assert_array_equal(rows.numpy(), self.table.packed(14, ids))

    def test_dead_tokens_and_heads_are_zeros(self):
        runner = fake_vllm.Runner(EngramRemote, self.table.layout, MAX_TOKENS)
        runner.forward(self.ids(MAX_TOKENS))
        ids = self.ids(40)
        ids[::3] = -1
        ids[1, :, 5] = -1
        got = runner.forward(ids)
        self.assert_step(got, ids)
        self.assertEqual(torch.count_nonzero(got[0][::3]), 0)
        self.assertEqual(torch.count_nonzero(got[1][1, 5]), 0)
        self.assertGreater(torch.count_nonzero(got[1][1, 6]), 0)

    def test_all_tokens_dead(self):
        embedding = self.embedding()
        embedding(self.ids(8)[:, 0])
        rows = embedding(torch.full((8, COLUMNS), -1, dtype=torch.int32))
        self.assertEqual(torch.count_nonzero(rows), 0)

    def test_ranks_heads_together_are_the_whole(self):
        ids = self.ids(19)[:, 0]
        for size, packed in ((8, False), (8, True), (5, False), (24, False)):
            with self.subTest(size=size, packed=packed):
                ranks = [self.embedding(tp_rank=rank, tp_size=size, packed=packed)
                         for rank in range(size)]
                for rank in ranks:  # all under way at once
                    rank.prepare_embeddings(ids)
                parts = [rank._ready_rows(len(ids)) for rank in ranks]
                self.assertEqual({part.shape[1] for part in parts}, {-(-COLUMNS // size)})
                whole = torch.cat(parts, dim=1)
                self.assertEqual(torch.count_nonzero(whole[:, COLUMNS:]), 0)
                if packed:
                    np.testing.assert_array_equal(whole[:, :COLUMNS].numpy(),
                                                  self.table.packed(1, ids))
                else:
                    self.assert_rows(whole[:, :COLUMNS], 1, ids)

    def test_the_layer_takes_its_ranks_heads(self):
        ids = self.ids(9)
        with mock.patch.multiple(fake_vllm.tensor_parallel, rank=6, size=8):
            runner = fake_vllm.Runner(EngramRemote, self.table.layout, MAX_TOKENS)
        got = runner.forward(ids)
        for index, layer in enumerate(LAYERS):
            self.assertEqual(got[index].shape[1], 3)
            self.assert_rows(got[index], layer, ids[:, index], first=18)

    def test_a_rank_without_heads_is_refused(self):
        with self.assertRaisesRegex(ValueError, "rank 12 of 16 has none of 24 heads"):
            self.embedding(tp_rank=12, tp_size=16)
        with self.assertRaisesRegex(ValueError, "rank 8 of 8"):
            self.embedding(tp_rank=8, tp_size=8)

    def test_two_overlapping_micro_batches(self):
        runner = fake_vllm.Runner(EngramRemote, self.table.layout, MAX_TOKENS)
        turn = threading.Barrier(2, timeout=60)  # both have asked before either waits
        failures = []

        def run(index, steps):
            fake_vllm.micro_batch.id = index
            try:
                for ids in steps:
                    runner.prepare(ids)
                    turn.wait()
                    got = runner.layers(ids)
                    turn.wait()  # the other's rows have come: they are not in ours
                    self.assert_step(got, ids)
            except BaseException as failure:  # a thread's failure is the test's
                failures.append(failure)
                turn.abort()

        threads = [threading.Thread(target=run, args=(index, [self.ids(n) for n in sizes]))
                   for index, sizes in enumerate(((64, 1, 30, 96), (3, 96, 31, 0)))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]

    def test_one_thread_overlaps_two_micro_batches(self):
        embedding = self.embedding()
        steps = [self.ids(n)[:, 0] for n in (20, 11)]
        for index, ids in enumerate(steps):
            fake_vllm.micro_batch.id = index
            embedding.prepare_embeddings(ids)
        for index in (1, 0):
            fake_vllm.micro_batch.id = index
            self.assert_rows(embedding._ready_rows(len(steps[index])), 1, steps[index])
        fake_vllm.micro_batch.id = 0

    def test_padded_batches(self):
        embedding = self.embedding()
        embedding(self.ids(MAX_TOKENS)[:, 0])
        ids = self.ids(10)[:, 0]
        embedding.prepare_embeddings(ids)  # ids of the real tokens, rows of the graph's
        rows = embedding._ready_rows(32)
        self.assertEqual(rows.shape[0], 32)
        self.assert_rows(rows[:10], 1, ids)
        self.assertEqual(torch.count_nonzero(rows[10:]), 0)
        padded = fake_vllm.pad(ids, 32)  # ids padded too
        rows = embedding(padded)
        self.assert_rows(rows, 1, padded)

    def test_rows_stay_where_they_are(self):
        embedding = self.embedding()
        first = embedding(self.ids(4)[:, 0])
        ids = self.ids(9)[:, 0]
        second = embedding(ids)
        self.assertEqual(first.data_ptr(), second.data_ptr())
        self.assert_rows(second, 1, ids)

    def test_ids_may_be_overwritten_at_once(self):
        embedding = self.embedding()
        ids = self.ids(MAX_TOKENS)[:, 0]
        asked = ids.clone()
        embedding.prepare_embeddings(ids)
        ids.fill_(-1)
        self.assert_rows(embedding._ready_rows(MAX_TOKENS), 1, asked)

    def test_steps_that_were_not_taken_are_dropped(self):
        embedding = self.embedding()
        embedding(self.ids(1)[:, 0])
        server = self.servers[0].pid
        os.kill(server, signal.SIGSTOP)  # so that none of them is over
        try:
            for _ in range(3):
                embedding.prepare_embeddings(self.ids(50)[:, 0])
            ids = self.ids(6)[:, 0]
            embedding.prepare_embeddings(ids)
        finally:
            os.kill(server, signal.SIGCONT)
        self.assert_rows(embedding._ready_rows(6), 1, ids)

    def test_a_captured_graph_looks_up_when_it_is_replayed(self):
        runner = fake_vllm.Runner(EngramRemote, self.table.layout, MAX_TOKENS)
        batch = torch.full((16, len(LAYERS), COLUMNS), 2**31 - 1, dtype=torch.int32)  # no ids yet
        with fake_vllm.BreakableCUDAGraphCapture() as graph:
            baked = runner.forward(batch)
        for _ in range(3):
            batch.copy_(self.ids(16))
            graph.replay()
            self.assert_step(baked, batch)

    def test_wrong_ids_are_refused(self):
        embedding = self.embedding()
        good = self.ids(4)[:, 0]
        for ids, error, message in (
                (good.long(), TypeError, "layer 1: ids are torch.int64, not torch.int32"),
                (good.float(), TypeError, "torch.float32"),
                (good.tolist(), TypeError, "list, not a tensor"),
                (good[:, :23], ValueError, r"shape \[4, 23\], not \[tokens, 24\]"),
                (good[0], ValueError, r"shape \[24\]"),
                (self.ids(4), ValueError, r"shape \[4, 2, 24\]"),
                (good.to("meta"), ValueError, "on meta, not on cpu"),
                (self.ids(MAX_TOKENS + 1)[:, 0], ValueError, "of 97 tokens, at most 96")):
            with self.subTest(message=message), self.assertRaisesRegex(error, message):
                embedding.prepare_embeddings(ids)
        self.assert_rows(embedding(good), 1, good)

    def test_rows_are_taken_once(self):
        embedding = self.embedding()
        with self.assertRaisesRegex(RuntimeError, "layer 1: no rows were asked for"):
            embedding._ready_rows(1)
        embedding(self.ids(2)[:, 0])
        with self.assertRaisesRegex(RuntimeError, "or they were taken"):
            embedding._ready_rows(2)
        embedding.prepare_embeddings(self.ids(2)[:, 0])
        with self.assertRaisesRegex(ValueError, "97 tokens, at most 96"):
            embedding._ready_rows(MAX_TOKENS + 1)

    def test_allocate_comes_first(self):
        embedding = RemoteEngramEmbedding(1, self.table.head_sizes(1), 256, config=self.config)
        with self.assertRaisesRegex(RuntimeError, "allocate"):
            embedding.prepare_embeddings(self.ids(1)[:, 0])
        with self.assertRaisesRegex(ValueError, "max_tokens is 0"):
            embedding.allocate(0)

    def test_ids_outside_the_table_are_told(self):
        embedding = self.embedding()
        ids = self.ids(3)[:, 0]
        ids[2, 7] = self.table.layout.num_embeddings[0]
        with self.assertRaises(EngramError) as caught:
            embedding(ids)
        self.assertEqual(caught.exception.code, "OUT_OF_RANGE")
        good = self.ids(3)[:, 0]
        self.assert_rows(embedding(good), 1, good)

    def test_the_engines_geometry_must_be_the_servers(self):
        sizes = self.table.head_sizes(1)
        for layer, heads, dim, message in (
                (1, [*sizes[:5], sizes[5] + 2, *sizes[6:]], 256,
                 f"layer 1, column 5: {sizes[5] + 2} rows, the servers have {sizes[5]}"),
                (1, sizes[:16], 256, "layer 1: 16 hash columns, the servers have 24"),
                (1, sizes, 128, "layer 1: head dim 128, the servers' rows hold 256 values"),
                (2, sizes, 256, r"layer 2: the servers' tables are of layers \[1, 14\]"),
                (14, sizes, 256, "layer 14, column 0")):
            with self.subTest(message=message), self.assertRaisesRegex(ValueError, message):
                RemoteEngramEmbedding(layer, heads, dim, config=self.config)

    def test_the_loader_passes_tables_by(self):
        tables = ["layers.1.engram.embed.weight", "layers.14.engram.embed.scale",
                  "model.layers.1.engram.embed_tokens.weight",
                  "model.layers.14.engram.embed_tokens.weight_scale_inv", "engram.embed.weight"]
        others = ["embed.weight", "model.embed_tokens.weight", "layers.1.engram.wkv.weight",
                  "layers.1.engram.wkv.scale", "layers.1.engram.q_weight",
                  "layers.1.engram.k_weight", "layers.1.attn.embed.weight",
                  "layers.1.engram.embed.weights", "layers.1.myengram.embed.weight"]
        self.assertEqual([name for name in tables + others if is_table_weight(name)], tables)

        runner = fake_vllm.Runner(EngramRemote, self.table.layout, MAX_TOKENS)
        model = nn.ModuleDict({f"engram{engram.layer_hash_index}": engram
                               for engram in runner.engrams})
        parameters = dict(model.named_parameters())
        self.assertEqual(set(parameters), {"engram0.wkv.weight", "engram1.wkv.weight"})
        self.assertEqual(list(model.buffers()), [])
        self.assertEqual(set(model.state_dict()), set(parameters))
        index = json.loads((self.table.path / "model.safetensors.index.json").read_text())
        names = set(index["weight_map"])
        kept = {name for name, _ in drop_table_weights((name, None) for name in names)}
        self.assertEqual(names - kept, {f"layers.{layer}.engram.embed.{part}"
                                        for layer in LAYERS for part in ("weight", "scale")})

    def test_a_loader_that_asks_the_module(self):
        taken = self.embedding().load_weights([("weight", torch.empty(0)),
                                               ("weight_scale_inv", torch.empty(0))])
        self.assertEqual(taken, {"weight", "weight_scale_inv"})

    def test_one_client_for_one_configuration(self):
        one = shared_client(self.config)
        self.assertIs(one, shared_client(json.loads(self.config)))
        self.assertIs(one, shared_client(json.dumps(json.loads(self.config), indent=1)))
        other = shared_client(config_of(self.servers, dedup=False))
        self.assertIsNot(one, other)
        environment = shared_client()
        self.assertIs(environment, shared_client())
        self.assertIsNot(environment, one)
        with mock.patch.dict(os.environ, {"ENGRAM_DEDUP": "false"}):
            self.assertIsNot(environment, shared_client())
        with mock.patch.dict(os.environ, {"ENGRAM_SEVERS": "a:1"}):
            with self.assertRaisesRegex(EngramError, "ENGRAM_SEVERS"):
                shared_client()

    def test_a_configuration_that_is_none(self):
        with self.assertRaisesRegex(ValueError, "is not JSON"):
            shared_client("{servers")
        with self.assertRaisesRegex(ValueError, "not a JSON object"):
            shared_client("[1]")
        with self.assertRaisesRegex(EngramError, "severs"):
            shared_client({"severs": []})


class LostServerTest(unittest.TestCase):
    def setUp(self):
        self.table = Table()
        self.addCleanup(self.table.close)
        self.random = np.random.default_rng(5)

    def serve(self, shards):
        servers = self.table.serve(shards)
        for server in servers:
            self.addCleanup(server.stop)
        return servers

    def embedding(self, servers):
        embedding = RemoteEngramEmbedding(1, self.table.head_sizes(1), 256,
                                          config=config_of(servers, lookup_timeout_us=3000000))
        embedding.allocate(MAX_TOKENS)
        return embedding

    def assert_rows(self, rows, ids):
        np.testing.assert_array_equal(bits(rows), bits_of_bf16(self.table.packed(1, ids)))

    def ids(self, tokens):
        return torch.from_numpy(self.table.random_ids(self.random, tokens, np.int32)[:, 0])

    def test_rows_that_nobody_has_any_more(self):
        stays, goes = self.serve(2)
        embedding = self.embedding([stays, goes])
        ids = self.ids(12)
        before = embedding(ids)
        self.assert_rows(before, ids)
        os.kill(goes.pid, signal.SIGKILL)
        embedding.prepare_embeddings(ids)
        with self.assertRaises(EngramError) as caught:
            embedding._ready_rows(len(ids))
        self.assertEqual(caught.exception.code, "UNAVAILABLE")
        self.assertIn(goes.address, str(caught.exception))
        self.assertEqual(torch.count_nonzero(before), 0, "rows of the step before")
        held = torch.where(ids < self.table.layout.num_embeddings[0] // 2, ids, -1).int()
        self.assert_rows(embedding(held), held)

    def test_a_replica_takes_over(self):
        servers = self.serve(1) + self.serve(1)
        embedding = self.embedding(servers)
        for step in range(6):
            if step == 2:
                os.kill(servers[0].pid, signal.SIGKILL)
            ids = self.ids(MAX_TOKENS)
            self.assert_rows(embedding(ids), ids)


if __name__ == "__main__":
    unittest.main()
