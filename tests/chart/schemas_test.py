#!/usr/bin/env python3
"""Every value set against the API's schemas, other projects' kinds, and the package.

usage: .cache/tools/venv/bin/python tests/chart/schemas_test.py
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

import yaml
from kubernetes_validate import utils as kubernetes

from chart import CHART, PROGRAMS, ROOT, VALUE_FILES, VALUE_SETS, component_of, each_set, helm, rendered, selects, template

KUBERNETES = ("1.28.0", "1.35.0")  # the oldest that Chart.yaml admits, and the newest schemas
# Kinds of other projects, which kubernetes-validate does not know: checked by hand in CustomResources.
CUSTOM_KINDS = {"ServiceMonitor", "PrometheusRule", "Certificate", "HTTPRoute"}


class Schemas(unittest.TestCase):
    """The API server would take it."""

    def test_there_are_enough_value_sets(self):
        self.assertGreaterEqual(len(VALUE_SETS), 5)

    def test_lint(self):
        for values in VALUE_SETS:
            with self.subTest(values=values):
                helm("lint", "--strict", CHART, "-f", VALUE_FILES[values])
        helm("lint", "--strict", CHART)

    def validate(self, values, version):
        checked = 0
        for obj in rendered(values).objects + rendered(values).given:
            if obj["kind"] not in CUSTOM_KINDS:
                kubernetes.validate(obj, version, True)
                checked += 1
        self.assertGreaterEqual(checked, 4)

    def test_newest_kubernetes(self):
        for values in VALUE_SETS:
            with self.subTest(values=values):
                self.validate(values, KUBERNETES[1])

    def test_oldest_kubernetes(self):
        for values in ("gpu", "cert-manager"):
            with self.subTest(values=values):
                self.validate(values, KUBERNETES[0])

    def test_the_oldest_is_the_charts(self):
        oldest = yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"]
        self.assertEqual(oldest, f">={KUBERNETES[0]}-0")

    def test_the_validator_refuses(self):
        deployment = yaml.safe_load(yaml.safe_dump(rendered("minimal").workload("scheduler")))
        deployment["spec"]["template"]["spec"]["containers"][0]["arguments"] = []
        with self.assertRaises(kubernetes.ValidationError):
            kubernetes.validate(deployment, KUBERNETES[0], True)

    @each_set
    def test_names_are_unique_and_namespaced(self, chart):
        names = [(o["kind"], o["metadata"]["name"]) for o in chart.objects]
        self.assertEqual(len(names), len(set(names)), names)
        for obj in chart.objects:
            self.assertEqual(obj["metadata"]["namespace"], "ns")

    @each_set
    def test_recommended_labels(self, chart):
        for obj in chart.objects:
            labels = obj["metadata"]["labels"]
            for key in ("name", "instance", "version", "managed-by", "part-of"):
                self.assertIn(f"app.kubernetes.io/{key}", labels, obj["metadata"]["name"])
            self.assertIn("helm.sh/chart", labels)

    def test_the_same_values_give_the_same_text(self):
        for values in VALUE_SETS:
            self.assertEqual(template(values), rendered(values).text)

    def test_common_labels_are_everywhere(self):
        chart = rendered("everything")
        for labels in [o["metadata"]["labels"] for o in chart.objects] + [
            p[0] for p in chart.pods().values()
        ]:
            self.assertEqual(labels["team"], "serving")


class CustomResources(unittest.TestCase):
    """Objects of cert-manager and the Prometheus operator."""

    def test_certificate(self):
        chart = rendered("cert-manager")
        certificates = {component_of(c): c["spec"] for c in chart.all("Certificate")}
        self.assertEqual(
            set(certificates), {"scheduler", "router", "worker", "client", "operator", "monitor"}
        )
        for role, spec in certificates.items():
            with self.subTest(role=role):
                self.assertEqual(spec["uris"], [f"spiffe://cell.example/pregate/{role}"])
                self.assertLessEqual({"server auth", "client auth"}, set(spec["usages"]))
                self.assertEqual(
                    spec["issuerRef"],
                    {"name": "pregate-ca", "kind": "ClusterIssuer", "group": "cert-manager.io"},
                )
                self.assertEqual(spec["secretName"], f"demo-pregate-{role}-tls")
                self.assertEqual(spec["privateKey"]["rotationPolicy"], "Always")
                self.assertLessEqual(len(spec["commonName"]), 64)
                self.assertLessEqual(
                    set(spec),
                    {
                        "secretName",
                        "commonName",
                        "uris",
                        "dnsNames",
                        "ipAddresses",
                        "usages",
                        "duration",
                        "renewBefore",
                        "privateKey",
                        "issuerRef",
                    },
                )
                self.assertEqual("dnsNames" in spec, role in PROGRAMS)

    def test_certificate_hosts(self):
        chart = rendered("cert-manager")
        certificates = {component_of(c): c["spec"] for c in chart.all("Certificate")}
        for role in PROGRAMS:
            names = certificates[role]["dnsNames"]
            self.assertIn(f"demo-pregate-{role}.ns.svc.cluster.local", names)
            self.assertIn("localhost", names)
            self.assertIn("127.0.0.1", certificates[role]["ipAddresses"])
        self.assertIn("*.demo-pregate-worker.ns.svc.cluster.local", certificates["worker"]["dnsNames"])
        self.assertIn("pregate.example", certificates["scheduler"]["dnsNames"])
        self.assertIn("192.0.2.7", certificates["scheduler"]["ipAddresses"])

    def test_service_monitors(self):
        for values in ("gpu", "cert-manager", "gateway", "everything"):
            chart = rendered(values)
            for monitor in chart.all("ServiceMonitor"):
                with self.subTest(values=values, monitor=monitor["metadata"]["name"]):
                    self.check_monitor(chart, monitor)
            self.assertEqual(len(chart.all("ServiceMonitor")), len(chart.workloads()))

    def check_monitor(self, chart, monitor):
        spec = monitor["spec"]
        self.assertEqual(spec["namespaceSelector"], {"matchNames": ["ns"]})
        services = [
            s
            for s in chart.all("Service")
            if selects(spec["selector"], s["metadata"]["labels"])
            and any(p["name"] == "metrics" for p in s["spec"]["ports"])
        ]
        self.assertEqual(len(services), 1, "each program is scraped once")
        (endpoint,) = spec["endpoints"]
        self.assertEqual(
            (endpoint["port"], endpoint["scheme"], endpoint["path"]), ("metrics", "https", "/metrics")
        )
        tls = endpoint["tlsConfig"]
        secret = tls["keySecret"]["name"]
        self.assertEqual(secret, tls["ca"]["secret"]["name"])
        self.assertEqual(secret, tls["cert"]["secret"]["name"])
        self.assertIn(secret, ("m", "demo-pregate-monitor-tls"))
        self.assertEqual(
            (tls["ca"]["secret"]["key"], tls["cert"]["secret"]["key"], tls["keySecret"]["key"]),
            ("ca.crt", "tls.crt", "tls.key"),
        )
        for certificate in chart.all("Certificate"):
            if component_of(certificate) == component_of(monitor):
                self.assertIn(tls["serverName"], certificate["spec"]["dnsNames"])
        self.assertNotIn("insecureSkipVerify", tls)
        self.assertLess(int(endpoint["scrapeTimeout"][:-1]), int(endpoint["interval"][:-1]))
        self.assertIn(
            {"targetLabel": "job", "replacement": f"pregate-{component_of(monitor)}"}, endpoint["relabelings"]
        )

    def test_server_name_can_be_given(self):
        for monitor in rendered("everything").all("ServiceMonitor"):
            self.assertEqual(monitor["spec"]["endpoints"][0]["tlsConfig"]["serverName"], "localhost")

    def test_labels_for_the_operator(self):
        chart = rendered("gpu")
        for obj in chart.all("ServiceMonitor") + chart.all("PrometheusRule"):
            self.assertEqual(obj["metadata"]["labels"]["release"], "prometheus")

    def test_rules_are_the_shipped_files(self):
        files = sorted((ROOT / "deploy" / "prometheus" / "rules").glob("*.yml"))
        self.assertTrue(files)
        specs = [rule["spec"] for rule in rendered("gpu").all("PrometheusRule")]
        self.assertCountEqual(specs, [yaml.safe_load(f.read_text()) for f in files])

    def test_dashboards_are_the_shipped_files(self):
        files = sorted((ROOT / "deploy" / "grafana").glob("*.json"))
        self.assertTrue(files)
        maps = [m for m in rendered("gpu").all("ConfigMap")]
        shown = {name: json.loads(text) for m in maps for name, text in m["data"].items()}
        self.assertEqual(shown, {f.name: json.loads(f.read_text()) for f in files})
        for config_map in maps:
            self.assertEqual(config_map["metadata"]["labels"]["grafana_dashboard"], "1")

    def test_nothing_of_them_unless_asked(self):
        for values in ("minimal", "cpu", "dense"):
            self.assertFalse(
                [o for o in rendered(values).objects if o["kind"] in CUSTOM_KINDS | {"ConfigMap"}]
            )


class Package(unittest.TestCase):
    """What `helm package` makes is the same chart."""

    def test_packaged_chart_renders_the_same(self):
        with tempfile.TemporaryDirectory() as folder:
            helm("package", CHART, "--destination", folder)
            (archive,) = pathlib.Path(folder).glob("*.tgz")
            for values in VALUE_SETS:
                self.assertEqual(template(values, chart=archive), rendered(values).text, values)

    def test_readme_and_schema_are_up_to_date(self):
        done = subprocess.run(
            [sys.executable, ROOT / "scripts" / "chart_readme.py", "--check"],
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_values_set_something_for_every_section(self):
        # A value that no template reads would be a lie: each leaf's last key occurs in some template.
        templates = "\n".join(p.read_text() for p in (CHART / "templates").rglob("*") if p.is_file())

        def leaves(value, path=()):
            if (
                isinstance(value, dict)
                and value
                and path[-1:] not in (("requests",), ("limits",), ("labels",))
            ):
                for key, child in value.items():
                    yield from leaves(child, path + (key,))
            else:
                yield path

        for path in leaves(yaml.safe_load((CHART / "values.yaml").read_text())):
            key = next(k for k in reversed(path) if k not in ("requests", "limits"))
            # issuerRef and dns go out whole; secrets are indexed by role.
            if path[:3] == ("tls", "certManager", "issuerRef") or path[:2] in (
                ("tls", "existingSecrets"),
                ("networkPolicy", "dns"),
            ):
                continue
            if path[0] == "podSecurityContext":  # by name, where it is not null
                self.assertIn(f'"{key}"', templates)
                continue
            self.assertRegex(templates, rf"\.{key}\b", ".".join(path))


if __name__ == "__main__":
    unittest.main()
