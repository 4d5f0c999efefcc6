#!/usr/bin/env python3
"""What the chart renders, without a cluster: every value set against the API's schemas and against our promises.

usage: with_tools.sh render_test.py     (PREGATE_BIN_DIR: where the programs are, to compare flags with)
"""
import functools
import itertools
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

import yaml
from kubernetes_validate import utils as kubernetes

from arrows import Pod, allowed
from chart import (CHART, PORTS, ROOT, VALUE_SETS, Refused, Rendered, component_of, env, flags, helm, quantity,
                   selects, template)

KUBERNETES = "1.35.0"
# Kinds of other projects, whose schemas kubernetes-validate does not have: checked by hand in CustomResources.
CUSTOM_KINDS = {"ServiceMonitor", "PrometheusRule", "Certificate"}
PROGRAMS = {"scheduler": "pregate-scheduler", "router": "pregate-router", "worker": "pregate-worker"}
BIN = pathlib.Path(os.environ.get("PREGATE_BIN_DIR", ROOT / "build" / "debug" / "bin"))


@functools.lru_cache(maxsize=None)
def rendered(values, release="demo", namespace="ns"):
    """A value set's objects; read only."""
    return Rendered(values, release=release, namespace=namespace)


def each_set(test):
    """Runs a test method once for each value set."""
    @functools.wraps(test)
    def run(self):
        for values in VALUE_SETS:
            with self.subTest(values=values):
                test(self, rendered(values))
    return run


class Schemas(unittest.TestCase):
    """The API server would take it."""

    def test_there_are_enough_value_sets(self):
        self.assertGreaterEqual(len(VALUE_SETS), 5)

    def test_lint(self):
        for values in VALUE_SETS:
            with self.subTest(values=values):
                helm("lint", "--strict", CHART, "-f", CHART / "ci" / f"{values}.yaml")

    @each_set
    def test_kubernetes(self, chart):
        checked = 0
        for obj in chart.objects:
            if obj["kind"] in CUSTOM_KINDS:
                continue
            kubernetes.validate(obj, KUBERNETES, True)
            checked += 1
        self.assertGreaterEqual(checked, 4)

    def test_the_validator_refuses(self):
        deployment = yaml.safe_load(yaml.safe_dump(rendered("minimal").workload("scheduler")))
        deployment["spec"]["template"]["spec"]["containers"][0]["arguments"] = []
        with self.assertRaises(kubernetes.ValidationError):
            kubernetes.validate(deployment, KUBERNETES, True)

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
        for labels in [o["metadata"]["labels"] for o in chart.objects] + [p[0] for p in chart.pods().values()]:
            self.assertEqual(labels["team"], "serving")


class CustomResources(unittest.TestCase):
    """Objects of cert-manager and the Prometheus operator."""

    def test_certificate(self):
        chart = rendered("cert-manager")
        certificates = {component_of(c): c["spec"] for c in chart.all("Certificate")}
        self.assertEqual(set(certificates), {"scheduler", "router", "worker", "client", "operator", "monitor"})
        for role, spec in certificates.items():
            with self.subTest(role=role):
                self.assertEqual(spec["uris"], [f"spiffe://cell.example/pregate/{role}"])
                self.assertLessEqual({"server auth", "client auth"}, set(spec["usages"]))
                self.assertEqual(spec["issuerRef"],
                                 {"name": "pregate-ca", "kind": "ClusterIssuer", "group": "cert-manager.io"})
                self.assertEqual(spec["secretName"], f"demo-pregate-{role}-tls")
                self.assertEqual(spec["privateKey"]["rotationPolicy"], "Always")
                self.assertLessEqual(len(spec["commonName"]), 64)
                self.assertLessEqual(set(spec), {"secretName", "commonName", "uris", "dnsNames", "ipAddresses", "usages",
                                                 "duration", "renewBefore", "privateKey", "issuerRef"})
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
        for values in ("gpu", "cert-manager", "everything"):
            chart = rendered(values)
            for monitor in chart.all("ServiceMonitor"):
                with self.subTest(values=values, monitor=monitor["metadata"]["name"]):
                    self.check_monitor(chart, monitor)
            self.assertEqual(len(chart.all("ServiceMonitor")), 3)

    def check_monitor(self, chart, monitor):
        spec = monitor["spec"]
        self.assertEqual(spec["namespaceSelector"], {"matchNames": ["ns"]})
        services = [s for s in chart.all("Service") if selects(spec["selector"], s["metadata"]["labels"])
                    and any(p["name"] == "metrics" for p in s["spec"]["ports"])]
        self.assertEqual(len(services), 1, "each program is scraped once")
        (endpoint,) = spec["endpoints"]
        self.assertEqual((endpoint["port"], endpoint["scheme"], endpoint["path"]), ("metrics", "https", "/metrics"))
        tls = endpoint["tlsConfig"]
        secret = tls["keySecret"]["name"]
        self.assertEqual(secret, tls["ca"]["secret"]["name"])
        self.assertEqual(secret, tls["cert"]["secret"]["name"])
        self.assertIn(secret, ("m", "demo-pregate-monitor-tls"))
        self.assertEqual((tls["ca"]["secret"]["key"], tls["cert"]["secret"]["key"], tls["keySecret"]["key"]),
                         ("ca.crt", "tls.crt", "tls.key"))
        for certificate in chart.all("Certificate"):
            if component_of(certificate) == component_of(monitor):
                self.assertIn(tls["serverName"], certificate["spec"]["dnsNames"])
        self.assertNotIn("insecureSkipVerify", tls)
        self.assertLess(int(endpoint["scrapeTimeout"][:-1]), int(endpoint["interval"][:-1]))
        self.assertIn({"targetLabel": "job", "replacement": f"pregate-{component_of(monitor)}"}, endpoint["relabelings"])

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
            self.assertFalse([o for o in rendered(values).objects if o["kind"] in CUSTOM_KINDS | {"ConfigMap"}])


