#!/usr/bin/env python3
"""Deployments, the StatefulSet, their pods, budgets, the test pod and names.

usage: .cache/tools/venv/bin/python tests/chart/workloads_test.py
"""

import itertools
import json
import re
import unittest

import yaml
from kubernetes_validate import utils as kubernetes

from chart import (
    CHART,
    ROOT,
    VALUE_SETS,
    Rendered,
    component_of,
    each_set,
    flags,
    notes,
    quantity,
    rendered,
    selects,
    template,
)

from schemas_test import KUBERNETES

DEMO_MODEL = "/usr/share/pregate/models/smollm2-135m-moe5"  # where images with --demo have it


class Workloads(unittest.TestCase):
    """Deployments, the StatefulSet and their pods."""

    def test_which_there_are(self):
        self.assertEqual(set(rendered("minimal").workloads()), {"scheduler", "router", "worker"})
        self.assertEqual(set(rendered("dense").workloads()), {"scheduler", "worker"})
        self.assertEqual(set(rendered("gateway").workloads()), {"scheduler", "router", "worker", "gateway"})

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
            chart.workloads().items(), chart.pods().items()
        ):
            self.assertEqual(
                selects(workload["spec"]["selector"], labels), component == other, (component, other)
            )

    @each_set
    def test_restricted_pods(self, chart):
        for component, (_, spec) in chart.pods().items():
            security = spec["securityContext"]
            self.assertIs(security["runAsNonRoot"], True, component)
            self.assertGreater(security["runAsUser"], 0)
            self.assertGreater(security["runAsGroup"], 0)
            self.assertEqual(security["seccompProfile"], {"type": "RuntimeDefault"})
            for key in ("hostNetwork", "hostPID", "hostIPC"):
                self.assertNotIn(key, spec)

    @each_set
    def test_restricted_containers(self, chart):
        for component in chart.pods():
            self.assertEqual(
                chart.container(component)["securityContext"],
                {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                component,
            )

    @each_set
    def test_restricted_containers_of_the_values(self, chart):
        for component, (_, spec) in chart.pods().items():
            for container in spec["containers"][1:] + spec.get("initContainers", []):
                security = container["securityContext"]
                self.assertIs(security["allowPrivilegeEscalation"], False, component)
                self.assertEqual(security["capabilities"], {"drop": ["ALL"]})

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
                    self.assertLessEqual(
                        quantity(resources["requests"][name]), quantity(limit), (component, name)
                    )

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
        cmake = re.search(r"project\(pregate VERSION ([\d.]+)", (ROOT / "CMakeLists.txt").read_text()).group(
            1
        )
        self.assertEqual(yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"], cmake)

    def test_image_overrides(self):
        chart = rendered("gpu")
        self.assertRegex(
            chart.container("scheduler")["image"], r"^registry.example/serving/pregate@sha256:0123"
        )
        self.assertEqual(chart.container("worker")["image"], "registry.example/serving/pregate:0.1.0-cuda13")
        self.assertEqual(chart.pods()["worker"][1]["imagePullSecrets"], [{"name": "registry-login"}])
        self.assertEqual(rendered("everything").container("scheduler")["imagePullPolicy"], "Never")
        self.assertEqual(rendered("everything").container("router")["imagePullPolicy"], "Always")

    @each_set
    def test_volumes_are_read_only_and_all_mounted(self, chart):
        writable = {"shm", "scratch"}
        for component, (_, spec) in chart.pods().items():
            mounts = chart.container(component)["volumeMounts"]
            self.assertEqual({m["name"] for m in mounts}, {v["name"] for v in spec["volumes"]}, component)
            for mount in mounts:
                self.assertEqual(mount.get("readOnly", False), mount["name"] not in writable)

    @each_set
    def test_mounts_are_where_the_flags_point(self, chart):
        for component in chart.pods():
            mounts = {m["name"]: m["mountPath"] for m in chart.container(component)["volumeMounts"]}
            given = flags(chart.container(component))
            self.assertEqual(given["--tls-dir"], mounts["tls"])
            if component == "gateway":
                self.assertNotIn("model", mounts)
                self.assertEqual("--api-tokens-file" in given, "api-tokens" in mounts)
                self.assertTrue(given.get("--api-tokens-file", "").startswith(mounts.get("api-tokens", "")))
            elif component != "test":
                self.assertRegex(given["--model"], f"^{mounts.get('model', DEMO_MODEL)}(/|$)")

    def test_nothing_given_is_the_demo_model_of_the_image(self):
        chart = rendered("defaults")
        self.assertEqual(template(None), chart.text)
        for component in chart.workloads():
            self.assertEqual(flags(chart.container(component))["--model"], DEMO_MODEL)
            self.assertTrue(chart.container(component)["image"].endswith("-cpu-demo"))
        self.assertIn(DEMO_MODEL.lstrip("/"), (ROOT / "deploy" / "images" / "build.sh").read_text())
        cuda = Rendered("defaults", sets=["worker.gpu.enabled=true"])
        self.assertTrue(cuda.container("worker")["image"].endswith("-cuda-demo"))

    @each_set
    def test_each_pod_has_its_own_roles_secret_only(self, chart):
        expected = {"test": "client"}
        for component, (_, spec) in chart.pods().items():
            secrets = [v["secret"] for v in spec["volumes"] if "secret" in v and v["name"] != "api-tokens"]
            self.assertEqual(len(secrets), 1)
            self.assertEqual(secrets[0]["defaultMode"], 0o440)
            role = expected.get(component, component)
            if component == "gateway" and not chart.all("Certificate"):
                role = "client"
            self.assertIn(
                secrets[0]["secretName"],
                (role[0], f"pregate-{role}", f"cell-{role}", f"demo-pregate-{role}-tls"),
            )

    def test_model_volumes(self):
        def volume(values):
            spec = rendered(values).pods()["worker"][1]
            return next(v for v in spec["volumes"] if v["name"] == "model")

        self.assertEqual(
            volume("minimal")["persistentVolumeClaim"], {"claimName": "models", "readOnly": True}
        )
        self.assertEqual(volume("cpu")["hostPath"], {"path": "/srv/models/tiny", "type": "Directory"})
        self.assertEqual(volume("gpu")["nfs"]["server"], "nfs.example")
        self.assertIn("reference", volume("model-image")["image"])
        self.assertIn("emptyDir", volume("model-download"))
        self.assertEqual(volume("model-claim")["persistentVolumeClaim"]["readOnly"], True)

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
        several = Rendered("gpu", sets=["worker.gpu.count=2", "worker.gpu.resourceName=example.com/slice"])
        self.assertEqual(several.container("worker")["resources"]["limits"]["example.com/slice"], 2)


class Given(unittest.TestCase):
    """What the values bring to the pods, and beside them."""

    LISTS = {
        "extraEnv": [{"name": "A", "value": "1"}],
        "extraEnvFrom": [{"secretRef": {"name": "s"}}],
        "extraVolumes": [{"name": "cache", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "cache", "mountPath": "/cache"}],
        "initContainers": [{"name": "one", "image": "i:1"}, {"name": "two", "image": "i:1"}],
        "extraContainers": [{"name": "beside", "image": "i:1", "volumeMounts": [{"name": "tls", "mountPath": "/t"}]}],
    }

    def test_every_program_takes_every_list(self):
        for component in ("scheduler", "router", "worker"):
            sets = [f"{component}.{key}={json.dumps(value)}" for key, value in self.LISTS.items()]
            chart = Rendered("minimal", sets=sets)
            spec, container = chart.pods()[component][1], chart.container(component)
            self.assertIn({"name": "A", "value": "1"}, container["env"])
            self.assertEqual(container["envFrom"], self.LISTS["extraEnvFrom"])
            self.assertIn({"name": "cache", "emptyDir": {}}, spec["volumes"])
            self.assertIn({"name": "cache", "mountPath": "/cache"}, container["volumeMounts"])
            self.assertEqual([c["name"] for c in spec["initContainers"]], ["one", "two"])
            self.assertEqual([c["name"] for c in spec["containers"]], [component, "beside"])
            others = rendered("minimal").pods()
            for other in {"scheduler", "router", "worker", "test"} - {component}:
                self.assertEqual(chart.pods()[other], others[other], "of this component alone")
            for obj in chart.objects:
                if obj["kind"] in ("Deployment", "StatefulSet"):
                    kubernetes.validate(obj, KUBERNETES[1], True)

    def test_a_security_context_of_its_own_stays(self):
        (first,) = [c for c in rendered("everything").pods()["scheduler"][1]["initContainers"] if c["name"] == "first"]
        self.assertIs(first["securityContext"]["readOnlyRootFilesystem"], True)

    def test_the_models_containers_are_the_first_of_every_pod(self):
        pods = rendered("everything").pods()
        self.assertEqual([c["name"] for c in pods["scheduler"][1]["initContainers"]], ["look", "first"])
        for component in ("router", "worker"):
            self.assertEqual([c["name"] for c in pods[component][1]["initContainers"]], ["look"])
        self.assertNotIn("initContainers", pods["test"][1])

    def test_shared_memory(self):
        spec = rendered("everything").pods()["worker"][1]
        self.assertIn({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}, spec["volumes"])
        self.assertIn({"name": "shm", "mountPath": "/dev/shm"}, spec["containers"][0]["volumeMounts"])
        self.assertNotIn("shm", rendered("minimal").text)

    def test_probes(self):
        chart = rendered("everything")
        self.assertEqual(
            {k: v for k, v in chart.container("scheduler")["readinessProbe"].items() if k != "exec"},
            {"periodSeconds": 7, "timeoutSeconds": 3, "failureThreshold": 2},
        )
        liveness = chart.container("worker")["livenessProbe"]
        self.assertEqual((liveness["periodSeconds"], liveness["failureThreshold"]), (10, 12))
        self.assertIn("--timeout-s=7", liveness["exec"]["command"])

    def test_objects_are_templates_in_both_forms(self):
        secret, config_map = rendered("everything").given  # in the order in which helm makes kinds
        self.assertEqual(config_map["metadata"]["name"], "demo-moe-settings")
        self.assertEqual(config_map["data"], {"model": "moe"})
        self.assertEqual(secret["metadata"]["labels"]["app.kubernetes.io/instance"], "demo")
        self.assertEqual(secret["stringData"], {"token": "demo-cluster.example"})
        self.assertFalse(rendered("minimal").given)

    def test_a_claim_is_filled_before_the_release(self):
        claim, job = rendered("model-claim").given
        hooks = [o["metadata"]["annotations"] for o in (claim, job)]
        self.assertLess(*(int(h["helm.sh/hook-weight"]) for h in hooks))
        for hook in hooks:
            self.assertIn("pre-install", hook["helm.sh/hook"])
        self.assertNotIn("pre-upgrade", hooks[0]["helm.sh/hook"], "an upgrade would delete the claim")
        mounted = next(v for v in rendered("model-claim").pods()["worker"][1]["volumes"] if v["name"] == "model")
        self.assertEqual(mounted["persistentVolumeClaim"]["claimName"], claim["metadata"]["name"])


class Gateway(unittest.TestCase):
    """The HTTP APIs: off unless asked for; how requests reach them; how many pods there are."""

    def made(self, *sets, base="minimal"):
        return Rendered(base, sets=["gateway.enabled=true", "gateway.open=true", *sets])

    def test_off(self):
        for values in set(VALUE_SETS) - {"gateway", "everything"}:
            self.assertNotIn("gateway", {component_of(o) for o in rendered(values).objects}, values)

    def test_it_calls_this_cells_scheduler_and_others(self):
        chart = rendered("gateway")
        given = flags(chart.container("gateway"))
        own = chart.one("Service", "scheduler")["metadata"]["name"]
        self.assertEqual(
            given["--schedulers"].split(","),
            [f"{own}.ns.svc.cluster.local:7600", "other-pregate-scheduler.other.svc.cluster.local:7600"],
        )
        self.assertEqual(given["--model-name"], "smollm2-135m-moe5")
        self.assertEqual(given["--http-listen"], "0.0.0.0:7680")
        self.assertEqual(given["--metrics-listen"], "0.0.0.0:7681")

    def test_tokens_or_open(self):
        tokens = flags(rendered("gateway").container("gateway"))
        self.assertNotIn("--http-open", tokens)
        (volume,) = [v for v in rendered("gateway").pods()["gateway"][1]["volumes"] if v["name"] == "api-tokens"]
        self.assertEqual(volume["secret"], {"secretName": "pregate-api-tokens", "defaultMode": 0o440})
        given = flags(self.made().container("gateway"))
        self.assertIs(given["--http-open"], True)
        self.assertNotIn("--api-tokens-file", given)

    def test_its_certificate_is_a_clients(self):
        (certificate,) = [c["spec"] for c in rendered("gateway").all("Certificate") if component_of(c) == "gateway"]
        self.assertEqual(certificate["uris"], ["spiffe://pregate.internal/pregate/client"])
        self.assertIn("demo-pregate-gateway.ns.svc.cluster.local", certificate["dnsNames"])

        def secret(*sets):
            volumes = self.made(*sets).pods()["gateway"][1]["volumes"]
            return next(v["secret"]["secretName"] for v in volumes if v["name"] == "tls")

        self.assertEqual(secret(), "pregate-client", "the client's, where secrets are of one's own")
        self.assertEqual(secret("tls.existingSecrets.gateway=mine"), "mine")

    def test_ingress_and_route_lead_to_the_service(self):
        chart = rendered("gateway")
        service = chart.one("Service", "gateway")
        name, ports = service["metadata"]["name"], {p["name"]: p["port"] for p in service["spec"]["ports"]}
        (rule,) = chart.one("Ingress")["spec"]["rules"]
        self.assertEqual(rule["host"], "api.pregate.example")
        backend = rule["http"]["paths"][0]["backend"]["service"]
        self.assertEqual(backend, {"name": name, "port": {"name": "http"}})
        route = chart.one("HTTPRoute")["spec"]
        self.assertEqual(route["parentRefs"][0]["sectionName"], "https")
        (rule,) = route["rules"]
        self.assertEqual(rule["backendRefs"], [{"name": name, "port": ports["http"]}])
        self.assertEqual(rule["timeouts"], {"request": "0s"}, "no limit on a stream")
        self.assertLessEqual(set(route), {"parentRefs", "hostnames", "rules"})
        any_host = self.made("gateway.ingress.enabled=true").one("Ingress")["spec"]["rules"]
        self.assertNotIn("host", any_host[0])

    def test_metrics_stay_inside(self):
        for kind in ("LoadBalancer", "NodePort"):
            service = self.made(f"gateway.service.type={kind}").one("Service", "gateway")
            self.assertEqual([p["name"] for p in service["spec"]["ports"]], ["http"])

    def test_autoscaling(self):
        chart = rendered("gateway")
        scaler = chart.one("HorizontalPodAutoscaler")["spec"]
        self.assertEqual(scaler["scaleTargetRef"]["name"], chart.workload("gateway")["metadata"]["name"])
        self.assertNotIn("replicas", chart.workload("gateway")["spec"], "the autoscaler's business")
        external, cpu = scaler["metrics"]
        self.assertEqual(external["external"]["metric"]["name"], "pregate_request_queue_time_seconds_p95")
        self.assertEqual(external["external"]["target"], {"type": "Value", "value": "500m"})
        self.assertEqual(cpu["resource"]["target"]["averageUtilization"], 70)
        self.assertEqual(self.made("gateway.replicas=5").workload("gateway")["spec"]["replicas"], 5)

    def test_grace_exceeds_drain(self):
        spec = self.made("gateway.drainTimeoutSeconds=60").pods()["gateway"][1]
        self.assertGreaterEqual(spec["terminationGracePeriodSeconds"], 60 + 10)

    def test_budget(self):
        chart = rendered("gateway")
        budget = chart.one("PodDisruptionBudget", "gateway")["spec"]
        self.assertEqual(budget["selector"], chart.workload("gateway")["spec"]["selector"])
        off = self.made("gateway.podDisruptionBudget.enabled=false")
        self.assertEqual(len(off.all("PodDisruptionBudget")), 1)


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
        self.assertGreater(
            pod["spec"]["activeDeadlineSeconds"], int(flags(pod["spec"]["containers"][0])["--wait-s"])
        )

    def test_it_carries_the_client_label(self):
        self.assertEqual(
            rendered("minimal").workload("test")["metadata"]["labels"]["demo-pregate-client"], "true"
        )


class Notes(unittest.TestCase):
    """The commands that `helm install` prints name objects that are there."""

    @each_set
    def test_objects_exist(self, chart):
        text = notes(self.values)
        there = {(o["kind"].lower(), o["metadata"]["name"]) for o in chart.objects}
        named = re.findall(r"\b(statefulset|deployment|service)/(\S+)", text)
        self.assertEqual(len(named), 3)
        self.assertLessEqual(set(named), there)
        for namespace in re.findall(r" -n (\S+)", text):
            self.assertEqual(namespace, "ns")

    def test_secret_and_trust_domain(self):
        self.assertIn("get secret pregate-client ", notes("minimal"))
        self.assertIn("get secret demo-pregate-client-tls ", notes("cert-manager"))
        self.assertNotIn("create secret", notes("cert-manager"))
        self.assertIn("--tls-trust-domain cell.example", notes("cert-manager"))

    @each_set
    def test_every_secret_that_is_mounted_can_be_made(self, chart):
        mounted = {
            v["secret"]["secretName"] for _, spec in chart.pods().values() for v in spec["volumes"] if "secret" in v
        }
        made = dict(
            re.findall(r"create secret generic (\S+) --from-file=certs/(\S+)", notes(self.values))
        )
        if not chart.all("Certificate"):
            self.assertLessEqual(mounted, made.keys())

    def test_the_label_for_clients(self):
        self.assertIn('demo-pregate-client: "true"', notes("minimal"))
        self.assertNotIn("-client: ", notes("everything"))


class Names(unittest.TestCase):
    """Long names and two releases."""

    LONG = "a-release-with-a-name-that-uses-all-of-helms-53-chars"

    def test_all_fit(self):
        self.assertEqual(len(self.LONG), 53)
        for values, length in itertools.product(("gpu", "cert-manager"), (1, 32, 33, 41, 46, 53)):
            chart = rendered(values, release=self.LONG[-length:].replace("-", "x"))
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
        self.assertEqual(
            rendered("minimal", release="pregate").workload("router")["metadata"]["name"], "pregate-router"
        )
        self.assertEqual(rendered("dense").workload("worker")["metadata"]["name"], "dense-worker")


if __name__ == "__main__":
    unittest.main()
