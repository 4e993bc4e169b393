#!/usr/bin/env python3
"""engramctl plan and simulate: what they print, that it adds up, and what they refuse."""
import json
import pathlib
import tempfile
import unittest

from cli_support import run, run_json

V41 = ("--like", "v41-flash")
SMALL = (*V41, "--bucket-floor", 2000)


class Refusals(unittest.TestCase):
    def refuse(self, *args, said):
        done = run("engramctl", *args)
        self.assertNotEqual(done.returncode, 0, args)
        self.assertEqual(done.stdout, "", args)
        self.assertTrue(done.stderr.startswith("error: "), done.stderr)
        self.assertIn(said, done.stderr, args)

    def test_of_plan(self):
        for args, said in (
                ((), "one of --checkpoint and --like says which table"),
                (("--like", "v41-flash", "--checkpoint", "x"), "one of --checkpoint and --like"),
                (("--like", "gpt"), "--like gpt is not known: v41-flash or paper"),
                (("--checkpoint", "/nonexistent"), "/nonexistent"),
                ((*V41, "--bucket-floor", 0), "bucket"),
                ((*V41, "--shape", "decode"), "no shape `decode`; there are decode-64-12ms"),
                ((*V41, "--tokens", 64), "needs --tokens and one of --step-ms and --layers-ms"),
                ((*V41, "--tokens", 64, "--step-ms", -3), "a layer takes no time"),
                ((*V41, "--tokens", 64, "--layers-ms", "1,1,1"), "has 3 layers, but there is a table at layer 14"),
                ((*V41, "--ahead-ms", 3), "for a step of your own"),
                ((*V41, "--tokens", 64, "--step-ms", 5, "--ahead-ms", 6), "between 0 and one step before"),
                ((*V41, "--replicas", 0), "--replicas 0: a shard needs a server"),
                ((*V41, "--replicas", -1), "--replicas"),
                ((*V41, "--gpu-nodes", 0), "nobody asks"),
                ((*V41, "--memory-gib", 0.01), "--memory-gib 0.01: the smallest server, of 65536 shards, takes"),
                ((*V41, "--memory-gib", "nan"), "--memory-gib nan is not between"),
                ((*V41, "--memory-gib", 32, "--shards", 2), "--shards 2: a server takes 95.9"),
                ((*V41, "--shards", 70000), "at most 65536"),
                ((*V41, "--tokens-per-s", -5), "--tokens-per-s -5"),
                ((*V41, "--tokens-per-s", 1e6), "makes at most 5333"),
                ((*V41, "--nic-gbit", 0), "--nic-gbit 0 is not above 0"),
                ((*V41, "--rtt-us", -1), "--rtt-us -1"),
                ((*V41, "--row-ns", -1), "--row-ns -1"),
                ((*V41, "--max-utilisation", 1), "--max-utilisation 1"),
                ((*V41, "--wire-share", 2), "--wire-share 2"),
                ((*V41, "--price-memory", -1), "--price-memory -1"),
                ((*V41, "--gpu-nodes", 100000, "--cores", 1),
                 "more shards do not help, more --replicas or --cores do")):
            self.refuse("plan", *args, said=said)

    def test_of_simulate(self):
        for args, said in (
                ((), "one of --checkpoint and --like says which table"),
                (("--shards", 0), "--shards 0"),
                (("--replicas", 0), "--replicas 0 is not between 1 and 32"),
                (("--workers", 0), "--workers 0: nobody asks"),
                (("--workers", 100000, "--shards", 100), "pairs"),
                (("--rate", -3), "--rate is -3"),
                (("--load", 0), "--load is 0"),
                (("--rate", 10, "--load", 0.5), "--rate and --load"),
                (("--arrivals", "daily"), "--arrivals daily is not known: steps, even or poisson"),
                (("--seconds", 0), "--seconds 0 is not between"),
                (("--cpu-quota", -1), "--cpu-quota -1"),
                (("--quota-period-ms", 0), "--quota-period-ms 0"),
                (("--hedge-share", 2), "--hedge-share 2"),
                (("--lose-at-s", 99), "--lose-at-s 99 is not between 0 and 2"),
                (("--lose-at-s", 1, "--lose-server", 99), "--lose-server 99: there are 16, from 0 on"),
                (("--lose-at-s", 1, "--lose-how", "loudly"), "--lose-how loudly is not known"),
                (("--update-at-s", 1, "--restart-s", 0), "--restart-s 0"),
                (("--shape", "decode"), "no shape `decode`"),
                (("--timeout-ms", 0), "--timeout-ms 0")):
            self.refuse("simulate", *(SMALL if args else ()), *args, said=said)


