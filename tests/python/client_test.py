#!/usr/bin/env python3
"""engram_client.Client against engramd processes: every row compared with the checkpoint's files.

client_test.py PYTHON_DIR.
"""
import ctypes
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, sys.argv.pop(1))
import engram_client  # noqa: E402
import numpy as np  # noqa: E402
from engram_client import Client, EngramError, LookBack  # noqa: E402
from python_support import COLUMNS, LAYERS, ROW_BYTES, Table, bits_of_bf16  # noqa: E402


class ClientTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.table = Table()
        cls.addClassCleanup(cls.table.close)
        cls.servers = cls.table.serve()
        for server in cls.servers:
            cls.addClassCleanup(server.stop)
        cls.addresses = [server.address for server in cls.servers]

    def setUp(self):
        self.random = np.random.default_rng(1)
        self.client = Client(self.addresses)
        self.addCleanup(self.client.close)

    def ids(self, tokens, layer=1, dtype=np.int64):
        return np.ascontiguousarray(
            self.table.random_ids(self.random, tokens, dtype)[:, LAYERS.index(layer)])

    def out(self, *shape):
        return np.full((*shape, ROW_BYTES), 0xA5, np.uint8)

    def test_lookup_of_either_width_and_any_shape(self):
        for dtype in (np.int64, np.int32):
            for shape in ((48,), (2, 24), (2, 3, 8), (0,), ()):
                ids = self.ids(2, 14, dtype).reshape(-1)[:int(np.prod(shape))].reshape(shape)
                rows = self.client.lookup(14, ids)
                self.assertEqual(rows.shape, (*shape, ROW_BYTES))
                np.testing.assert_array_equal(rows, self.table.packed(14, ids))

    def test_tls_and_tokens(self):
        make_certs = pathlib.Path(__file__).resolve().parents[1] / "support/make_certs.sh"
        with tempfile.TemporaryDirectory(prefix="engram-tls-") as scratch:
            subprocess.run([make_certs, scratch, *"ca ca -- cert server ca IP:127.0.0.1 -- "
                            "cert client ca DNS:client.test".split()], check=True)

            def file(name):
                return os.path.join(scratch, name)
            with open(file("token"), "w", encoding="ascii") as token:
                token.write("look-4f1c9b02")
            server, = self.table.serve(1, "--tls-cert", file("server.pem"), "--tls-key",
                                       file("server.key"), "--tls-client-ca", file("ca.pem"),
                                       "--lookup-token", file("token"))
            self.addCleanup(server.stop)
            ids = self.ids(2)
            for shown in ({"tls_certificate": file("client.pem"), "tls_key": file("client.key")},
                          {"token_file": file("token")}):
                with Client([server.address], tls_ca=file("ca.pem"), **shown) as client:
                    np.testing.assert_array_equal(client.lookup(1, ids), self.table.packed(1, ids))
            with self.assertRaisesRegex(EngramError, "neither certificate nor token"):
                Client([server.address], tls_ca=file("ca.pem"), connect_timeout_us=200_000)

    def test_no_row_is_zeros_and_strides_do_not_matter(self):
        ids = self.ids(8)
        ids[::2, 3] = -1
        for view in (ids[:, ::2], ids[::-1], ids.T, ids[1:5, 4:9]):
            np.testing.assert_array_equal(self.client.lookup(1, view), self.table.packed(1, view))

    def test_buffers_and_tensors(self):
        import torch
        ids = self.ids(2).reshape(-1)
        buffer = (ctypes.c_uint8 * (ids.size * ROW_BYTES))()
        out = memoryview(buffer).cast("B", (ids.size, ROW_BYTES))
        self.client.lookup_into(1, memoryview(ids), out)
        np.testing.assert_array_equal(np.frombuffer(buffer, np.uint8).reshape(-1, ROW_BYTES),
                                      self.table.packed(1, ids))
        tensor = torch.zeros((ids.size, ROW_BYTES), dtype=torch.uint8)
        self.client.lookup_into(1, torch.from_numpy(ids), tensor)
        np.testing.assert_array_equal(tensor.numpy(), self.table.packed(1, ids))

    def test_several_layers_by_one_ticket(self):
        ids = {layer: self.ids(5, layer) for layer in LAYERS}
        outs = {layer: self.out(5, COLUMNS) for layer in LAYERS}
        ticket = self.client.submit({layer: (ids[layer], outs[layer]) for layer in LAYERS})
        for layer in LAYERS:
            ticket.wait(layer, timeout=20)
            self.assertTrue(ticket.done(layer))
            np.testing.assert_array_equal(outs[layer], self.table.packed(layer, ids[layer]))

    def test_arguments_that_cannot_be(self):
        ids, out = self.ids(2), self.out(2, COLUMNS)
        read_only = out.copy()
        read_only.flags.writeable = False
        wide = np.empty((2, COLUMNS, 2 * ROW_BYTES), np.uint8)
        for error, name, arguments in (
                (TypeError, "ids of layer 1 is of float64", (1, ids.astype(float), out)),
                (TypeError, "ids of layer 1 is of uint64", (1, ids.astype(np.uint64), out)),
                (TypeError, "ids of layer 1 is a list", (1, ids.tolist(), out)),
                (TypeError, "out of layer 1 is of int8", (1, ids, out.view(np.int8))),
                (ValueError, "out of layer 1 has shape", (1, ids, out[:1])),
                (ValueError, "out of layer 1 is not C-contiguous", (1, ids, wide[..., ::2])),
                (ValueError, "out of layer 1 is read-only", (1, ids, read_only)),
                (TypeError, "layer is -1", (-1, ids, out)),
                (TypeError, "layer is 'a'", ("a", ids, out))):
            with self.assertRaisesRegex(error, name):
                self.client.lookup_into(*arguments)
        both = self.out(4, COLUMNS)
        with self.assertRaisesRegex(ValueError, "overlap"):
            self.client.submit({1: (ids, both[:2]), 14: (ids, both[1:3])})
        with self.assertRaisesRegex(ValueError, "overlap"):
            memory = np.zeros(2 * COLUMNS * ROW_BYTES, np.uint8)
            self.client.lookup_into(1, memory[:2 * COLUMNS * 8].view(np.int64).reshape(2, COLUMNS),
                                    memory.reshape(2, COLUMNS, ROW_BYTES))
        with self.assertRaisesRegex(TypeError, "unknown keyword `wait`"):
            self.client.lookup(1, ids, wait=1)
        np.testing.assert_array_equal(self.client.lookup(1, ids), self.table.packed(1, ids))

    def test_errors_carry_their_code(self):
        rows = self.client.layer(1).rows
        for ids, code in ((np.array([0, rows]), "OUT_OF_RANGE"), (np.array([-2]), "OUT_OF_RANGE")):
            with self.assertRaises(EngramError) as caught:
                self.client.lookup(1, ids)
            self.assertEqual(caught.exception.code, code)
            self.assertIn(str(ids[-1]), str(caught.exception))
        with self.assertRaises(EngramError) as caught:
            self.client.lookup(2, np.array([0]))
        self.assertEqual(caught.exception.code, "NOT_FOUND")
        with self.assertRaises(EngramError) as caught:
            Client(["127.0.0.1:1"], connect_timeout_us=200000)
        self.assertEqual(caught.exception.code, "UNAVAILABLE")
        with self.assertRaisesRegex(EngramError, "no_such_setting"):
            Client(self.addresses, no_such_setting=1)

    def test_what_the_servers_hold(self):
        table = self.client.table
        self.assertEqual(table.layers, LAYERS)
        self.assertEqual((table.columns, table.heads, table.row_bytes), (COLUMNS, 8, ROW_BYTES))
        self.assertEqual((table.value_type, table.scale_type), ("fp8_e4m3", "ue8m0"))
        layer = self.client.layer(14)
        np.testing.assert_array_equal(layer.column_rows, self.table.head_sizes(14))
        self.assertFalse(layer.column_rows.flags.writeable)
        self.assertEqual(self.client.missing_ranges(), [])

    def test_dequantized(self):
        rows = self.client.lookup(1, self.ids(3))
        bits = self.client.dequantize(rows, "bfloat16")
        np.testing.assert_array_equal(bits, bits_of_bf16(rows))
        single = self.client.dequantize(rows)
        self.assertEqual(single.dtype, np.float32)
        self.assertEqual(single.shape, (3, COLUMNS, 256))
        with self.assertRaisesRegex(ValueError, "rows has shape"):
            self.client.dequantize(np.ascontiguousarray(rows[..., :-1]))

    def test_settings_and_metrics_and_log(self):
        lines = []
        with Client.from_json('{"servers": "%s", "cache_bytes": 16777216}' % ",".join(
                self.addresses), log=lines.append) as client:
            ids = self.ids(40)
            for _ in range(2):
                np.testing.assert_array_equal(client.lookup(1, ids), self.table.packed(1, ids))
            values = {}
            for metric in client.metrics():
                values[metric.name] = values.get(metric.name, 0) + metric.value
            self.assertGreater(values["engram_client_ngrams_cached_total"], 0)
            self.assertIn("# TYPE engram_client_requests_total counter", client.metrics_text())
            with tempfile.TemporaryDirectory() as scratch:
                client.save_hot_ngrams(os.path.join(scratch, "hot"))
                self.assertGreater(os.path.getsize(os.path.join(scratch, "hot")), 100)
        os.environ["ENGRAM_SERVERS"] = ",".join(self.addresses)
        try:
            kept = {name: os.environ.pop(name) for name in list(os.environ)
                    if name.startswith("ENGRAM_") and name != "ENGRAM_SERVERS"}
            with Client.from_env() as client:
                self.assertEqual(client.table.digest, self.client.table.digest)
        finally:
            del os.environ["ENGRAM_SERVERS"]
            os.environ.update(kept)

    def test_a_closed_client_says_so(self):
        client = Client(self.addresses)
        client.close()
        client.close()
        with self.assertRaises(EngramError) as caught:
            client.lookup(1, np.array([0]))
        self.assertEqual(caught.exception.code, "CANCELLED")

    def test_look_back_states(self):
        state = LookBack()
        copy = LookBack.from_bytes(state.to_bytes())
        self.assertEqual(copy, state)
        with self.assertRaises(EngramError) as caught:  # a table without a tokenizer
            self.client.submit_tokens(np.arange(3), {1: self.out(3, COLUMNS)}, state)
        self.assertEqual(caught.exception.code, "FAILED_PRECONDITION")
        with self.assertRaisesRegex(ValueError, r"tokens\[1\] is -1"):
            self.client.submit_tokens(np.array([0, -1]), {1: self.out(2, COLUMNS)}, state)


class VersionTest(unittest.TestCase):
    def test_version(self):
        self.assertRegex(engram_client.__version__, r"^\d+\.\d+\.\d+")


if __name__ == "__main__":
    unittest.main()
