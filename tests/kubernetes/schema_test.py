"""What the chart renders, by helm 3 and 4, held against the schemas of Kubernetes and of its operators.

schema_test.py SOURCE_DIR. Exit code 77: helm or the schemas could not be had.
"""
import copy
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

import yaml

from chart_support import CHART, FEATURES, HERE, INSTEAD, Missing, fetch, helm, of_kind, render

SOURCE = pathlib.Path(sys.argv[1])


def problems_of(documents):
    """(Kind/name, check, message) of all that is wrong with them."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(documents, file)
        file.flush()
        done = subprocess.run(["node", "--input-type=module", "-", file.name],
                              input=(HERE / "check_documents.mjs").read_text(), capture_output=True,
                              text=True, timeout=120, check=False, cwd=fetch("fetch-schemas.sh"))
    assert done.returncode == 0, done.stderr
    return [(each["document"], each["check"], each["message"]) for each in json.loads(done.stdout)]


class Schemas(unittest.TestCase):
    def test_both_helms_render_the_same(self):
        for values in ({}, FEATURES, INSTEAD):
            self.assertEqual(render(values, 3), render(values, 4))
            done = helm("lint", "--strict", CHART, values=values, version=3)
            self.assertEqual(done.returncode, 0, done.stdout)
        for values in ({"shard": 2}, {"checkpoint": {"fetch": {"url": "u"}}}):
            self.assertNotEqual(helm("template", "fleet", CHART, values=values, version=3).returncode, 0)

    def test_everything_fits(self):
        documents = []
        for number, values in enumerate(({}, FEATURES, INSTEAD)):
            for document in render(values):
                document["metadata"]["name"] += f"-{number}"  # told apart in what is found
                documents.append(document)
        for version in "34":
            kubectl = fetch("fetch-helm.sh", version) / "kubectl"
            done = subprocess.run([kubectl, "kustomize", SOURCE / "deploy/kustomize/example"],
                                  capture_output=True, text=True, check=True)
            documents += [each for each in yaml.safe_load_all(done.stdout) if each]
        documents += self.of_upgrades()
        self.assertEqual(problems_of(documents), [])

    @staticmethod
    def of_upgrades():
        """The Service of deploy/upgrades, and the Pod that `kubectl run` makes with its overrides."""
        upgrades = SOURCE / "deploy/upgrades"
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "engramctl"},
               **json.loads((upgrades / "engramctl-pod.json").read_text())}
        pod["spec"]["restartPolicy"] = "Never"
        pod["spec"]["containers"][0] |= {"image": "registry.example/engram:0.1.0",
                                         "command": ["/usr/bin/engramctl", "status"]}
        return [pod, yaml.safe_load((upgrades / "table-service.yaml").read_text())]

    def test_what_does_not_fit_is_found(self):
        server = of_kind(render(), "StatefulSet")[0]
        monitor = of_kind(render(FEATURES), "PodMonitor")[0]
        cases = []  # document, the check that finds it, what it names

        def broken(document, check, name, change):
            document = copy.deepcopy(document)
            document["metadata"]["name"] = f"case-{len(cases)}"
            change(document["spec"])
            cases.append((document, check, name))

        def container(spec):
            return spec["template"]["spec"]["containers"][0]

        broken(server, "schema", "serviceName", lambda spec: spec.update(serviceName=1))
        broken(server, "schema", "selector", lambda spec: spec.pop("selector"))
        broken(server, "types", "servicename", lambda spec: spec.update(servicename="a"))
        broken(server, "types", "prot", lambda spec: container(spec)["readinessProbe"].update(prot=1))
        broken(monitor, "types", "podMetricEndpoints", lambda spec: spec.update(podMetricEndpoints=[]))
        broken(server, "PSS103", "", lambda spec: container(spec)["securityContext"].update(privileged=True))
        broken(server, "PSS206", "", lambda spec: container(spec)["securityContext"].pop("capabilities"))
        broken(server, "KBP001", "", lambda spec: container(spec).update(image="engram:latest"))
        broken(server, "KBP005", "", lambda spec: container(spec)["resources"].pop("limits"))
        found = problems_of([document for document, _, _ in cases])
        for document, check, name in cases:
            of_it = [(rule, message) for at, rule, message in found
                     if at == f"{document['kind']}/{document['metadata']['name']}"]
            self.assertTrue(any(rule == check and name in message for rule, message in of_it),
                            (check, name, of_it))


if __name__ == "__main__":
    try:
        for command in (("fetch-helm.sh", "3"), ("fetch-helm.sh", "4"), ("fetch-schemas.sh",)):
            fetch(*command)
    except Missing as error:
        print(f"SKIPPED: {error}")
        sys.exit(77)
    unittest.main(argv=sys.argv[:1], verbosity=2)