class Plan(unittest.TestCase):
    def test_adds_up(self):
        plan = run_json("engramctl", "plan", "--json", *V41, "--gpu-nodes", 32, "--workers-per-node", 8,
                        "--memory-gib", 64)
        table, fleet, load = plan["table"], plan["fleet"], plan["fleet"]["server"]["load"]
        self.assertEqual((table["columns"], table["row_bytes"], table["layers"]), (24, 264, [1, 14]))
        self.assertEqual(table["bytes"], table["rows"] * 264)
        self.assertEqual(fleet["servers"], fleet["shards"] * fleet["replicas"])
        self.assertLessEqual(fleet["server"]["memory_bytes"], 64 << 30)
        # Every server of the shard that has the most is asked for half of its rows by each of two layers.
        asked = 256 * 2 * 64 * 24 / 0.012
        self.assertAlmostEqual(load["rows_per_s"], asked * plan["lookups"][0]["largest_share"] / 2, delta=asked * 0.01)
        self.assertAlmostEqual(load["cpu_cores"], load["requests_per_s"] * plan["costs"]["request_us"] * 1e-6
                               + load["rows_per_s"] * plan["costs"]["row_ns"] * 1e-9, delta=1e-6)
        self.assertAlmostEqual(fleet["server"]["load_one_replica_lost"]["rows_per_s"], 2 * load["rows_per_s"], delta=1)
        for how in ("ahead", "needed"):
            stalls = sum(layer["stall_ms"] for layer in plan[how]["layers"])
            self.assertAlmostEqual(plan[how]["step_ms"], 12 + stalls, delta=1e-6)
            self.assertEqual([layer["hides"] for layer in plan[how]["layers"]],
                             [layer["stall_ms"] == 0 for layer in plan[how]["layers"]])
        self.assertGreater(plan["needed"]["cost_ms"], plan["ahead"]["cost_ms"])
        self.assertIsNone(plan["against_copies"]["fleet_cost"])
        self.assertAlmostEqual(plan["against_copies"]["copies_memory_bytes"], 32 * table["bytes"])

    def test_agrees_with_inspect_on_what_a_cut_means(self):
        with tempfile.TemporaryDirectory(prefix="engram-sizing-") as scratch:
            checkpoint = pathlib.Path(scratch) / "checkpoint"
            made = run("engramctl", "synth", "--out", checkpoint, "--like", "v41-flash", "--bucket-floor", 500)
            self.assertEqual(made.returncode, 0, made.stderr)
            layout = run_json("engramctl", "inspect", checkpoint, "--json", "--shards", 9, "--batch", 64)["layout"]
            plan = run_json("engramctl", "plan", "--json", "--checkpoint", checkpoint, "--shards", 9)
        self.assertEqual(plan["fleet"]["server"]["memory_bytes"], layout["memory_bytes"])
        for mine, theirs in zip(plan["lookups"], layout["layers"], strict=True):
            self.assertEqual(mine["servers_per_token"], theirs["servers_per_token"])
            self.assertEqual(mine["servers"], theirs["servers_per_batch"])

    def test_costs_are_flags(self):
        def plan(*args):
            return run_json("engramctl", "plan", "--json", *SMALL, "--shape", "prefill-8192", *args)
        base, slow, tls = plan(), plan("--client-row-ns", 500), plan("--tls")
        self.assertGreater(slow["needed"]["cost_ms"], 3 * base["needed"]["cost_ms"])
        self.assertEqual(slow["needed"]["layers"][0]["bound"], "client CPU")
        self.assertAlmostEqual(tls["costs"]["row_ns"], 2.6 * base["costs"]["row_ns"])
        self.assertEqual(plan("--nic-gbit", 1)["needed"]["layers"][0]["bound"], "client link")
        self.assertGreater(plan("--sleeping")["costs"]["lookup_us"], base["costs"]["lookup_us"])
        self.assertEqual(plan("--sleeping", "--lookup-us", 7)["costs"]["lookup_us"], 7)

    def test_money_and_words(self):
        args = ("--gpu-nodes", 16, "--price-memory", 3, "--price-core", 20, "--price-server", 100)
        plan = run_json("engramctl", "plan", "--json", *V41, *args)
        server = plan["fleet"]["server"]
        self.assertAlmostEqual(
            plan["against_copies"]["fleet_cost"],
            plan["fleet"]["servers"] * (server["memory_bytes"] / 2**30 * 3 + server["cores"] * 20 + 100), places=4)
        text = run("engramctl", "plan", *V41, *args)
        self.assertEqual(text.returncode, 0, text.stderr)
        for words in ("shards x 2 replicas", "asked ahead", "when needed", "of a copy per GPU node", "a month"):
            self.assertIn(words, text.stdout)


