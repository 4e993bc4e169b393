"""The chart as helm renders it, and the values that tests render it with."""
import json
import pathlib
import subprocess
import tempfile

import yaml

HERE = pathlib.Path(__file__).resolve().parent
CHART = HERE.parent.parent / "deploy/helm/engram"
FEATURES = {  # everything that can be switched on at once
    "shards": 3, "arena": {"enabled": True, "medium": "HugePages-2Mi"},
    "resources": {"cpu": 2, "memory": "4Gi", "hugePages2Mi": "2Gi"},
    "dataDir": {"enabled": True, "storageClassName": "fast"},
    "checkpoint": {"claimName": "c", "subPath": "v41", "expectDigest": "0" * 64},
    "image": {"repository": "r/engram", "digest": "sha256:" + "a" * 64},
    "server": {"extraArgs": ["--verify-interval", "3600"]},
    "priorityClassName": "high", "nodeSelector": {"pool": "memory"},
    "tolerations": [{"key": "memory", "operator": "Exists"}],
    "imagePullSecrets": [{"name": "s"}], "podAnnotations": {"a": "b"}, "podLabels": {"c": "d"},
    "networkPolicy": {"enabled": True, "clients": [{"namespaceSelector": {}}],
                      "scrapers": [{"podSelector": {}}]},
    "tls": {"secretName": "fleet-tls", "lookupNames": ["*.gpu", "trainer"], "publishNames": ["ops"],
            "certManager": {"enabled": True, "issuerName": "ca", "issuerKind": "ClusterIssuer"}},
    "monitoring": {"podMonitor": True, "rules": True, "dashboards": True, "labels": {"team": "t"}},
}
INSTEAD = {  # and what stands in the place of something else
    "shards": 2, "arena": {"enabled": False},
    "checkpoint": {"claimName": "", "expectDigest": "1" * 64, "fetch": {
        "enabled": True, "image": "r/tools:1.2", "storageClassName": "fast",
        "command": ["hf", "download", "ORG/MODEL", "--local-dir", "/checkpoint"],
        "env": [{"name": "HF_ENDPOINT", "value": "http://mirror"}]}},
    "monitoring": {"serviceMonitor": True},
}


class Missing(Exception):
    """What is fetched could not be had."""


def fetch(*command):
    """The directory that a script of this directory has fetched to."""
    done = subprocess.run([HERE / command[0], *command[1:]], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Missing(f"{command}: {done.stderr}")
    return pathlib.Path(done.stdout.strip())


def helm(*args, values=None, version=4):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(values or {}, file)
        file.flush()
        return subprocess.run([fetch("fetch-helm.sh", str(version)) / "helm", *args, "--values", file.name],
                              capture_output=True, text=True, timeout=60, check=False)


def render(values=None, version=4):
    done = helm("template", "fleet", CHART, "--namespace", "space", "--kube-version", "1.31.0",
                values=values, version=version)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def of_kind(objects, kind):
    return [each for each in objects if each["kind"] == kind]


def selects(selector, labels):
    return selector.items() <= labels.items()
