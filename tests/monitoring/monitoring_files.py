"""What the tests of deploy/monitoring share: its rules, panels and sections, and names in expressions."""
import json
import pathlib
import re

import yaml

SOURCE = pathlib.Path(__file__).resolve().parents[2]
MONITORING = SOURCE / "deploy/monitoring"
RULE_FILES = sorted((MONITORING / "rules").glob("*.yml"))
METRIC = re.compile(r"\b(?:engram[_:]|grpc_server_)[a-zA-Z0-9_:]+")


def rules():
    """Every rule, as Prometheus has it: with `record` or `alert`."""
    return [rule for file in RULE_FILES for group in yaml.safe_load(file.read_text())["groups"]
            for rule in group["rules"]]


def alerts():
    return [rule for rule in rules() if "alert" in rule]


def panels():
    """(where, expression) of every query of every dashboard."""
    return [(f"{file.name}: {panel['title']} {target['refId']}", target["expr"])
            for file in sorted((MONITORING / "dashboards").glob("*.json"))
            for panel in json.loads(file.read_text())["panels"]
            for target in panel.get("targets", [])]


def runbook():
    """Section -> its text."""
    parts = re.split(r"^## (\w+)$", (MONITORING / "runbook.md").read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2]))


def documented_metrics():
    """Names of the series that deploy/metrics.md promises."""
    rows = re.findall(r"^\| `((?:engram|grpc)_\w+)` \| (\w+) \|",
                      (SOURCE / "deploy/metrics.md").read_text(), re.MULTILINE)
    return {name + suffix for name, kind in rows
            for suffix in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",))}