class Workloads(unittest.TestCase):
    """Deployments, the StatefulSet and their pods."""

    def test_which_there_are(self):
        self.assertEqual(set(rendered("minimal").workloads()), {"scheduler", "router", "worker"})
        self.assertEqual(set(rendered("dense").workloads()), {"scheduler", "worker"})

    @each_set
    def test_one_scheduler_recreated(self, chart):
        spec = chart.workload("scheduler")["spec"]
        self.assertEqual(spec["replicas"], 1)
        self.assertEqual(spec["strategy"], {"type": "Recreate"})

    def test_router_is_replaced_before_it_goes(self):
        spec = rendered("minimal").workload("router")["spec"]
        self.assertEqual(spec["replicas"], 1)
        self.assertEqual(spec["strategy"]["rollingUpdate"], {"maxSurge": 1, "maxUnavailable": 0})

    @each_set
    def test_stateful_set(self, chart):
        workers = chart.workload("worker")
        self.assertEqual(workers["spec"]["podManagementPolicy"], "Parallel")
        service = chart.one("Service", "worker")
        self.assertEqual(workers["spec"]["serviceName"], service["metadata"]["name"])
        self.assertEqual(service["spec"]["clusterIP"], "None")
        self.assertTrue(service["spec"]["publishNotReadyAddresses"])

    @each_set
    def test_selectors_match_their_own_pods_only(self, chart):
        for (component, workload), (other, (labels, _)) in itertools.product(
                chart.workloads().items(), chart.pods().items()):
            self.assertEqual(selects(workload["spec"]["selector"], labels), component == other, (component, other))

    @each_set
    def test_restricted_pods(self, chart):
        for component, (_, spec) in chart.pods().items():
            security = spec["securityContext"]
            self.assertIs(security["runAsNonRoot"], True, component)
            self.assertGreater(security["runAsUser"], 0)
            self.assertGreater(security["runAsGroup"], 0)
            self.assertEqual(security["seccompProfile"], {"type": "RuntimeDefault"})
            for key in ("hostNetwork", "hostPID", "hostIPC", "initContainers"):
                self.assertNotIn(key, spec)

    @each_set
    def test_restricted_containers(self, chart):
        for component in chart.pods():
            self.assertEqual(chart.container(component)["securityContext"], {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]}}, component)

    @each_set
    def test_no_service_account_token(self, chart):
        for _, spec in chart.pods().values():
            self.assertIs(spec["automountServiceAccountToken"], False)
        for account in chart.all("ServiceAccount"):
            self.assertIs(account["automountServiceAccountToken"], False)

    @each_set
    def test_service_account_exists(self, chart):
        made = {a["metadata"]["name"] for a in chart.all("ServiceAccount")} or {"default"}
        for _, spec in chart.pods().values():
            self.assertIn(spec["serviceAccountName"], made)

    @each_set
    def test_no_service_links(self, chart):
        for _, spec in chart.pods().values():
            self.assertIs(spec["enableServiceLinks"], False)

    @each_set
    def test_requests_and_limits(self, chart):
        for component in chart.pods():
            resources = chart.container(component)["resources"]
            for name in ("cpu", "memory"):
                self.assertGreater(quantity(resources["requests"][name]), 0, component)
            self.assertIn("memory", resources["limits"])
            for name, limit in resources["limits"].items():
                if name in resources["requests"]:
                    self.assertLessEqual(quantity(resources["requests"][name]), quantity(limit), (component, name))

    @each_set
    def test_grace_exceeds_drain(self, chart):
        scheduler = chart.pods()["scheduler"][1]
        drain = int(flags(chart.container("scheduler"))["--drain-timeout-s"])
        self.assertGreaterEqual(scheduler["terminationGracePeriodSeconds"], drain + 5 + 5)
        for component in set(chart.workloads()) - {"scheduler"}:
            # The router answers for 5 s and closes for 1 s (router_server.cc), a worker closes for 1 s.
            self.assertGreaterEqual(chart.pods()[component][1]["terminationGracePeriodSeconds"], 10)

    @each_set
    def test_images(self, chart):
        for component in chart.pods():
            image = chart.container(component)["image"]
            self.assertRegex(image, r"^[^\s@]+(:[\w.-]+|@sha256:[0-9a-f]{64})$")
            self.assertNotRegex(image, r":latest$")

    def test_image_tag_is_the_app_version(self):
        version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
        for component in rendered("minimal").pods():
            self.assertEqual(rendered("minimal").container(component)["image"], f"pregate:{version}-cpu")
        cuda = Rendered("minimal", sets=["worker.gpu.enabled=true"])
        self.assertEqual(cuda.container("worker")["image"], f"pregate:{version}-cuda")
        self.assertEqual(cuda.container("scheduler")["image"], f"pregate:{version}-cpu")

    def test_app_version_is_the_programs(self):
        cmake = re.search(r"project\(pregate VERSION ([\d.]+)", (ROOT / "CMakeLists.txt").read_text()).group(1)
        self.assertEqual(yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"], cmake)

    def test_image_overrides(self):
        chart = rendered("gpu")
        self.assertRegex(chart.container("scheduler")["image"], r"^registry.example/serving/pregate@sha256:0123")
        self.assertEqual(chart.container("worker")["image"], "registry.example/serving/pregate:0.1.0-cuda13")
        self.assertEqual(chart.pods()["worker"][1]["imagePullSecrets"], [{"name": "registry-login"}])
        self.assertEqual(rendered("everything").container("scheduler")["imagePullPolicy"], "Never")
        self.assertEqual(rendered("everything").container("router")["imagePullPolicy"], "Always")

    @each_set
    def test_volumes_are_read_only_and_all_mounted(self, chart):
        for component, (_, spec) in chart.pods().items():
            mounts = chart.container(component)["volumeMounts"]
            self.assertEqual({m["name"] for m in mounts}, {v["name"] for v in spec["volumes"]}, component)
            for mount in mounts:
                self.assertIs(mount["readOnly"], True)

    @each_set
    def test_mounts_are_where_the_flags_point(self, chart):
        for component in chart.pods():
            mounts = {m["name"]: m["mountPath"] for m in chart.container(component)["volumeMounts"]}
            given = flags(chart.container(component))
            self.assertEqual(given["--tls-dir"], mounts["tls"])
            if component != "test":
                self.assertRegex(given["--model"], f"^{mounts['model']}(/|$)")

    @each_set
    def test_each_pod_has_its_own_roles_secret_only(self, chart):
        expected = {"test": "client"}
        for component, (_, spec) in chart.pods().items():
            secrets = [v["secret"] for v in spec["volumes"] if "secret" in v]
            self.assertEqual(len(secrets), 1)
            self.assertEqual(secrets[0]["defaultMode"], 0o440)
            role = expected.get(component, component)
            self.assertIn(secrets[0]["secretName"],
                          (role[0], f"pregate-{role}", f"cell-{role}", f"demo-pregate-{role}-tls"))

    def test_model_volumes(self):
        def volume(values):
            spec = rendered(values).pods()["worker"][1]
            return next(v for v in spec["volumes"] if v["name"] == "model")
        self.assertEqual(volume("minimal")["persistentVolumeClaim"], {"claimName": "models", "readOnly": True})
        self.assertEqual(volume("cpu")["hostPath"], {"path": "/srv/models/tiny", "type": "Directory"})
        self.assertEqual(volume("gpu")["nfs"]["server"], "nfs.example")

    def test_placement(self):
        chart = rendered("gpu")
        spec = chart.pods()["worker"][1]
        self.assertEqual(spec["nodeSelector"], {"nvidia.com/gpu.product": "NVIDIA-H200"})
        self.assertEqual(spec["tolerations"][0]["key"], "nvidia.com/gpu")
        self.assertIn("podAffinity", spec["affinity"])
        self.assertEqual(spec["runtimeClassName"], "nvidia")
        (spread,) = spec["topologySpreadConstraints"]
        self.assertEqual(spread["labelSelector"], chart.workload("worker")["spec"]["selector"])
        self.assertNotIn("nodeSelector", chart.pods()["scheduler"][1])
        scheduler = rendered("everything").pods()["scheduler"]
        self.assertEqual(scheduler[1]["priorityClassName"], "high")
        self.assertEqual(scheduler[0]["tier"], "front")

    def test_gpu(self):
        worker = rendered("gpu").container("worker")
        self.assertEqual(worker["resources"]["limits"]["nvidia.com/gpu"], 1)
        self.assertEqual(flags(worker)["--device"], "cuda")
        cpu = rendered("minimal").container("worker")
        self.assertEqual(flags(cpu)["--device"], "cpu")
        self.assertNotIn("nvidia.com/gpu", cpu["resources"]["limits"])


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
            self.assertEqual({p["name"]: p["containerPort"] for p in container["ports"]},
                             {"grpc": port, "metrics": port + 1})

    @each_set
    def test_services_lead_to_their_pods(self, chart):
        for service in chart.all("Service"):
            component = component_of(service)
            matched = [c for c, (labels, _) in chart.pods().items()
                       if selects({"matchLabels": service["spec"]["selector"]}, labels)]
            self.assertEqual(matched, [component])
            ports = {p["name"]: p["containerPort"] for p in chart.container(component)["ports"]}
            for port in service["spec"]["ports"]:
                self.assertEqual(ports[port["targetPort"]], port["port"])

    @each_set
    def test_workers_by_rank(self, chart):
        workers = chart.workload("worker")
        name, replicas = workers["metadata"]["name"], workers["spec"]["replicas"]
        domain = "cluster.example" if "cluster.example" in chart.text else "cluster.local"
        self.assertEqual(flags(chart.container("scheduler"))["--workers"].split(","),
                         [f"{name}-{rank}.{name}.ns.svc.{domain}:7620" for rank in range(replicas)])
        self.assertEqual(flags(chart.container("worker"))["--world-size"], str(replicas))

    def test_replicas_differ_between_sets(self):
        self.assertGreaterEqual({rendered(v).workload("worker")["spec"]["replicas"] for v in VALUE_SETS}, {1, 2, 3, 4})

    @each_set
    def test_router_address(self, chart):
        given = flags(chart.container("scheduler"))
        self.assertEqual("--router" in given, "router" in chart.workloads())
        if "--router" in given:
            self.assertEqual(given["--router"].split(".")[0], chart.one("Service", "router")["metadata"]["name"])
            self.assertTrue(given["--router"].endswith(":7610"))

    @each_set
    def test_rank_from_the_pod_index(self, chart):
        variables = env(chart.container("worker"))
        self.assertEqual(variables["PREGATE_RANK"]["valueFrom"]["fieldRef"]["fieldPath"],
                         "metadata.labels['apps.kubernetes.io/pod-index']")
        self.assertNotIn("--rank", flags(chart.container("worker")))

    @each_set
    def test_workers_dial_each_other_by_pod_address(self, chart):
        several = chart.workload("worker")["spec"]["replicas"] > 1
        variables, given = env(chart.container("worker")), flags(chart.container("worker"))
        self.assertEqual("PREGATE_COLLECTIVE_HOST" in variables, several)
        self.assertEqual("--collective-insecure" in given, several)
        if several:
            self.assertEqual(variables["PREGATE_COLLECTIVE_HOST"]["valueFrom"]["fieldRef"]["fieldPath"], "status.podIP")

    def test_threads_follow_the_cpu_request(self):
        variables = env(rendered("minimal").container("worker"))
        self.assertEqual(variables["PREGATE_THREADS"]["valueFrom"]["resourceFieldRef"],
                         {"containerName": "worker", "resource": "requests.cpu", "divisor": "1"})
        self.assertNotIn("--threads", flags(rendered("minimal").container("worker")))
        self.assertEqual(flags(rendered("dense").container("worker"))["--threads"], "4")
        self.assertNotIn("PREGATE_THREADS", env(rendered("dense").container("worker")))

    def test_listen_address(self):
        self.assertEqual(flags(rendered("minimal").container("worker"))["--listen"], "0.0.0.0:7620")
        everything = rendered("everything").container("worker")
        self.assertEqual(flags(everything)["--listen"], "[::]:7620")
        self.assertIn("--server=[::1]:7620", everything["readinessProbe"]["exec"]["command"])

    def test_external_service_has_the_api_alone(self):
        (external,) = [s for s in rendered("gpu").all("Service") if s["metadata"]["name"].endswith("-external")]
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
        for component in chart.workloads():
            container = chart.container(component)
            yield component, container, {k: container[f"{k}Probe"] for k in ("startup", "readiness", "liveness")}

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
        limits = (ROOT / "common" / "config" / "limits.h").read_text()
        meet_s = int(re.search(r"kMeetTimeoutMsMax, (\d+)", limits).group(1)) / 1000
        for _, _, probes in self.probes(chart):
            seconds = probes["liveness"]["periodSeconds"] * (probes["liveness"]["failureThreshold"] - 1)
            self.assertGreater(seconds, meet_s)

    @each_set
    def test_readiness_turns_at_the_first_miss(self, chart):
        for _, _, probes in self.probes(chart):
            self.assertEqual(probes["readiness"]["failureThreshold"], 1)
            self.assertLessEqual(probes["readiness"]["periodSeconds"], 10)

    def test_the_test_pod_has_none(self):
        self.assertFalse([k for k in rendered("minimal").container("test") if k.endswith("Probe")])


class NetworkPolicies(unittest.TestCase):
    """Exactly the arrows of docs/ARCHITECTURE.md."""

    # source -> target: the ports (None: any) that may be dialled. What is not here is refused.
    ARROWS = {
        ("client", "scheduler"): {7600},
        ("test", "scheduler"): {7600},
        ("scheduler", "router"): {7610},
        ("scheduler", "worker"): {7620},
        ("worker", "worker"): None,
        ("prometheus", "scheduler"): {7601},
        ("prometheus", "router"): {7611},
        ("prometheus", "worker"): {7621},
        ("scheduler", "dns"): {53},
        ("test", "dns"): {53},
    }
    TRIED = (22, 53, 443, 7600, 7601, 7610, 7611, 7620, 7621, 34567)

    def world(self, chart, client):
        pods = {c: Pod("ns", labels, "10.1.0.5") for c, (labels, _) in chart.pods().items()}
        pods["client"] = client
        pods["stranger"] = Pod("ns", {"app": "x"}, "172.16.0.9")
        pods["other-namespace"] = Pod("elsewhere", {"demo-pregate-client": "true"}, "172.16.0.8")
        pods["internet"] = Pod(None, None, "198.51.100.7")
        monitoring = "prom" if "name: prom\n" in chart.text else "observability" if "observability" in chart.text else "monitoring"
        pods["prometheus"] = Pod(monitoring, {"app": "prometheus"}, "172.16.0.7")
        pods["dns"] = Pod("kube-system", {"k8s-app": "kube-dns"}, "169.254.20.10")
        return pods

    def check(self, values, client):
        chart = rendered(values)
        policies = chart.all("NetworkPolicy")
        pods = self.world(chart, client)
        ours = set(chart.pods())
        for (source, a), (target, b), port in itertools.product(pods.items(), pods.items(), self.TRIED):
            if not {source, target} & ours:
                continue  # traffic among others is none of the chart's business
            ports = self.ARROWS.get((source, target), set())
            expected = ports is None or port in ports
            self.assertEqual(allowed(policies, a, b, port), expected, f"{values}: {source} -> {target}:{port}")

    def test_arrows_with_the_client_label(self):
        for values in ("minimal", "cpu"):
            self.check(values, Pod("ns", {"demo-pregate-client": "true"}, "172.16.0.5"))
        self.check("cert-manager", Pod("ns", {"demo-pregate-client": "true"}, "172.16.0.5"))

    def test_arrows_with_given_clients(self):
        self.check("everything", Pod("apps", {}, "172.16.0.5"))
        chart = rendered("gpu")
        scheduler = Pod("ns", chart.pods()["scheduler"][0])
        policies = chart.all("NetworkPolicy")
        self.assertTrue(allowed(policies, Pod(None, None, "10.2.3.4"), scheduler, 7600))
        self.assertFalse(allowed(policies, Pod(None, None, "11.2.3.4"), scheduler, 7600))
        self.assertFalse(allowed(policies, Pod("ns", {"demo-pregate-client": "true"}), scheduler, 7600))

    def test_dns_over_udp(self):
        chart = rendered("minimal")
        scheduler, dns = Pod("ns", chart.pods()["scheduler"][0]), Pod("kube-system", {"k8s-app": "kube-dns"})
        self.assertTrue(allowed(chart.all("NetworkPolicy"), scheduler, dns, 53, "UDP"))
        self.assertFalse(allowed(chart.all("NetworkPolicy"), scheduler, dns, 54, "UDP"))

    def test_default_deny_covers_all_pods(self):
        chart = rendered("minimal")
        (deny,) = [p for p in chart.all("NetworkPolicy") if p["metadata"]["name"].endswith("-default-deny")]
        self.assertEqual(deny["spec"]["policyTypes"], ["Ingress", "Egress"])
        self.assertNotIn("ingress", deny["spec"])
        for labels, _ in chart.pods().values():
            self.assertTrue(selects(deny["spec"]["podSelector"], labels))

    def test_two_releases_do_not_reach_each_other(self):
        one, two = rendered("cpu", release="one"), rendered("cpu", release="two")
        policies = one.all("NetworkPolicy") + two.all("NetworkPolicy")
        for (_, (a, _)), (_, (b, _)) in itertools.product(one.pods().items(), two.pods().items()):
            self.assertFalse(any(allowed(policies, Pod("ns", a), Pod("ns", b), port) for port in self.TRIED))

    def test_off(self):
        self.assertFalse(rendered("dense").all("NetworkPolicy"))


class Disruption(unittest.TestCase):
    """PodDisruptionBudgets."""

    def test_workers(self):
        for values in ("minimal", "gpu"):
            chart = rendered(values)
            budget = chart.one("PodDisruptionBudget", "worker")["spec"]
            self.assertEqual(budget["maxUnavailable"], 1)
            self.assertEqual(budget["unhealthyPodEvictionPolicy"], "AlwaysAllow")
            self.assertEqual(budget["selector"], chart.workload("worker")["spec"]["selector"])
        self.assertFalse(rendered("dense").all("PodDisruptionBudget"))

    def test_scheduler_only_if_asked(self):
        self.assertEqual(len(rendered("minimal").all("PodDisruptionBudget")), 1)
        chart = rendered("gpu")
        budget = chart.one("PodDisruptionBudget", "scheduler")["spec"]
        self.assertEqual(budget["maxUnavailable"], 0)
        self.assertEqual(budget["selector"], chart.workload("scheduler")["spec"]["selector"])


class HelmTest(unittest.TestCase):
    """The pod of `helm test`."""

    def test_it_is_a_hook(self):
        pod = rendered("minimal").workload("test")
        self.assertEqual(pod["metadata"]["annotations"]["helm.sh/hook"], "test")
        self.assertEqual(pod["spec"]["restartPolicy"], "Never")
        self.assertFalse(rendered("dense").all("Pod"))

    def test_it_asks_the_scheduler_and_refuses_an_empty_answer(self):
        for values in ("minimal", "everything"):
            chart = rendered(values)
            container = chart.container("test")
            self.assertEqual(container["command"], ["pregate", "generate"])
            given = flags(container)
            host = chart.one("Service", "scheduler")["metadata"]["name"]
            self.assertTrue(given["--server"].startswith(f"{host}.ns.svc."))
            self.assertIs(given["--require-text"], True)
        self.assertEqual(flags(rendered("everything").container("test"))["--prompt"], 'Say "hello": now')

    def test_its_deadline_exceeds_its_wait(self):
        pod = rendered("minimal").workload("test")
        self.assertGreater(pod["spec"]["activeDeadlineSeconds"],
                           int(flags(pod["spec"]["containers"][0])["--wait-s"]))

    def test_it_carries_the_client_label(self):
        self.assertEqual(rendered("minimal").workload("test")["metadata"]["labels"]["demo-pregate-client"], "true")


class Names(unittest.TestCase):
    """Long names and two releases."""

    LONG = "a-release-with-a-name-that-uses-all-of-helms-53-chars"

    def test_all_fit(self):
        self.assertEqual(len(self.LONG), 53)
        for values in ("gpu", "cert-manager", "everything"):
            chart = rendered(values, release=self.LONG)
            for obj in chart.objects:
                name = obj["metadata"]["name"]
                self.assertLessEqual(len(name), 63, name)
                self.assertRegex(name, r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
                for value in obj["metadata"]["labels"].values():
                    self.assertLessEqual(len(value), 63)
            workers = chart.workload("worker")["metadata"]["name"]
            self.assertLessEqual(len(f"{workers}-0123456789"), 63, "label controller-revision-hash")
            self.assertLessEqual(len(f"{workers}-255"), 63, "host name")

    def test_long_names_with_one_start_stay_apart(self):
        one, two = self.LONG[:-1] + "a", self.LONG[:-1] + "b"
        self.assert_apart(rendered("gpu", release=one), rendered("gpu", release=two))

    def test_two_releases_in_a_namespace(self):
        for values in VALUE_SETS:
            if values != "dense":  # has a fullnameOverride
                self.assert_apart(rendered(values, release="one"), rendered(values, release="two"))

    def assert_apart(self, one, two):
        def names(chart):
            return {(o["kind"], o["metadata"]["name"]) for o in chart.objects}
        self.assertFalse(names(one) & names(two))
        for (_, workload), (_, (labels, _)) in itertools.product(one.workloads().items(), two.pods().items()):
            self.assertFalse(selects(workload["spec"]["selector"], labels))

    def test_full_name_rules(self):
        self.assertEqual(rendered("minimal", release="pregate").workload("router")["metadata"]["name"], "pregate-router")
        self.assertEqual(rendered("dense").workload("worker")["metadata"]["name"], "dense-worker")


class Refusals(unittest.TestCase):
    """Bad values are refused, and the message names the field."""

    def assert_refused(self, message, *sets, values="minimal"):
        with self.assertRaises(Refused, msg=sets) as caught:
            template(values, sets=sets)
        self.assertRegex(str(caught.exception), message)

    def test_no_values(self):
        self.assert_refused("no model: set one of model.existingClaim, model.hostPath and model.volume", values=None)

    def test_no_tls(self):
        self.assert_refused("no TLS: .*plaintext.*tls.existingSecrets.*tls.certManager.enabled",
                            "model.existingClaim=m", values=None)

    def test_two_models(self):
        self.assert_refused("more than one model: model.existingClaim, model.hostPath", "model.hostPath=/m")

    def test_missing_secrets(self):
        for role in ("scheduler", "router", "worker", "client"):
            self.assert_refused(rf"tls.existingSecrets.{role} is missing", f"tls.existingSecrets.{role}=")
        self.assert_refused("tls.existingSecrets.monitor is missing", "monitoring.serviceMonitor.enabled=true")

    def test_both_kinds_of_tls(self):
        self.assert_refused("both given", "tls.certManager.enabled=true", "tls.certManager.issuerRef.name=x")

    def test_issuer_without_a_name(self):
        self.assert_refused("issuerRef.name", "tls.certManager.issuerRef.name=", values="cert-manager")

    def test_plaintext_activations_in_the_open(self):
        self.assert_refused("worker.collectiveInsecure", "networkPolicy.enabled=false", values="cpu")
        template("cpu", sets=["networkPolicy.enabled=false", "worker.collectiveInsecure=true"])

    def test_flags_that_the_chart_sets(self):
        chart = rendered("everything")
        for component in PROGRAMS:
            ours = {name.removeprefix("PREGATE_").lower().replace("_", "-") for name in env(chart.container(component))
                    if name.startswith("PREGATE_")} | {flag[2:] for flag in flags(chart.container(component))}
            for flag in sorted(ours - {"port-file", "kv-blocks"}):  # its extraArgs
                self.assert_refused(rf"{component}.extraArgs: --{flag} is set by the chart",
                                    f'{component}.extraArgs=["--{flag}=1"]')

    def test_unknown_keys_at_every_level(self):
        defaults = yaml.safe_load((CHART / "values.yaml").read_text())

        def mappings(value, path=()):
            if isinstance(value, dict):
                yield path
                for key, child in value.items():
                    yield from mappings(child, path + (key,))
        free = {("commonLabels",), ("model", "volume"), ("monitoring", "dashboards", "labels")}
        tried = 0
        for path in mappings(defaults):
            if path in free or path[-1:] in ((("annotations"),), ("labels",), ("podLabels",), ("podAnnotations",),
                                             ("nodeSelector",), ("requests",), ("limits",)):
                continue
            self.assert_refused(r"additional properties 'surprise' not allowed", ".".join(path + ("surprise",)) + "=1")
            tried += 1
        self.assertGreater(tried, 20)

    def test_wrong_types_and_ranges(self):
        for pair, where in {
                "worker.replicas=two": "/worker/replicas", "worker.replicas=0": "/worker/replicas",
                "worker.replicas=257": "/worker/replicas", "worker.dtype=f16": "/worker/dtype",
                "worker.kvCacheBytes=1GB": "/worker/kvCacheBytes",
                "worker.gpu.enabled=yes": "/worker/gpu/enabled", "scheduler.batching=random": "/scheduler/batching",
                "scheduler.eviction=fifo": "/scheduler/eviction", "scheduler.stepTokens=0": "/scheduler/stepTokens",
                "scheduler.drainTimeoutSeconds=-1": "/scheduler/drainTimeoutSeconds",
                "scheduler.externalService.type=ClusterIP": "/scheduler/externalService/type",
                "image.tag=latest": "/image/tag", "image.digest=sha256:12": "/image/digest",
                "model.path=/absolute": "/model/path", "model.path=a/../../etc": "/model/path",
                "model.hostPath=relative": "/model/hostPath", "listenAddress=127.0.0.1": "/listenAddress",
                "podSecurityContext.runAsUser=0": "/podSecurityContext/runAsUser", "log.format=xml": "/log/format",
                "tls.trustDomain=Upper.Case": "/tls/trustDomain", "tls.certManager.duration=90d": "/tls/certManager/duration",
                'worker.extraEnv=[{"name":"A","val":"x"}]': "/worker/extraEnv/0",
                'worker.extraArgs=["kv-blocks=1"]': "/worker/extraArgs/0",
                'worker.tolerations=[{"ky":"x"}]': "/worker/tolerations/0",
                'model.volume={"nfs":{},"csi":{}}': "/model/volume", 'networkPolicy.dns=[{}]': "/networkPolicy/dns/0",
                "router.enabled=1": "/router/enabled"}.items():
            with self.subTest(pair=pair):
                self.assert_refused(f"at '{where}'", pair)

    def test_every_default_is_valid_under_its_own_schema(self):
        schema = json.loads((CHART / "values.schema.json").read_text())

        def objects(node, path=""):
            if isinstance(node, dict):
                if node.get("type") == "object" and "properties" in node:
                    yield path, node
                for key, child in node.items():
                    yield from objects(child, f"{path}/{key}")
        found = list(objects(schema))
        self.assertGreater(len(found), 30)
        for path, node in found:
            self.assertIs(node.get("additionalProperties"), False, path)

    def test_every_value_is_described(self):
        schema = json.loads((CHART / "values.schema.json").read_text())
        for section in ("model", "tls", "scheduler", "router", "worker", "networkPolicy", "monitoring", "test"):
            for name, entry in schema["properties"][section]["properties"].items():
                if entry.get("type") != "object":
                    self.assertGreater(len(entry.get("description", "")), 4, f"{section}.{name}")


class Package(unittest.TestCase):
    """What `helm package` makes is the same chart."""

    def test_packaged_chart_renders_the_same(self):
        with tempfile.TemporaryDirectory() as folder:
            helm("package", CHART, "--destination", folder)
            (archive,) = pathlib.Path(folder).glob("*.tgz")
            for values in VALUE_SETS:
                self.assertEqual(template(values, chart=archive), rendered(values).text, values)

    def test_readme_and_schema_are_up_to_date(self):
        done = subprocess.run([sys.executable, ROOT / "scripts" / "chart_readme.py", "--check"],
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_values_set_something_for_every_section(self):
        # A value that no template reads would be a lie: each leaf's last key occurs in some template.
        templates = "\n".join(p.read_text() for p in (CHART / "templates").rglob("*") if p.is_file())

        def leaves(value, path=()):
            if isinstance(value, dict) and value and path[-1:] not in (("requests",), ("limits",), ("labels",)):
                for key, child in value.items():
                    yield from leaves(child, path + (key,))
            else:
                yield path
        for path in leaves(yaml.safe_load((CHART / "values.yaml").read_text())):
            key = next(k for k in reversed(path) if k not in ("requests", "limits"))
            # issuerRef and dns go out whole; secrets are indexed by role.
            if path[:3] == ("tls", "certManager", "issuerRef") or path[:2] in (("tls", "existingSecrets"), ("networkPolicy", "dns")):
                continue
            self.assertRegex(templates, rf"\.{key}\b", ".".join(path))


class Flags(unittest.TestCase):
    """The programs know every flag and variable that the chart gives them, and take its values."""

    @classmethod
    def setUpClass(cls):
        missing = [p for p in [*PROGRAMS.values(), "pregate"] if not (BIN / p).exists()]
        if missing:
            raise unittest.SkipTest(f"{', '.join(missing)} not built in {BIN}")

    def help(self, *command):
        text = subprocess.run([BIN / command[0], *command[1:], "--help"], capture_output=True, text=True, check=True).stdout
        return set(re.findall(r"^ +(--[a-z0-9-]+) ", text, re.M)), set(re.findall(r"\{(PREGATE_[A-Z0-9_]+)\}", text))

    @each_set
    def test_flags_and_variables_exist(self, chart):
        for component in chart.pods():
            container = chart.container(component)
            known, variables = self.help(*container["command"])
            self.assertLessEqual(set(flags(container)), known, component)
            ours = {name for name in env(container) if name.startswith("PREGATE_")}
            self.assertLessEqual(ours, variables, component)

    @each_set
    def test_probe_flags_exist(self, chart):
        known, _ = self.help("pregate", "health")
        for component in chart.workloads():
            for kind in ("startup", "readiness", "liveness"):
                command = chart.container(component)[f"{kind}Probe"]["exec"]["command"]
                self.assertLessEqual({a.partition("=")[0] for a in command[2:]}, known)

    @each_set
    def test_values_are_taken(self, chart):
        for component, program in PROGRAMS.items():
            if component not in chart.workloads():
                continue
            container = chart.container(component)
            variables = {"PREGATE_RANK": "0", "PREGATE_COLLECTIVE_HOST": "10.0.0.1", "PREGATE_THREADS": "2"}
            given = {name: variables[name] for name in env(container) if name in variables}
            done = subprocess.run([BIN / program, *container["args"], "--print-config"], env={**os.environ, **given},
                                  capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)
            config = json.loads(done.stdout)
            for flag, value in flags(container).items():
                if value is not True:
                    self.assertEqual(config[flag[2:]]["value"], value, (component, flag))
            for name, value in given.items():
                self.assertEqual(config[name.removeprefix("PREGATE_").lower().replace("_", "-")]["value"], value)

    def test_defaults_are_the_programs(self):
        """Where the chart differs from a program's own default, it is on this list."""
        chosen = {"--model", "--listen", "--metrics-listen", "--tls-dir", "--log-format", "--workers", "--router",
                  "--world-size", "--dtype", "--kv-cache-bytes"}
        chart = rendered("minimal")
        for component, program in PROGRAMS.items():
            config = json.loads(subprocess.run([BIN / program, "--model=/m", "--print-config"], capture_output=True,
                                               text=True, check=True).stdout)
            for flag, value in flags(chart.container(component)).items():
                if flag not in chosen:
                    self.assertEqual(config[flag[2:]]["value"], value, (component, flag))

    def test_ports_are_the_programs_defaults(self):
        for component, program in PROGRAMS.items():
            config = json.loads(subprocess.run([BIN / program, "--model=/m", "--print-config"], capture_output=True,
                                               text=True, check=True).stdout)
            self.assertEqual(config["listen"]["value"], f"127.0.0.1:{PORTS[component]}")
            self.assertEqual(config["metrics-listen"]["value"], f"127.0.0.1:{PORTS[component] + 1}")


if __name__ == "__main__":
    unittest.main()
