"""The chart, rendered by helm and held against what Kubernetes and engramd want of it.

chart_test.py SOURCE_DIR ENGRAMD. Exit code 77: helm could not be had.
"""
import json
import pathlib
import subprocess
import sys
import unittest

import yaml

from chart_support import CHART, FEATURES, INSTEAD, Missing, fetch, helm, of_kind, render, selects

SOURCE, ENGRAMD = pathlib.Path(sys.argv[1]), sys.argv[2]


class Chart(unittest.TestCase):
    def each(self):
        for values in ({}, FEATURES, INSTEAD):
            yield values, render(values)

    def test_lints(self):
        for values in ({}, FEATURES, INSTEAD):
            done = helm("lint", "--strict", CHART, values=values)
            self.assertEqual(done.returncode, 0, done.stdout)

    def test_every_shard_has_its_objects_and_they_belong_together(self):
        for values, objects in self.each():
            shards = values.get("shards", 4)
            sets = of_kind(objects, "StatefulSet")
            self.assertEqual(len(sets), shards)
            services = {each["metadata"]["name"]: each for each in of_kind(objects, "Service")}
            self.assertEqual(len(services), shards + 1)
            budgets = of_kind(objects, "PodDisruptionBudget")
            self.assertEqual(len(budgets), shards)
            names = [(each["kind"], each["metadata"]["name"]) for each in objects]
            self.assertEqual(len(names), len(set(names)))
            pods = [each["spec"]["template"]["metadata"]["labels"] for each in sets]
            for shard, each in enumerate(sets):
                spec = each["spec"]
                labels = pods[shard]
                self.assertEqual(spec["replicas"], 2)
                self.assertEqual(spec["podManagementPolicy"], "Parallel")
                # DNS keeps names for 30 seconds, clients look them up every 2.
                self.assertGreaterEqual(spec["minReadySeconds"], 30 + 2)
                # A selector that takes pods of another shard would give clients the wrong servers.
                for selector in (spec["selector"]["matchLabels"],
                                 services[spec["serviceName"]]["spec"]["selector"],
                                 budgets[shard]["spec"]["selector"]["matchLabels"]):
                    self.assertEqual([selects(selector, pod) for pod in pods],
                                     [pod is labels for pod in pods])
                self.assertEqual(services[spec["serviceName"]]["spec"]["clusterIP"], "None")
                self.assertEqual(budgets[shard]["spec"]["maxUnavailable"], 1)
                pod = spec["template"]["spec"]
                anti = pod["affinity"]["podAntiAffinity"][
                    "requiredDuringSchedulingIgnoredDuringExecution"][0]
                self.assertTrue(selects(anti["labelSelector"]["matchLabels"], labels))
                self.assertEqual(self.flags(pod)["--shard"], f"{shard}/{shards}")
            for pod in pods:
                self.assertTrue(selects(services["fleet"]["spec"]["selector"], pod))
                policy = of_kind(objects, "NetworkPolicy")[0]["spec"]
                self.assertTrue(selects(policy["podSelector"]["matchLabels"], pod))

    @staticmethod
    def flags(pod):
        args = pod["containers"][0]["args"]
        return {flag: value for flag, value in zip(args, [*args[1:], "--"]) if flag.startswith("--")}

    def test_ports_and_probes(self):
        for _, objects in self.each():
            for each in of_kind(objects, "StatefulSet"):
                pod = each["spec"]["template"]["spec"]
                container = pod["containers"][0]
                ports = {port["name"]: port["containerPort"] for port in container["ports"]}
                flags = self.flags(pod)
                self.assertEqual(flags["--listen"], f"0.0.0.0:{ports['grpc']}")
                self.assertEqual(flags["--health"], f"0.0.0.0:{ports['health']}")
                self.assertEqual(container["readinessProbe"]["grpc"]["port"], ports["health"])
                startup = container["startupProbe"]
                self.assertEqual(startup["grpc"]["port"], ports["health"])
                self.assertGreaterEqual(startup["periodSeconds"] * startup["failureThreshold"], 1800)
                self.assertEqual(container["livenessProbe"]["grpc"],
                                 {"port": ports["health"], "service": "liveness"})
                self.assertGreater(pod["terminationGracePeriodSeconds"],
                                   int(flags["--drain-ms"]) / 1000 + 10)
            for service in of_kind(objects, "Service"):
                for port in service["spec"]["ports"]:
                    self.assertEqual((port["port"], port["targetPort"]), (50051, "grpc"))

    def test_who_may_call(self):
        for values, objects in self.each():
            policy = of_kind(objects, "NetworkPolicy")[0]["spec"]["ingress"]
            self.assertEqual([rule["ports"][0]["port"] for rule in policy], ["grpc", "metrics"])
            for each in of_kind(objects, "StatefulSet"):
                pod = each["spec"]["template"]["spec"]
                flags = self.flags(pod)
                if "tls" not in values:
                    self.assertIn("--insecure", flags)
                    self.assertNotIn("--tls-cert", flags)
                    continue
                self.assertNotIn("--insecure", flags)
                mount = next(m for m in pod["containers"][0]["volumeMounts"] if m["name"] == "tls")
                self.assertNotIn("subPath", mount)  # which would never be renewed
                for flag, file in (("--tls-cert", "tls.crt"), ("--tls-key", "tls.key"),
                                   ("--tls-client-ca", "ca.crt")):
                    self.assertEqual(flags[flag], f"{mount['mountPath']}/{file}")
                self.assertEqual(flags["--lookup-names"], "*.gpu,trainer")
                self.assertEqual(flags["--publish-names"], "ops")
                volume = next(v for v in pod["volumes"] if v["name"] == "tls")
                certificate = of_kind(objects, "Certificate")[0]["spec"]
                self.assertEqual(volume["secret"]["secretName"], certificate["secretName"])
                # What clients call servers by is in their certificate.
                for service in of_kind(objects, "Service"):
                    self.assertIn(f"{service['metadata']['name']}.space.svc", certificate["dnsNames"])

    def test_monitoring(self):
        objects = render(FEATURES)
        monitor = of_kind(objects, "PodMonitor")[0]
        self.assertEqual(monitor["metadata"]["labels"]["team"], "t")
        pods = [each["spec"]["template"] for each in of_kind(objects, "StatefulSet")]
        for pod in pods:
            self.assertTrue(selects(monitor["spec"]["selector"]["matchLabels"], pod["metadata"]["labels"]))
            self.assertIn("metrics", [port["name"] for port in pod["spec"]["containers"][0]["ports"]])
        rules = {each["metadata"]["name"]: each["spec"] for each in of_kind(objects, "PrometheusRule")}
        for name in ("recording", "alerts"):
            self.assertEqual(rules[f"fleet-{name}"],
                             yaml.safe_load((SOURCE / f"deploy/monitoring/rules/{name}.yml").read_text()))
        dashboards = {file: json.loads(text) for each in of_kind(objects, "ConfigMap")
                      for file, text in each["data"].items()}
        for file in (SOURCE / "deploy/monitoring/dashboards").glob("*.json"):
            self.assertEqual(dashboards[f"engram-{file.name}"], json.loads(file.read_text()))
        objects = render(INSTEAD)
        monitor = of_kind(objects, "ServiceMonitor")[0]["spec"]
        self.assertEqual(monitor["selector"]["matchExpressions"],
                         [{"key": "engram.dev/shard", "operator": "DoesNotExist"}])
        services = [each for each in of_kind(objects, "Service")
                    if selects(monitor["selector"]["matchLabels"], each["metadata"]["labels"])
                    and "engram.dev/shard" not in each["metadata"]["labels"]]
        self.assertEqual([each["metadata"]["name"] for each in services], ["fleet"])
        # Nothing that wants the CRDs of others unless it is asked for.
        self.assertEqual({each["kind"] for each in render()},
                         {"StatefulSet", "Service", "PodDisruptionBudget", "NetworkPolicy"})

    def test_pods_are_guaranteed_and_restricted(self):
        for _, objects in self.each():
            for each in of_kind(objects, "StatefulSet"):
                pod = each["spec"]["template"]["spec"]
                self.assertFalse(pod["automountServiceAccountToken"])
                self.assertTrue(pod["securityContext"]["runAsNonRoot"])
                self.assertEqual(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault")
                for container in [*pod.get("initContainers", []), *pod["containers"]]:
                    limits = container["resources"]["limits"]
                    self.assertEqual(container["resources"]["requests"], limits)
                    self.assertEqual(limits["cpu"], str(int(limits["cpu"])))
                    security = container["securityContext"]
                    self.assertFalse(security["allowPrivilegeEscalation"])
                    self.assertTrue(security["readOnlyRootFilesystem"])
                    self.assertEqual(security["capabilities"]["drop"], ["ALL"])
                    self.assertRegex(container["image"], r"(:[0-9][\w.]*|@sha256:[0-9a-f]{64})$")

    def test_volumes(self):
        for values, objects in self.each():
            for each in of_kind(objects, "StatefulSet"):
                spec = each["spec"]
                pod = spec["template"]["spec"]
                containers = [*pod.get("initContainers", []), *pod["containers"]]
                mounts = {mount["name"]: mount for container in containers
                          for mount in container["volumeMounts"]}
                volumes = {volume["name"] for volume in pod["volumes"]}
                claims = {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])}
                self.assertEqual(set(mounts), volumes | claims)
                self.assertTrue(mounts["checkpoint"]["readOnly"])
                flags = self.flags(pod)
                self.assertEqual(flags["--checkpoint"], mounts["checkpoint"]["mountPath"])
                self.assertEqual("--data-dir" in flags, "data" in claims)
                self.assertEqual("--arena-dir" in flags, "arena" in volumes)
                if "arena" in volumes:
                    self.assertEqual(flags["--arena-dir"], mounts["arena"]["mountPath"])
                if values is FEATURES:
                    self.assertTrue(flags["--data-dir"].startswith(mounts["data"]["mountPath"]))
                    self.assertEqual(flags["--expect-digest"], "0" * 64)

    def test_fetched_checkpoint(self):
        for values, objects in self.each():
            for each in of_kind(objects, "StatefulSet"):
                pod = each["spec"]["template"]["spec"]
                if values is not INSTEAD:
                    self.assertNotIn("initContainers", pod)
                    continue
                bring, digest = pod["initContainers"]
                self.assertEqual(bring["command"], values["checkpoint"]["fetch"]["command"])
                self.assertIn({"name": "HF_ENDPOINT", "value": "http://mirror"}, bring["env"])
                self.assertEqual(digest["image"], pod["containers"][0]["image"])
                self.assertEqual(digest["args"], ["digest", "/checkpoint", "--expect-digest", "1" * 64])
                self.assertEqual(self.flags(pod)["--expect-digest"], "1" * 64)
                for container in (bring, digest):  # where the server reads it
                    mount = container["volumeMounts"][0]
                    self.assertEqual((mount["name"], mount["mountPath"]), ("checkpoint", "/checkpoint"))
                    self.assertNotIn("readOnly", mount)
            egress = of_kind(objects, "NetworkPolicy")[0]["spec"]["egress"]
            self.assertEqual(bool(egress), values is INSTEAD)

    def test_plain_manifests_are_the_charts(self):
        done = subprocess.run([SOURCE / "deploy/render.sh", "--check"], capture_output=True,
                              text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        done = subprocess.run([fetch("fetch-helm.sh") / "kubectl", "kustomize", SOURCE / "deploy/kustomize/example"],
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        sets = of_kind([each for each in yaml.safe_load_all(done.stdout) if each], "StatefulSet")
        self.assertEqual(len(sets), 4)
        for each in sets:
            self.assertEqual(each["metadata"]["namespace"], "engram")
            pod = each["spec"]["template"]["spec"]
            self.assertEqual(pod["containers"][0]["image"], "registry.example/engram:0.1.0")
            volumes = {volume["name"]: volume for volume in pod["volumes"]}
            self.assertEqual(volumes["checkpoint"]["persistentVolumeClaim"]["claimName"],
                             "deepseek-v41")
            self.assertEqual(volumes["arena"]["emptyDir"]["sizeLimit"], "50Gi")

    def test_engramd_knows_every_flag(self):
        known = subprocess.run([ENGRAMD, "--help"], capture_output=True, text=True,
                               check=True).stdout.split()
        pod = of_kind(render(FEATURES), "StatefulSet")[0]["spec"]["template"]["spec"]
        for flag in self.flags(pod):
            self.assertIn(flag, known)

    def test_bad_values_are_refused_by_name(self):
        for values, text in (({"shard": 2}, "shard"), ({"shards": 0}, "shards"),
                             ({"shards": "many"}, "shards"),
                             ({"image": {"tag": "latest"}}, "tag"),
                             ({"image": {"tag": ""}}, "image"),
                             ({"resources": {"cpu": 1.5}}, "cpu"),
                             ({"checkpoint": {"expectDigest": "abc"}}, "expectDigest"),
                             ({"checkpoint": {"claimName": ""}}, "claimName"),
                             ({"arena": {"medium": "Disk"}}, "medium"),
                             ({"tls": {"secret": "s"}}, "secret"),
                             ({"tls": {"certManager": {"enabled": True, "issuerName": "i"}}}, "secretName"),
                             ({"tls": {"secretName": "s", "certManager": {"enabled": True}}}, "issuerName"),
                             ({"monitoring": {"rules": "yes"}}, "rules"),
                             ({"monitoring": {"podMonitor": True, "serviceMonitor": True}}, "monitoring"),
                             ({"checkpoint": {"fetch": {"enabled": True, "image": "i:1",
                                                        "command": ["c"]}}}, "expectDigest"),
                             ({"checkpoint": {"expectDigest": "0" * 64, "fetch": {
                                 "enabled": True, "image": "i:1"}}}, "command"),
                             ({"checkpoint": {"fetch": {"image": "i:latest"}}}, "image"),
                             ({"checkpoint": {"fetch": {"url": "u"}}}, "url"),
                             ({"arena": {"medium": "HugePages-2Mi"}}, "hugePages2Mi")):
            done = helm("template", "fleet", CHART, values=values)
            self.assertNotEqual(done.returncode, 0, values)
            self.assertIn(text, done.stderr)


if __name__ == "__main__":
    try:
        fetch("fetch-helm.sh")
    except Missing as error:
        print(f"SKIPPED: helm could not be had: {error}")
        sys.exit(77)
    unittest.main(argv=sys.argv[:1], verbosity=2)
