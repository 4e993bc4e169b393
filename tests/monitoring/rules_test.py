"""Rules, dashboards and runbook hold together, and every rule does what its test says.

Exit code 77: promtool (Debian's package prometheus) is not there.
"""
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

import monitoring_files as files
import yaml

UNIT_TESTS = pathlib.Path(__file__).with_name("rules_test.yml")
SECTIONS = ["**Means.**", "**Confirm.**", "**Do.**", "**Helped when**"]


def promtool(*args, cwd=None):
    return subprocess.run(["promtool", *map(str, args)], capture_output=True, text=True, timeout=60,
                          check=False, cwd=cwd)


def check_rules(*paths):
    return promtool("check", "rules", "--lint=all", "--lint-fatal", *paths)


class Rules(unittest.TestCase):
    def test_promtool_finds_nothing(self):
        done = check_rules(*files.RULE_FILES)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_unit_tests_pass(self):
        done = promtool("test", "rules", UNIT_TESTS)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_each_rule_has_a_unit_test(self):
        """The unit tests fail as soon as the rule gives nothing."""
        for broken in files.rules():
            name = broken.get("record") or broken["alert"]
            with self.subTest(name), tempfile.TemporaryDirectory() as directory:
                directory = pathlib.Path(directory)
                for file in files.RULE_FILES:
                    content = yaml.safe_load(file.read_text())
                    for group in content["groups"]:
                        for rule in group["rules"]:
                            if rule == broken:
                                rule["expr"] = "vector(0) > 1"
                    (directory / file.name).write_text(yaml.safe_dump(content))
                tests = yaml.safe_load(UNIT_TESTS.read_text())
                tests["rule_files"] = [pathlib.Path(each).name for each in tests["rule_files"]]
                tests["tests"] = [test for test in tests["tests"] if name in str(test)]
                self.assertTrue(tests["tests"], "no unit test names it")
                (directory / "tests.yml").write_text(yaml.safe_dump(tests))
                done = promtool("test", "rules", "tests.yml", cwd=directory)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(name, done.stdout + done.stderr)

    def test_names(self):
        names = [rule.get("record") or rule["alert"] for rule in files.rules()]
        self.assertEqual(len(names), len(set(names)))
        for rule in files.rules():
            self.assertRegex(rule.get("record") or rule["alert"], r"^(engram:\w+:\w+|Engram\w+)$")


class Runbook(unittest.TestCase):
    def test_every_alert_has_a_section_and_every_section_an_alert(self):
        self.assertEqual(sorted(files.runbook()), sorted(alert["alert"] for alert in files.alerts()))

    def test_sections_are_whole(self):
        for name, text in files.runbook().items():
            places = [text.find(part) for part in SECTIONS]
            self.assertEqual(places, sorted(places), name)
            self.assertNotIn(-1, places, name)

    def test_alerts_link_to_their_sections(self):
        for alert in files.alerts():
            self.assertEqual(alert["annotations"]["runbook_url"],
                             f"deploy/monitoring/runbook.md#{alert['alert'].lower()}")
            self.assertIn(alert["labels"]["severity"], ("page", "ticket"))


class Dashboards(unittest.TestCase):
    def test_files_are_what_the_generator_writes(self):
        done = subprocess.run([sys.executable, files.MONITORING / "make_dashboards.py", "--check"],
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_every_expression_is_promql(self):
        panels = files.panels()
        self.assertGreater(len(panels), 50)
        recorded = [{"record": f"panel:{i}", "expr": expr} for i, (_, expr) in enumerate(panels)]
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
            yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}, file)
            file.flush()
            done = promtool("check", "rules", "--lint=none", file.name)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


class Metrics(unittest.TestCase):
    def test_every_metric_is_documented(self):
        known = files.documented_metrics() | {rule["record"] for rule in files.rules()
                                                   if "record" in rule}
        texts = [(rule.get("record") or rule["alert"], rule["expr"]) for rule in files.rules()]
        histograms = {name.removesuffix("_bucket") for name in known if name.endswith("_bucket")}
        for where, text in texts + files.panels() + list(files.runbook().items()):
            # The runbook may name a histogram as a whole.
            allowed = known | histograms if where in files.runbook() else known
            self.assertEqual(set(files.METRIC.findall(text)) - allowed, set(), where)


if __name__ == "__main__":
    if shutil.which("promtool") is None:
        print("SKIPPED: no promtool; Debian's package prometheus has it")
        sys.exit(77)
    unittest.main(verbosity=2)
