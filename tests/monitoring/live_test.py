"""Every panel's and rule's expression against a live fleet: no error, and something to show.

live_test.py BUILD_DIR. Exit code 77: prometheus or `engramd --metrics` is not there.
"""
import math
import pathlib
import shutil
import subprocess
import sys
import unittest

import monitoring_files as files

sys.path.insert(0, str(files.SOURCE / "deploy/local"))
import fleet as local  # noqa: E402

SCALE = 60  # minutes become seconds
SCRAPES_LIMIT_S = 40
# What may have nothing to show in this fleet, and why.
EMPTY = {
    "engram_rocksdb_": "no server of the fleet has --store rocksdb",
    "engram_certificate_expiry_seconds": "the fleet has no TLS",
}


def may_be_empty(expression):
    return any(part in expression for part in EMPTY)


class Live(unittest.TestCase):
    maxDiff = None
    @classmethod
    def setUpClass(cls):
        cls.fleet = cls.enterClassContext(
            local.Fleet(sys.argv[1], shards=2, replicas=1, bucket_floor=500, time_scale=SCALE))

    def missing(self, expressions):
        """Of [(where, expression)], those without a number; each with what Prometheus gave."""
        found = []
        for where, expression in expressions:
            values = [value for _, value in self.fleet.query(expression)]
            if all(math.isnan(value) for value in values) and not may_be_empty(expression):
                found.append(f"{where}: {expression} gives {values}")
        return found

    def assert_all_give_numbers(self, expressions):
        def all_there():
            # Unary calls come from operators alone.
            self.fleet.ctl("status", "--servers", self.fleet.addresses, "--json")
            return not self.missing(expressions)

        try:
            local.wait_for(all_there, "numbers", SCRAPES_LIMIT_S)
        except RuntimeError:
            self.assertEqual(self.missing(expressions), [])

    def test_panels(self):
        self.assert_all_give_numbers(
            [(where, local.scaled(expression, SCALE)) for where, expression in files.panels()])

    def test_recording_rules(self):
        self.assert_all_give_numbers(
            [(rule["record"], rule["record"]) for rule in files.rules() if "record" in rule])

    def test_alerts_run_and_a_healthy_fleet_has_none(self):
        for alert in files.alerts():
            self.fleet.query(local.scaled(alert["expr"], SCALE))
        self.assertEqual(self.fleet.firing(), set())

    def test_every_target_is_scraped(self):
        local.wait_for(lambda: self.fleet.query("count(up == 1) == 3"), "three targets up")

    def test_exceptions_are_needed(self):
        for part in EMPTY:
            expressions = [expression for _, expression in files.panels() if part in expression]
            self.assertNotEqual(expressions, [], part)
            for expression in expressions:
                self.assertEqual(self.fleet.query(expression), [], part)


def lacking():
    if shutil.which("prometheus") is None:
        return "no prometheus; Debian's package of that name has it"
    usage = subprocess.run([pathlib.Path(sys.argv[1]) / "bin/engramd", "--help"],
                           capture_output=True, text=True, check=True).stdout
    return "" if "--metrics" in usage else "this engramd has no --metrics"


if __name__ == "__main__":
    reason = lacking()
    if reason:
        print(f"SKIPPED: {reason}")
        sys.exit(77)
    unittest.main(argv=sys.argv[:1], verbosity=2)
