"""The helm calls and manifests of deploy/upgrades/README.md, held against the chart.

upgrades_test.py SOURCE_DIR. Exit code 77: helm could not be had.
"""
import json
import pathlib
import re
import shlex
import sys
import unittest

import yaml

from chart_support import CHART, Missing, fetch, helm, of_kind, selects

UPGRADES = pathlib.Path(sys.argv[1]) / "deploy/upgrades"
PAGE = (UPGRADES / "README.md").read_text()
MEMORY_YAML = {"checkpoint": {"claimName": "blue"}, "dataDir": {"enabled": True}}  # an operator's own values


def helm_calls():
    """[(command, release, flags)] of all that the page installs and upgrades."""
    calls = []
    for line in re.findall(r"^ *(helm (?:install|upgrade) .*)", PAGE.replace("\\\n", ""), re.MULTILINE):
        words = shlex.split(line.replace("$GREEN", "0" * 64), comments=True)
        assert words[3] == "deploy/helm/engram" and words[4:6] == ["-f", "memory.yaml"], line
        calls.append((words[1], words[2], words[6:]))
    return calls


def rendered(release, flags):
    done = helm("template", release, CHART, *flags, values=MEMORY_YAML)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def pods(objects):
    return [each["spec"]["template"] for each in of_kind(objects, "StatefulSet")]


class Upgrades(unittest.TestCase):
    def test_every_call_renders(self):
        calls = helm_calls()
        self.assertGreaterEqual(len(calls), 5)
        for _, release, flags in calls:
            self.assertTrue(pods(rendered(release, flags)), release)

    def test_a_new_binary_changes_nothing_but_the_image(self):
        (_, release, flags), = [call for call in helm_calls() if call[0] == "upgrade"]
        before, after = pods(rendered(release, [])), pods(rendered(release, flags))
        for old, new in zip(before, after):
            image = new["spec"]["containers"][0].pop("image")
            self.assertNotEqual(image, old["spec"]["containers"][0].pop("image"))
            self.assertEqual(old, new)

    def test_releases_side_by_side_share_no_name_and_no_pod(self):
        releases = {release: rendered(release, flags) for _, release, flags in helm_calls()}
        self.assertGreaterEqual(len(releases), 3)
        names = [(each["kind"], each["metadata"]["name"]) for objects in releases.values() for each in objects]
        self.assertEqual(len(names), len(set(names)))
        for release, objects in releases.items():
            for service in of_kind(objects, "Service"):
                chosen = [other for other, theirs in releases.items() for pod in pods(theirs)
                          if selects(service["spec"]["selector"], pod["metadata"]["labels"])]
                self.assertEqual(set(chosen), {release})

    def test_the_tables_name_has_the_pods_of_both_cuts(self):
        service = yaml.safe_load((UPGRADES / "table-service.yaml").read_text())
        labelled = [(release, flags) for _, release, flags in helm_calls() if "engram-table" in str(flags)]
        self.assertEqual([release for release, _ in labelled], ["memory", "memory-b"])
        for release, flags in labelled:
            objects = rendered(release, flags)
            for pod in pods(objects):
                self.assertTrue(selects(service["spec"]["selector"], pod["metadata"]["labels"]))
            own = next(each for each in of_kind(objects, "Service") if each["metadata"]["name"] == release)
            self.assertEqual(service["spec"]["ports"], own["spec"]["ports"])
            self.assertEqual(service["spec"]["clusterIP"], "None")

    def test_names_and_claims_are_the_charts(self):
        objects = rendered("memory", [])
        server = next(each for each in of_kind(objects, "StatefulSet") if each["metadata"]["name"] == "memory-1")
        self.assertEqual([claim["metadata"]["name"] for claim in server["spec"]["volumeClaimTemplates"]], ["data"])
        self.assertIn("kubectl delete pvc data-memory-1-1", PAGE)
        self.assertIn("statefulset/memory-0", PAGE)
        policy = of_kind(objects, "NetworkPolicy")[0]["spec"]
        self.assertIn({"podSelector": {"matchLabels": {"engram-client": "true"}}}, policy["ingress"][0]["from"])
        self.assertIn("--labels=engram-client=true", PAGE)

    def test_the_pod_of_engramctl_mounts_what_it_has(self):
        spec = json.loads((UPGRADES / "engramctl-pod.json").read_text())["spec"]
        container, = spec["containers"]
        self.assertIn(f"kubectl run {container['name']} ", PAGE)  # which the overrides are merged into by name
        self.assertEqual([mount["name"] for mount in container["volumeMounts"]],
                         [volume["name"] for volume in spec["volumes"]])
        for delta in re.findall(r"ctl publish --servers \S+ (\S+)", PAGE):
            self.assertTrue(delta.startswith(container["volumeMounts"][0]["mountPath"] + "/"))


if __name__ == "__main__":
    try:
        fetch("fetch-helm.sh")
    except Missing as error:
        print(f"SKIPPED: helm could not be had: {error}")
        sys.exit(77)
    unittest.main(argv=sys.argv[:1], verbosity=2)
