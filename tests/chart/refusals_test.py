#!/usr/bin/env python3
"""Bad values are refused, by field.

usage: .cache/tools/venv/bin/python tests/chart/refusals_test.py
"""

import json
import unittest

import yaml

from chart import CHART, PROGRAMS, Refused, env, flags, rendered, template


class Refusals(unittest.TestCase):
    """Bad values are refused, and the message names the field."""

    def assert_refused(self, message, *sets, values="minimal"):
        with self.assertRaises(Refused, msg=sets) as caught:
            template(values, sets=sets)
        self.assertRegex(str(caught.exception), message)

    def test_a_path_without_a_volume(self):
        self.assert_refused("model.path is a place in a volume", "model.path=a", values=None)

    def test_two_models(self):
        self.assert_refused("more than one model: model.existingClaim, model.hostPath", "model.hostPath=/m")

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
            ours = {
                name.removeprefix("PREGATE_").lower().replace("_", "-")
                for name in env(chart.container(component))
                if name.startswith("PREGATE_")
            } | {flag[2:] for flag in flags(chart.container(component))}
            for flag in sorted(ours - {"port-file", "kv-blocks"}):  # its extraArgs
                self.assert_refused(
                    rf"{component}.extraArgs: --{flag} is set by the chart",
                    f'{component}.extraArgs=["--{flag}=1"]',
                )

    def test_names_and_places_that_are_taken(self):
        cache = 'worker.extraVolumes=[{"name":"cache","emptyDir":{}}]'
        for message, *sets in (
            ("worker.extraVolumes: the name tls is taken", 'worker.extraVolumes=[{"name":"tls","emptyDir":{}}]'),
            ("worker.extraVolumes: the name shm is taken", 'worker.extraVolumes=[{"name":"shm","emptyDir":{}}]'),
            (
                "router.extraVolumes: the name a is taken",
                'router.extraVolumes=[{"name":"a","emptyDir":{}},{"name":"a","hostPath":{"path":"/a"}}]',
            ),
            (
                r"scheduler.extraVolumeMounts: there is no volume cache in this pod \(tls, model\)",
                'scheduler.extraVolumeMounts=[{"name":"cache","mountPath":"/c"}]',
            ),
            *(
                (
                    rf"worker.extraVolumeMounts: {place} would lie in or over {over}",
                    cache,
                    "worker.shmSize=1Gi",
                    f'worker.extraVolumeMounts=[{{"name":"cache","mountPath":"{given}"}}]',
                )
                for given, place, over in (
                    ("/model", "/model", "/model"),
                    ("/model/sub/", "/model/sub", "/model"),
                    ("/", "/", "/tls"),
                    ("/tls/../tls", "/tls", "/tls"),
                    ("/dev", "/dev", "/dev/shm"),
                )
            ),
            (
                "router.initContainers: a container of this pod is called router already",
                'router.initContainers=[{"name":"router","image":"i:1"}]',
            ),
            (
                "router.initContainers: a container of this pod is called a already",
                'model.initContainers=[{"name":"a","image":"i:1"}]',
                'router.initContainers=[{"name":"a","image":"i:1"}]',
            ),
            (
                "model.initContainers: there is no volume models",
                'model.initContainers=[{"name":"a","image":"i:1","volumeMounts":[{"name":"models","mountPath":"/m"}]}]',
            ),
        ):
            with self.subTest(sets=sets):
                self.assert_refused(message, *sets)
        for mount in ("/models", "/tls2", "/cache"):  # only looks like one that is taken
            template("minimal", sets=[cache, f'worker.extraVolumeMounts=[{{"name":"cache","mountPath":"{mount}"}}]'])

    def test_containers_that_fill_no_volume(self):
        self.assert_refused("set model.volume", 'model.initContainers=[{"name":"a","image":"i:1"}]', values=None)

    def test_liveness_shorter_than_the_forming_of_a_group(self):
        for period, threshold in ((20, 4), (60, 2), (1, 61)):
            self.assert_refused(
                "worker.livenessProbe: .* must exceed 60 s",
                f"worker.livenessProbe.periodSeconds={period}",
                f"worker.livenessProbe.failureThreshold={threshold}",
            )
        template("minimal", sets=["worker.livenessProbe.periodSeconds=61", "worker.livenessProbe.failureThreshold=2"])

    def test_gateways(self):
        on = "gateway.enabled=true"
        for message, *sets in (
            ("say gateway.open=true", on),
            ("both given", on, "gateway.open=true", "gateway.apiTokensSecret=t"),
            ("needs gateway.httpRoute.parentRefs", on, "gateway.open=true", "gateway.httpRoute.enabled=true"),
            ("more than maxReplicas", on, "gateway.open=true", "gateway.autoscaling.enabled=true", "gateway.autoscaling.minReplicas=11"),
            ("nothing to scale by", on, "gateway.open=true", "gateway.autoscaling.enabled=true", "gateway.autoscaling.cpuPercent=0"),
            ("which is not given", on, "gateway.open=true", "gateway.autoscaling.enabled=true", "gateway.resources=null"),
            ("set gateway.enabled", "gateway.ingress.enabled=true"),
            ("set gateway.enabled", "gateway.autoscaling.enabled=true"),
            (
                "gateway.extraArgs: --http-open is set by the chart",
                on,
                "gateway.open=true",
                'gateway.extraArgs=["--http-open"]',
            ),
            (
                "would lie in or over /api-tokens",
                on,
                "gateway.apiTokensSecret=t",
                'gateway.extraVolumes=[{"name":"c","emptyDir":{}}]',
                'gateway.extraVolumeMounts=[{"name":"c","mountPath":"/api-tokens/x"}]',
            ),
        ):
            with self.subTest(sets=sets):
                self.assert_refused(message, *sets)

    def test_an_object_that_is_no_template(self):
        self.assert_refused("extraobjects.yaml", 'extraObjects=["{{ .Values.nothing.at.all }}"]')

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
            if path in free or path[-1:] in (
                (("annotations"),),
                ("labels",),
                ("podLabels",),
                ("podAnnotations",),
                ("nodeSelector",),
                ("requests",),
                ("limits",),
            ):
                continue
            self.assert_refused(
                r"additional properties 'surprise' not allowed", ".".join(path + ("surprise",)) + "=1"
            )
            tried += 1
        self.assertGreater(tried, 20)

    def test_wrong_types_and_ranges(self):
        for pair, where in {
            "worker.replicas=two": "/worker/replicas",
            "worker.replicas=0": "/worker/replicas",
            "worker.replicas=257": "/worker/replicas",
            "worker.dtype=f16": "/worker/dtype",
            "worker.kvCacheBytes=1GB": "/worker/kvCacheBytes",
            "worker.gpu.enabled=yes": "/worker/gpu/enabled",
            "scheduler.batching=random": "/scheduler/batching",
            "scheduler.eviction=fifo": "/scheduler/eviction",
            "scheduler.stepTokens=0": "/scheduler/stepTokens",
            "scheduler.drainTimeoutSeconds=-1": "/scheduler/drainTimeoutSeconds",
            "scheduler.externalService.type=ClusterIP": "/scheduler/externalService/type",
            "image.tag=latest": "/image/tag",
            "image.digest=sha256:12": "/image/digest",
            "model.path=/absolute": "/model/path",
            "model.path=a/../../etc": "/model/path",
            "model.hostPath=relative": "/model/hostPath",
            "listenAddress=127.0.0.1": "/listenAddress",
            "podSecurityContext.runAsUser=0": "/podSecurityContext/runAsUser",
            "log.format=xml": "/log/format",
            "tls.trustDomain=Upper.Case": "/tls/trustDomain",
            "tls.certManager.duration=90d": "/tls/certManager/duration",
            'worker.extraEnv=[{"name":"A","val":"x"}]': "/worker/extraEnv/0",
            'worker.extraArgs=["kv-blocks=1"]': "/worker/extraArgs/0",
            'worker.tolerations=[{"ky":"x"}]': "/worker/tolerations/0",
            'model.volume={"nfs":{},"csi":{}}': "/model/volume",
            "networkPolicy.dns=[{}]": "/networkPolicy/dns/0",
            "router.enabled=1": "/router/enabled",
            'worker.initContainers=[{"name":"a"}]': "/worker/initContainers/0",
            'worker.extraContainers=[{"name":"a","image":"i:1","comand":["x"]}]': "/worker/extraContainers/0",
            'worker.extraContainers=[{"name":"A","image":"i:1"}]': "/worker/extraContainers/0/name",
            'worker.extraVolumes=[{"name":"a"}]': "/worker/extraVolumes/0",
            'worker.extraVolumes=[{"name":"a","emptydir":{}}]': "/worker/extraVolumes/0",
            'worker.extraVolumeMounts=[{"name":"a","mountPath":"relative"}]': "/worker/extraVolumeMounts/0/mountPath",
            'worker.extraEnvFrom=[{"configMap":{"name":"a"}}]': "/worker/extraEnvFrom/0",
            "worker.shmSize=1GiB": "/worker/shmSize",
            "worker.gpu.count=0": "/worker/gpu/count",
            "scheduler.readinessProbe.timeoutSeconds=1": "/scheduler/readinessProbe/timeoutSeconds",
            'networkPolicy.extraEgress=[{"from":[]}]': "/networkPolicy/extraEgress/0",
            "extraObjects=[7]": "/extraObjects/0",
            'gateway.schedulers=["a"]': "/gateway/schedulers/0",
            "gateway.service.type=ExternalName": "/gateway/service/type",
            'gateway.ingress.hosts=["a/b"]': "/gateway/ingress/hosts/0",
            'gateway.httpRoute.parentRefs=[{"namespace":"a"}]': "/gateway/httpRoute/parentRefs/0",
        }.items():
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
        for section in (
            "model",
            "tls",
            "scheduler",
            "router",
            "worker",
            "networkPolicy",
            "monitoring",
            "test",
        ):
            for name, entry in schema["properties"][section]["properties"].items():
                if entry.get("type") != "object":
                    self.assertGreater(len(entry.get("description", "")), 4, f"{section}.{name}")


if __name__ == "__main__":
    unittest.main()
