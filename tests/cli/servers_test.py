#!/usr/bin/env python3
"""engramctl against servers: lookup, status and verify, and how engramd starts and ends."""
import json
import socket
import struct
import unittest

from cli_support import ROW_BYTES, SEED, CliTest, Engramd, run, run_json, synth_row


class ClusterTest(CliTest):
    """Two servers, half of every layer each."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.servers = []
        for i in range(2):
            server = Engramd("--checkpoint", cls.checkpoint, "--shard", f"{i}/2",
                             "--expect-digest", cls.digest)
            cls.addClassCleanup(server.stop)
            cls.servers.append(server)
        cls.addresses = ",".join(server.address for server in cls.servers)
        # A port that nobody listens on: held by a socket that never listens.
        cls.reserved = socket.socket()
        cls.addClassCleanup(cls.reserved.close)
        cls.reserved.bind(("127.0.0.1", 0))
        cls.dead = f"127.0.0.1:{cls.reserved.getsockname()[1]}"

    def lookup(self, layer, rows, servers=None):
        done = run("engramctl", "lookup", "--servers", servers or self.addresses,
                   "--layer", layer, "--rows", ",".join(map(str, rows)), "--hex")
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.splitlines()

    def expected_hex(self, layer, rows):
        return [(bytes(ROW_BYTES) if row < 0 else synth_row(SEED, layer, row)).hex()
                for row in rows]

    def shard_rows(self, i):
        return sum(n * (i + 1) // 2 - n * i // 2 for n in self.rows.values())

    def test_serving_line(self):
        for i, server in enumerate(self.servers):
            rows = self.shard_rows(i)
            self.assertEqual(server.line.rstrip("\n"), (
                f"serving model={self.geometry['model']} digest={self.digest} shard={i}/2 "
                f"rows={rows} bytes={rows * ROW_BYTES} listen={server.address}"))
            self.assertNotIn(":0", server.address[-2:])

    def test_status(self):
        servers = run_json("engramctl", "status", "--servers", f"{self.addresses},{self.dead}",
                           "--json")["servers"]
        self.assertEqual([s["address"] for s in servers], [*self.addresses.split(","), self.dead])
        for i, server in enumerate(servers[:2]):
            rows = self.shard_rows(i)
            self.assertEqual(
                {key: server[key]
                 for key in ("model", "digest", "shard", "rows", "bytes", "state")},
                {"model": self.geometry["model"], "digest": self.digest, "shard": f"{i}/2",
                 "rows": rows, "bytes": rows * ROW_BYTES, "state": "SERVING"})
            self.assertRegex(server["version"], r"^\d+\.\d+\.\d+")
        self.assertEqual(servers[2]["state"], "UNREACHABLE")
        self.assertIn(self.dead, servers[2]["error"])

    def test_rows_are_the_checkpoints(self):
        for layer, count in self.rows.items():
            half = count // 2
            rows = [count - 1, 0, half, half - 1, 17, 17, -1, half + 1, 0]
            self.assertEqual(self.lookup(layer, rows), self.expected_hex(layer, rows))

    def test_no_row_is_zeros(self):
        self.assertEqual(self.lookup(1, [-1]), ["00" * ROW_BYTES])
        self.assertEqual(self.lookup(14, [-1, -1]), ["00" * ROW_BYTES] * 2)

    def test_rows_file_and_raw_output(self):
        rows = [*range(self.rows[14] - 1, -1, -1), -1]
        ids, out = self.dir / "rows.i64", self.dir / "rows.bin"
        ids.write_bytes(struct.pack(f"<{len(rows)}q", *rows))
        done = run("engramctl", "lookup", "--servers", self.addresses, "--layer", 14,
                   "--rows-file", ids, "--out", out)
        self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)
        got = out.read_bytes()
        self.assertEqual(len(got), len(rows) * ROW_BYTES)
        for i in [*range(0, len(rows), 101), len(rows) - 2]:
            self.assertEqual(got[i * ROW_BYTES:(i + 1) * ROW_BYTES], synth_row(SEED, 14, rows[i]))
        self.assertEqual(got[-ROW_BYTES:], bytes(ROW_BYTES))
        ids.write_bytes(b"\0" * 9)
        self.assert_fails(["engramctl", "lookup", "--servers", self.addresses, "--layer", 14,
                           "--rows-file", ids, "--out", out], ids)

    def test_order_of_servers_and_dead_ones_do_not_matter(self):
        rows = [0, self.rows[1] - 1]
        backwards = ",".join([self.dead, *reversed(self.addresses.split(","))])
        self.assertEqual(self.lookup(1, rows, backwards), self.expected_hex(1, rows))

    def test_lookup_names_what_is_wrong(self):
        lookup = ["engramctl", "lookup", "--servers", self.addresses, "--hex", "--layer"]
        self.assert_fails([*lookup, 2, "--rows", 1], 2)
        self.assert_fails([*lookup, 1, "--rows", f"0,{self.rows[1]}"], self.rows[1])
        self.assert_fails([*lookup, 1, "--rows", "-2"], "-2")
        self.assert_fails([*lookup, 1, "--rows-file", self.dir / "none.i64"], "none.i64")

    def test_dead_servers_are_named(self):
        lookup = ["engramctl", "lookup", "--hex", "--layer", 1, "--servers"]
        self.assert_fails([*lookup, self.dead, "--rows", 0], self.dead)
        first = self.servers[0].address
        self.assertEqual(self.lookup(1, [0], f"{first},{self.dead}"), self.expected_hex(1, [0]))
        self.assert_fails([*lookup, f"{first},{self.dead}", "--rows", self.rows[1] - 1],
                          f"{self.rows[1]})")
        verify = ["engramctl", "verify", "--checkpoint", self.checkpoint, "--seconds", 1]
        self.assert_fails([*verify, "--servers", f"{first},{self.dead}"], "layer 1", self.dead)

    def test_verify(self):
        for more in ([], ["--rate", 50]):
            got = run_json("engramctl", "verify", "--servers", self.addresses, "--checkpoint",
                           self.checkpoint, "--seconds", 1, *more)
            self.assertEqual((got["failed"], got["wrong_rows"]), (0, 0))
            self.assertGreater(got["lookups"], 1)
            self.assertGreater(got["rows"], got["lookups"])
            self.assertGreater(got["p50_us"], 0)
            self.assertGreaterEqual(got["p99_us"], got["p50_us"])
        self.assertLessEqual(got["lookups"], 52)  # The second time: 50 a second.

    def test_a_slow_rate_does_not_outlast_the_seconds(self):
        got = run_json("engramctl", "verify", "--servers", self.addresses, "--checkpoint",
                       self.checkpoint, "--seconds", 0.1, "--rate", 0.001)
        self.assertEqual(got["lookups"], 1)

    def test_verify_finds_wrong_rows(self):
        other = self.make_checkpoint("other-rows", SEED + 1)
        done = run("engramctl", "verify", "--servers", self.addresses, "--checkpoint", other,
                   "--seconds", 0.2)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"(?m)^error: .*wrong")
        got = json.loads(done.stdout)
        self.assertEqual(got["failed"], 0)
        self.assertGreater(got["wrong_rows"], got["rows"] * 0.9)

    def test_verify_refuses(self):
        verify = ["engramctl", "verify", "--servers", self.addresses, "--checkpoint"]
        self.assert_fails([*verify, self.checkpoint], "--seconds")
        self.assert_fails([*verify, self.checkpoint, "--seconds", 0], "--seconds")
        self.assert_fails([*verify, self.dir / "nowhere", "--seconds", 1], "nowhere")

    def test_port_in_use_is_named(self):
        address = self.servers[0].address
        self.assert_fails(["engramd", "--checkpoint", self.checkpoint, "--listen", address],
                          address)

    def test_sigterm_exits_0(self):
        server = Engramd("--checkpoint", self.checkpoint)
        self.assertEqual(server.stop(), 0)

    def test_servers_of_two_tables_are_refused(self):
        other = self.make_checkpoint("another-table", SEED + 2)
        server = Engramd("--checkpoint", other)
        self.addCleanup(server.stop)
        self.assert_fails(["engramctl", "lookup", "--servers", f"{self.addresses},{server.address}",
                           "--layer", 1, "--rows", 0, "--hex"],
                          self.digest, server.fields["digest"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
