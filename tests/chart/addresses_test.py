#!/usr/bin/env python3
"""Ports, ranks, names that the programs dial, and probes.

usage: .cache/tools/venv/bin/python tests/chart/addresses_test.py
"""

import re
import unittest

from chart import PORTS, ROOT, VALUE_SETS, component_of, each_set, env, flags, rendered, selects


class Addresses(unittest.TestCase):
    """Ports, ranks and names that the programs dial."""

    @each_set
    def test_ports_listened_exposed_and_named_agree(self, chart):
        for component, port in PORTS.items():
            if component not in chart.workloads():
                continue
            container = chart.container(component)
            given = flags(container)
            self.assertEqual(given["--listen"].rpartition(":")[2], str(port))
            self.assertEqual(given["--metrics-listen"].rpartition(":")[2], str(port + 1))
            self.assertEqual(
                {p["name"]: p["containerPort"] for p in container["ports"]},
                {"grpc": port, "metrics": port + 1},
            )

    @each_set
    def test_services_lead_to_their_pods(self, chart):
        for service in chart.all("Service"):
            component = component_of(service)
            matched = [
                c
                for c, (labels, _) in chart.pods().items()
                if selects({"matchLabels": service["spec"]["selector"]}, labels)
            ]
            self.assertEqual(matched, [component])
            ports = {p["name"]: p["containerPort"] for p in chart.container(component)["ports"]}
            for port in service["spec"]["ports"]:
                wanted = 80 if port["name"] == "http" else ports[port["targetPort"]]
                self.assertEqual(port["port"], wanted)

    @each_set
    def test_workers_by_rank(self, chart):
        workers = chart.workload("worker")
        name, replicas = workers["metadata"]["name"], workers["spec"]["replicas"]
        domain = "cluster.example" if "cluster.example" in chart.text else "cluster.local"
        self.assertEqual(
            flags(chart.container("scheduler"))["--workers"].split(","),
            [f"{name}-{rank}.{name}.ns.svc.{domain}:7620" for rank in range(replicas)],
        )
        self.assertEqual(flags(chart.container("worker"))["--world-size"], str(replicas))

    def test_replicas_differ_between_sets(self):
        self.assertGreaterEqual(
            {rendered(v).workload("worker")["spec"]["replicas"] for v in VALUE_SETS}, {1, 2, 3, 4}
        )

    @each_set
    def test_router_address(self, chart):
        given = flags(chart.container("scheduler"))
        self.assertEqual("--router" in given, "router" in chart.workloads())
        if "--router" in given:
            self.assertEqual(
                given["--router"].split(".")[0], chart.one("Service", "router")["metadata"]["name"]
            )
            self.assertTrue(given["--router"].endswith(":7610"))

    @each_set
    def test_rank_from_the_pod_index(self, chart):
        variables = env(chart.container("worker"))
        self.assertEqual(
            variables["PREGATE_RANK"]["valueFrom"]["fieldRef"]["fieldPath"],
            "metadata.labels['apps.kubernetes.io/pod-index']",
        )
        self.assertNotIn("--rank", flags(chart.container("worker")))

    @each_set
    def test_workers_dial_each_other_by_pod_address(self, chart):
        several = chart.workload("worker")["spec"]["replicas"] > 1
        variables, given = env(chart.container("worker")), flags(chart.container("worker"))
        self.assertEqual("PREGATE_COLLECTIVE_HOST" in variables, several)
        self.assertEqual("--collective-insecure" in given, several)
        if several:
            self.assertEqual(
                variables["PREGATE_COLLECTIVE_HOST"]["valueFrom"]["fieldRef"]["fieldPath"], "status.podIP"
            )

    def test_threads_follow_the_cpu_request(self):
        variables = env(rendered("minimal").container("worker"))
        self.assertEqual(
            variables["PREGATE_THREADS"]["valueFrom"]["resourceFieldRef"],
            {"containerName": "worker", "resource": "requests.cpu", "divisor": "1"},
        )
        self.assertNotIn("--threads", flags(rendered("minimal").container("worker")))
        self.assertEqual(flags(rendered("dense").container("worker"))["--threads"], "4")
        self.assertNotIn("PREGATE_THREADS", env(rendered("dense").container("worker")))

    def test_listen_address(self):
        self.assertEqual(flags(rendered("minimal").container("worker"))["--listen"], "0.0.0.0:7620")
        everything = rendered("everything").container("worker")
        self.assertEqual(flags(everything)["--listen"], "[::]:7620")
        self.assertIn("--server=[::1]:7620", everything["readinessProbe"]["exec"]["command"])

    def test_external_service_has_the_api_alone(self):
        (external,) = [
            s for s in rendered("gpu").all("Service") if s["metadata"]["name"].endswith("-external")
        ]
        self.assertEqual([p["port"] for p in external["spec"]["ports"]], [7600])
        self.assertEqual(external["spec"]["type"], "LoadBalancer")
        self.assertEqual(external["spec"]["loadBalancerSourceRanges"], ["10.0.0.0/8"])
        self.assertNotIn("-external", rendered("minimal").text)

    @each_set
    def test_all_speak_tls_in_one_trust_domain(self, chart):
        domains = {flags(chart.container(c))["--tls-trust-domain"] for c in chart.pods()}
        self.assertEqual(len(domains), 1)


