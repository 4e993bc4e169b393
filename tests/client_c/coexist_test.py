#!/usr/bin/env python3
"""libengram_client.so beside Debian's grpcio and torch in one process, in every order of loading.

coexist_test.py LIBRARY. Needs python3-grpcio, python3-torch and python3-numpy.
"""
import ctypes
import itertools
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "cli"))
LIBRARY = sys.argv[1]
SEED, LAYER, ROWS = 5, 1, [7, -1, 0]


class Rows(ctypes.Structure):  # engram_rows
    _fields_ = [("layer", ctypes.c_uint32), ("reserved", ctypes.c_uint32),
                ("ids", ctypes.c_void_p), ("count", ctypes.c_size_t),
                ("out", ctypes.c_void_p), ("out_bytes", ctypes.c_size_t)]


def check(lib, status):
    if status is not None:
        lib.engram_status_message.argtypes = [ctypes.c_void_p]
        lib.engram_status_message.restype = ctypes.c_char_p
        raise AssertionError(lib.engram_status_message(status).decode())


def load(mode):
    lib = ctypes.CDLL(LIBRARY, mode)
    for name in ("engram_client_connect_json", "engram_ticket_create", "engram_client_submit_rows",
                 "engram_ticket_wait_all"):
        getattr(lib, name).restype = ctypes.c_void_p
    return lib


def use_engram(lib, address):
    """Looks ROWS up into a torch tensor, by ids of a numpy array."""
    import numpy
    import torch
    ids = numpy.array(ROWS, dtype=numpy.int64)
    out = torch.zeros((len(ROWS), 264), dtype=torch.uint8)
    client, ticket = ctypes.c_void_p(), ctypes.c_void_p()
    check(lib, lib.engram_client_connect_json(f'{{"servers": "{address}"}}'.encode(), None, None,
                                              ctypes.byref(client)))
    check(lib, lib.engram_ticket_create(ctypes.byref(ticket)))
    rows = Rows(LAYER, 0, ids.ctypes.data, len(ROWS), out.data_ptr(), out.numel())
    check(lib, lib.engram_client_submit_rows(client, ctypes.byref(rows), ctypes.c_size_t(1), None,
                                             ticket))
    check(lib, lib.engram_ticket_wait_all(ticket, ctypes.c_int64(-1)))
    lib.engram_ticket_destroy(ticket)
    lib.engram_client_destroy(client)
    return out


def use_grpc(address):
    import grpc
    with grpc.insecure_channel(address) as channel:
        describe = channel.unary_unary("/engram.v1.EngramService/Describe")
        return describe(b"", timeout=30)


def use_torch():
    import torch
    a = torch.arange(64 * 64, dtype=torch.float32).reshape(64, 64)
    return float((a @ torch.eye(64)).sum())


def run_all(order, mode, address):
    """One process: loads in `order`, then uses all three, twice."""
    from cli_support import synth_row
    loaded = {}
    for name in order:
        loaded[name] = load(mode) if name == "engram" else __import__(name)
    expected = [bytes(264) if row < 0 else synth_row(SEED, LAYER, row) for row in ROWS]
    for _ in range(2):
        assert b"v41" in use_grpc(address) or len(use_grpc(address)) > 100
        assert use_torch() == 64 * 64 * (64 * 64 - 1) / 2
        out = use_engram(loaded["engram"], address)
        assert [bytes(row.tolist()) for row in out] == expected, "wrong rows"
    print("all three agree")


class Coexist(unittest.TestCase):
    def test_every_order_of_loading(self):
        from cli_support import Engramd, run
        scratch = tempfile.TemporaryDirectory(prefix="engram-coexist-")
        self.addCleanup(scratch.cleanup)
        checkpoint = pathlib.Path(scratch.name) / "checkpoint"
        made = run("engramctl", "synth", "--out", checkpoint, "--like", "v41-flash",
                   "--bucket-floor", 500, "--seed", SEED)
        self.assertEqual(made.returncode, 0, made.stderr)
        server = Engramd("--checkpoint", checkpoint)
        self.addCleanup(server.stop)
        for order in itertools.permutations(("engram", "grpc", "torch")):
            for mode in (ctypes.RTLD_LOCAL, ctypes.RTLD_GLOBAL):
                with self.subTest(order=order, mode=mode):
                    done = subprocess.run(
                        [sys.executable, __file__, LIBRARY, ",".join(order), str(mode),
                         server.address], capture_output=True, text=True, timeout=120, check=False)
                    self.assertEqual((done.returncode, done.stdout), (0, "all three agree\n"),
                                     done.stderr)


if __name__ == "__main__":
    if len(sys.argv) == 5:
        run_all(sys.argv[2].split(","), int(sys.argv[3]), sys.argv[4])
    else:
        unittest.main(argv=sys.argv[:1])
