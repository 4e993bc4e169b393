#!/usr/bin/env python3
"""What happens around lookups: signals, forks, threads, the garbage collector, other libraries.

process_test.py PYTHON_DIR. Each case runs in an interpreter of its own.
"""
import os
import pathlib
import subprocess
import sys
import unittest

PACKAGE = pathlib.Path(sys.argv.pop(1)).resolve()
sys.path.insert(0, str(PACKAGE))
from python_support import Table  # noqa: E402

PROLOGUE = """
import gc, os, signal, sys, threading, time
sys.path[:0] = [{package!r}, {here!r}]
import numpy as np
from engram_client import Client, EngramError, Slot
servers = {servers!r}
def ids_of(n, seed): return np.random.default_rng(seed).integers(0, 5000, n)
"""


class ProcessTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.table = Table()
        cls.addClassCleanup(cls.table.close)
        cls.servers = cls.table.serve()
        for server in cls.servers:
            cls.addClassCleanup(server.stop)

    def run_case(self, code):
        prologue = PROLOGUE.format(package=str(PACKAGE),
                                   here=os.path.dirname(os.path.abspath(__file__)),
                                   servers=[server.address for server in self.servers])
        done = subprocess.run([sys.executable, "-X", "faulthandler", "-c", prologue + code],
                              capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.strip()

    def test_a_signal_ends_a_wait_for_a_server_that_hangs(self):
        self.assertEqual(self.run_case(f"""
client = Client(servers, lookup_timeout_us=60_000_000)
class Ended(Exception): pass
def ended(*_): raise Ended
signal.signal(signal.SIGALRM, ended)
os.kill({self.servers[0].pid}, signal.SIGSTOP)
while open("/proc/{self.servers[0].pid}/stat").read().rsplit(") ")[1][0] != "T":
    time.sleep(0.01)
try:
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    started = time.monotonic()
    try:
        client.lookup(1, ids_of(1000, 3))
        print("not ended")
    except Ended:
        print("ended", time.monotonic() - started < 10)
finally:
    os.kill({self.servers[0].pid}, signal.SIGCONT)
print(client.lookup(1, ids_of(1000, 3)).shape)
"""), "ended True\n(1000, 264)")

    def test_tickets_outlive_their_client_and_their_arrays(self):
        self.assertEqual(self.run_case("""
client = Client(servers)
right = client.lookup(1, ids_of(2000, 4))
tickets, outs = [], []
for i in range(20):
    out = np.empty((2000, 264), np.uint8)
    tickets.append(client.submit({1: (ids_of(2000, 4), out)}))
    outs.append(out)
del client, out
gc.collect()
for ticket in tickets[:10]: ticket.wait(timeout=20)
for out in outs[:10]: assert (out == right).all()
del outs, tickets  # with lookups out
gc.collect()
print("well")
"""), "well")

    def test_a_child_made_by_fork(self):
        self.assertEqual(self.run_case("""
client = Client(servers)
slot = Slot(client, 8)
ids = ids_of(100, 5)
right = client.lookup(1, ids)
ticket = client.submit({1: (ids, np.empty((100, 264), np.uint8))})
child = os.fork()
if child == 0:
    try:
        try:
            client.lookup(1, ids)
            os._exit(1)
        except EngramError as error:
            if error.code != "FAILED_PRECONDITION" or "fork" not in str(error): os._exit(2)
        own = Client(servers)
        if not (own.lookup(1, ids) == right).all(): os._exit(3)
        del ticket, slot
        client.close()
        gc.collect()
        os._exit(0)
    finally:
        os._exit(9)
_, status = os.waitpid(child, 0)
ticket.wait(timeout=20)
assert (client.lookup(1, ids) == right).all()
print(os.waitstatus_to_exitcode(status))
"""), "0")

    def test_threads_at_once(self):
        self.assertEqual(self.run_case("""
client = Client(servers, cache_bytes=8 << 20)
rows = client.lookup(1, np.arange(5000))
wrong = []
def work(seed):
    for i in range(50):
        ids = ids_of(700, seed * 1000 + i)
        if not (client.lookup(1, ids) == rows[ids]).all(): wrong.append(seed)
threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(wrong)
"""), "[]")

    def test_interpreters_that_end_with_lookups_out(self):
        self.assertEqual(self.run_case("""
lines = []
client = Client(servers, log=lines.append)
slots = [Slot(client, 8) for _ in range(2)]
out = np.empty((2000, 264), np.uint8)
tickets = [client.submit({1: (ids_of(2000, i), np.empty((2000, 264), np.uint8))}) for i in range(8)]
threading.Thread(target=lambda: [client.lookup(1, ids_of(500, i)) for i in range(10**6)],
                 daemon=True).start()
time.sleep(0.1)
print("ends")
"""), "ends")

    def test_beside_torch_and_grpc(self):
        self.assertEqual(self.run_case("""
import grpc, torch
client = Client(servers)
rows = torch.from_numpy(client.lookup(1, ids_of(10, 6)))
channel = grpc.insecure_channel(servers[0])
grpc.channel_ready_future(channel).result(timeout=20)
print(rows.shape[1], torch.ones(3).sum().item())
"""), "264 3.0")


if __name__ == "__main__":
    unittest.main()