class Probes(unittest.TestCase):
    """They tell the truth, and restart only what a restart helps."""

    def probes(self, chart):
        for component in chart.cell():
            container = chart.container(component)
            yield component, container, {
                k: container[f"{k}Probe"] for k in ("startup", "readiness", "liveness")
            }

    @each_set
    def test_each_asks_its_own_port_with_its_own_certificate(self, chart):
        for component, container, probes in self.probes(chart):
            for probe in probes.values():
                command = probe["exec"]["command"]
                self.assertEqual(command[:2], ["pregate", "health"])
                self.assertRegex(command[2], rf"^--server=(127\.0\.0\.1|\[::1\]):{PORTS[component]}$")
                given = flags(container)
                for flag in ("--tls-dir", "--tls-trust-domain"):
                    self.assertIn(f"{flag}={given[flag]}", command)

    @each_set
    def test_only_readiness_asks_for_serving(self, chart):
        for _, _, probes in self.probes(chart):
            self.assertNotIn("--live", probes["readiness"]["exec"]["command"])
            for kind in ("startup", "liveness"):
                self.assertIn("--live", probes[kind]["exec"]["command"])

    @each_set
    def test_the_program_gives_up_before_the_kubelet(self, chart):
        for _, _, probes in self.probes(chart):
            for probe in probes.values():
                timeout = next(a for a in probe["exec"]["command"] if a.startswith("--timeout-s="))
                self.assertLess(float(timeout.partition("=")[2]), probe["timeoutSeconds"])

    @each_set
    def test_startup_lasts_as_long_as_a_load(self, chart):
        for component, container, probes in self.probes(chart):
            seconds = probes["startup"]["periodSeconds"] * probes["startup"]["failureThreshold"]
            self.assertGreaterEqual(seconds, 1800 if component == "worker" else 60)

    @each_set
    def test_liveness_outlasts_the_forming_of_a_group(self, chart):
        limits = (ROOT / "common" / "base" / "limits.h").read_text()
        meet_s = int(re.search(r"kMeetTimeoutMsMax, (\d+)", limits).group(1)) / 1000
        for _, _, probes in self.probes(chart):
            seconds = probes["liveness"]["periodSeconds"] * (probes["liveness"]["failureThreshold"] - 1)
            self.assertGreater(seconds, meet_s)

    def test_readiness_turns_at_the_first_miss(self):
        for _, _, probes in self.probes(rendered("minimal")):
            self.assertEqual(probes["readiness"]["failureThreshold"], 1)
            self.assertLessEqual(probes["readiness"]["periodSeconds"], 10)

    def test_the_gateway_is_asked_over_http(self):
        container = rendered("gateway").container("gateway")
        asked = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")}
        self.assertEqual(asked["readiness"], {"path": "/health", "port": "http"}, "whether a scheduler is ready")
        for kind in ("startup", "liveness"):
            self.assertEqual(asked[kind], {"path": "/version", "port": "http"}, "a restart would bring no scheduler")

    def test_the_test_pod_has_none(self):
        self.assertFalse([k for k in rendered("minimal").container("test") if k.endswith("Probe")])


if __name__ == "__main__":
    unittest.main()