class Simulate(unittest.TestCase):
    def simulate(self, *args):
        return run_json("engramctl", "simulate", "--json", *SMALL, "--seconds", 0.3, "--warm-up-s", 0.1, *args)

    def test_the_same_seed_gives_the_same_bytes(self):
        args = ("engramctl", "simulate", "--json", *SMALL, "--seconds", 0.2, "--load", 0.8, "--arrivals", "poisson")
        one, same, other = (run(*args, "--seed", seed).stdout for seed in (5, 5, 6))
        self.assertEqual(one, same)
        self.assertNotEqual(json.loads(one)["runs"], json.loads(other)["runs"])

    def test_a_sweep_finds_where_it_is_full(self):
        report = self.simulate("--load", "0.2,0.7,1.3", "--arrivals", "poisson")
        low, high, over = report["runs"]
        capacity = report["capacity"]["lookups_per_s"]
        self.assertEqual(report["capacity"]["bound"], "server CPU")
        self.assertAlmostEqual(low["done_per_s"] / capacity, 0.2, delta=0.01)
        self.assertAlmostEqual(low["server_utilisation"]["mean"], 0.2, delta=0.02)
        self.assertLess(low["lookups"]["p99_us"], high["lookups"]["p99_us"])
        self.assertLess(high["lookups"]["p99_us"], over["lookups"]["p99_us"])
        self.assertAlmostEqual(report["most_done_per_s"] / capacity, 1, delta=0.1)

    def test_what_befalls_servers(self):
        even = self.simulate("--rate", 20000)["runs"][0]
        self.assertEqual((even["failed"], even["retries"]), (0, 0))
        killed = self.simulate("--rate", 20000, "--lose-at-s", 0.1, "--lose-how", "closed", "--slice-ms",
                               100)["runs"][0]
        self.assertEqual(killed["failed"], 0)
        self.assertGreater(killed["retries"], 0)
        self.assertEqual([slice["at_s"] for slice in killed["timeline"]], [0, 0.1, 0.2])
        updated = self.simulate("--rate", 20000, "--update-at-s", 0.05, "--restart-s", 0.1)["runs"][0]
        self.assertEqual(updated["failed"], 0)
        alone = self.simulate("--rate", 20000, "--replicas", 1, "--update-at-s", 0.05, "--restart-s", 0.1)["runs"][0]
        self.assertGreater(alone["failed"], 1000)

    def test_more_servers_a_lookup_are_more_incast(self):
        def wait_us(shards):
            report = self.simulate("--shards", shards, "--replicas", 1, "--nic-gbit", 10, "--rate", 2000)
            return report["runs"][0]["incast"]["p99_us"]
        self.assertGreater(wait_us(24), 2 * wait_us(1))

    def test_words(self):
        done = run("engramctl", "simulate", *SMALL, "--seconds", 0.1, "--prefill-workers", 2)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("16 servers, 66 workers", done.stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
