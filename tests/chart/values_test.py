#!/usr/bin/env python3
"""Every value as clusters give them: null, large numbers, strings that look like something else. What is rendered holds
what was said, or the refusal names the key.

usage: .cache/tools/venv/bin/python tests/chart/values_test.py [SEED]
"""

import json
import random
import re
import sys
import tempfile
import time
import unittest

import yaml
from kubernetes_validate import utils as kubernetes

from chart import CHART, VALUE_FILES, Refused, flags, helm
from schemas_test import CUSTOM_KINDS, KUBERNETES

SEED = int(sys.argv.pop(1)) if len(sys.argv) > 1 and sys.argv[1].isdigit() else time.time_ns()
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
# What YAML's versions read as numbers, booleans, nothing or a day.
LOOKALIKES = ("123", "1e3", "0x1f", "0o17", "1.10", "true", "null", "no", "on", "2026-11-29", "1-2", ".5", "~")
NOTHING = ("<nil>", "%!", "map[")  # what Go prints for a value that is not there, or is no text


def values_of(node, path=()):
    """(path, default) of every key of values.yaml, sections too."""
    for key, child in node.items():
        yield path + (key,), child
        if isinstance(child, dict):
            yield from values_of(child, path + (key,))


def schema_of(path):
    """The schema at a path, references followed; None for a key that the user chooses."""
    place = SCHEMA
    for key in path:
        place = place.get("properties", {}).get(key)
        if place is None:
            return None
        while "$ref" in place:
            place = SCHEMA["definitions"][place["$ref"].rpartition("/")[2]]
    return place


def changed(values):
    """{path: value} as nested mappings."""
    tree = {}
    for path, value in values.items():
        place = tree
        for key in path[:-1]:
            place = place.setdefault(key, {})
        place[path[-1]] = value
    return tree


def render(values, base="everything"):
    """The text with some values changed: {path: value}. The dashboards are large and in no test here."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump(changed({("monitoring", "dashboards", "enabled"): False, **values}), file)
        file.flush()
        return helm(
            "template", "demo", CHART, "-n", "ns", "-f", VALUE_FILES[base], "-f", file.name
        )


def refused(values, base="everything"):
    """The paths of `values` that the schema refuses by name, all at once."""
    try:
        render(values, base)
    except Refused as refusal:
        told = str(refusal)
        named = set(re.findall(r"- at '/([^']*)'", told))
        for parent, keys in re.findall(r"- at '/?([^']*)': missing propert(?:y|ies) (.*)", told):
            named |= {f"{parent}/{key}".strip("/") for key in re.findall(r"'([^']*)'", keys)}
        return {path for path in values if "/".join(path) in named}
    return set()


def objects(text):
    return [o for o in yaml.safe_load_all(text) if o]


class Values(unittest.TestCase):
    def check(self, text):
        """Nothing that Go prints for want of better, no exponent, and valid for Kubernetes."""
        for mark in NOTHING:
            self.assertNotIn(mark, text)
        for obj in objects(text):
            if obj["kind"] not in CUSTOM_KINDS:
                kubernetes.validate(obj, KUBERNETES[1], True)

    def test_null(self):
        """Where a default is empty, null is the same; elsewhere it is refused, or means what values.yaml says."""
        empty = [p for p, default in values_of(DEFAULTS) if default in ("", [], {})]
        self.assertEqual(render(dict.fromkeys(empty), "defaults"), render({}, "defaults"))
        needed = ("gateway", "httpRoute", "parentRefs")  # where that is enabled
        self.check(render({p: None for p in empty if p[0] != "model" and p != needed}))

        full = [p for p, default in values_of(DEFAULTS) if p not in empty and schema_of(p)]
        taken = set()
        for depth in {len(p) for p in full}:
            these = dict.fromkeys(p for p in full if len(p) == depth)
            rest = dict.fromkeys(these.keys() - refused(these))
            self.check(render(rest))
            taken |= {".".join(p) for p in rest if p[-2:-1] != ("resources",)}
        self.assertEqual(
            taken,
            {
                *(f"{c}.resources" for c in ("scheduler", "router", "worker", "gateway", "test")),
                *(f"podSecurityContext.{key}" for key in DEFAULTS["podSecurityContext"]),
                "networkPolicy.dns",
                "monitoring.dashboards.labels",
            },
        )

    def test_the_ids_of_null_are_left_out(self):
        text = render({("podSecurityContext", key): None for key in DEFAULTS["podSecurityContext"]})
        self.check(text)
        self.assertNotIn("runAsUser", text)
        self.assertIn("runAsNonRoot: true", text)

    def test_large_numbers(self):
        print(f"seed {SEED}")
        rng = random.Random(SEED)
        integers = {p: schema_of(p) for p, _ in values_of(DEFAULTS) if (schema_of(p) or {}).get("type") == "integer"}
        self.assertGreater(len(integers), 25)
        largest = {p: schema["maximum"] for p, schema in integers.items()}
        some = {p: rng.randint(max(schema["minimum"], largest[p] // 2), largest[p]) for p, schema in integers.items()}
        fewest, most = ("gateway", "autoscaling", "minReplicas"), ("gateway", "autoscaling", "maxReplicas")
        some[fewest] = min(some[fewest], some[most])
        for numbers in (largest, some):
            # Replicas are the autoscaler's or not.
            text = render(numbers) + "---\n" + render({**numbers, ("gateway", "autoscaling", "enabled"): True})
            self.check(text)
            self.assertNotRegex(text, r"\d[eE]\+\d")
            for path, number in numbers.items():
                # Some are added to: a grace period, a deadline.
                self.assertRegex(text, rf"\b({number}|{number + 15}|{number + 120})\b", path)
        for numbers in (
            {p: number + 1 for p, number in largest.items()},
            dict.fromkeys(integers, 10**18),
            {p: schema["minimum"] - 1 for p, schema in integers.items()},
            dict.fromkeys(integers, 1.5),
            dict.fromkeys(integers, "7"),
        ):
            self.assertEqual(refused(numbers), set(numbers))

    def test_bytes(self):
        for component in ("router", "worker"):
            path = (component, "kvCacheBytes")
            for given, flag in {
                8589934592: "8589934592",
                2**53: "9007199254740992",
                "8GiB": "8GiB",
                "8Gi": "8GiB",
                "123": "123",
            }.items():
                self.assertRegex(render({path: given}), rf"--kv-cache-bytes={flag}\n")
            for given in ("8GB", "8G", "1e9", "8Gi ", 0, -1, 0.5, "0"):
                with self.assertRaisesRegex(Refused, "kvCacheBytes"):
                    render({path: given})

    def test_expert_slots(self):
        path = ("worker", "expertSlots")
        for given in ("auto", 0, 7):
            self.assertRegex(render({path: given}), rf"--expert-slots={given}\n")
        for given in ("all", "7", -1, 1.5):
            with self.assertRaisesRegex(Refused, "expertSlots"):
                render({path: given})

    def test_strings_that_look_like_something_else(self):
        strings = [
            p
            for p, default in values_of(DEFAULTS)
            if isinstance(default, str) and schema_of(p) and "enum" not in schema_of(p) and p[0] != "model"
        ]
        certificates = [p for p in strings if p[:2] == ("tls", "certManager")]  # exclude secrets of one's own
        for text in LOOKALIKES:
            for base, paths in (
                ("everything", set(strings) - set(certificates)),
                ("cert-manager", certificates),
            ):
                with self.subTest(text=text, base=base):
                    values = dict.fromkeys(paths, text)
                    given = dict.fromkeys(values.keys() - refused(values, base), text)
                    if ("gateway", "apiTokensSecret") in given:  # or nobody is asked for a token: not both
                        given[("gateway", "open")] = False
                    self.check(render(given, base))

    def test_models_that_look_like_something_else(self):
        for name in LOOKALIKES + ("$(PREGATE_RANK)", "$$(A)"):
            text = render({("model",): {"name": name, "existingClaim": "123", "hostPath": ""}})
            self.check(text)
            container = objects(text)
            workers = next(o for o in container if o["kind"] == "StatefulSet")["spec"]["template"]["spec"]
            (given,) = (c for c in workers["containers"])
            # Kubernetes reads $$ as $, and $(NAME) as a variable.
            self.assertEqual(flags(given)["--model-name"].replace("$$", "$"), name)
            self.assertNotRegex(flags(given)["--model-name"].replace("$$", ""), r"\$")
            claim = next(v for v in workers["volumes"] if v["name"] == "model")["persistentVolumeClaim"]
            self.assertEqual(claim["claimName"], "123")
        for path in ("/a, b", "/a: b", "/a}", '/a"b', "/a #b", "/ü"):
            text = render({("model", "hostPath"): path})
            self.check(text)
            self.assertIn({"path": path, "type": "Directory"}, [
                v.get("hostPath")
                for o in objects(text)
                if o["kind"] == "StatefulSet"
                for v in o["spec"]["template"]["spec"]["volumes"]
            ])

    def test_release_and_namespace(self):
        for release in ("1", "1e3", "a.b", "0x1f"):
            with self.assertRaisesRegex(Refused, "fullnameOverride"):
                helm("template", release, CHART)
            self.check(helm("template", release, CHART, "-n", "1e3", "--set", "fullnameOverride=cell"))
        for release in ("true", "null", "on"):
            self.check(helm("template", release, CHART, "-n", "123", "--set-string", f"fullnameOverride={release}"))

    def test_kubernetes_own_forms(self):
        for path, value in {
            ("imagePullSecrets",): [{"name": "regcred"}, "123", {"name": "1e3"}],
            ("worker", "resources"): {"requests": {"memory": "1e9", "cpu": "500m"}, "limits": {"memory": "2E"}},
            ("router", "resources"): {"requests": {"memory": 137438953472, "cpu": 0.5}, "limits": None},
            ("worker", "tolerations"): [{"operator": "Exists", "tolerationSeconds": 2592000}],
            ("worker", "extraEnv"): [
                {
                    "name": "A",
                    "valueFrom": {
                        "resourceFieldRef": {
                            "containerName": "worker",
                            "resource": "limits.memory",
                            "divisor": 1,
                        }
                    },
                }
            ],
            ("model",): {
                "hostPath": None,
                "volume": {"persistentVolumeClaim": {"claimName": "m", "readOnly": True}},
            },
            ("networkPolicy",): {
                "dns": [],
                "clients": [
                    {
                        "podSelector": {
                            "matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "true"]}]
                        }
                    }
                ],
            },
            ("commonLabels",): {"cost": "007", "owner": "true"},
            ("worker", "podAnnotations"): {"prometheus.io/scrape": "true", "n": "1e3"},
        }.items():
            with self.subTest(path=path):
                self.check(render({path: value}))
        pods = objects(render({("imagePullSecrets",): [{"name": "regcred"}, "123"]}))
        for workload in (o for o in pods if o["kind"] in ("Deployment", "StatefulSet")):
            self.assertEqual(
                workload["spec"]["template"]["spec"]["imagePullSecrets"], [{"name": "regcred"}, {"name": "123"}]
            )

    def test_labels_of_the_chart_are_the_charts(self):
        for path in (("commonLabels",), ("worker", "podLabels"), ("monitoring", "rules", "labels")):
            for label in ("app.kubernetes.io/name", "app.kubernetes.io/component", "helm.sh/chart"):
                with self.assertRaisesRegex(Refused, path[-1]):
                    render({path: {label: "mine"}})
        # One label in both places is one key, and the nearer one holds.
        text = render({("commonLabels", "tier"): "all", ("worker", "podLabels", "tier"): "w"}, "cpu")
        self.check(text)
        (workers,) = (o for o in objects(text) if o["kind"] == "StatefulSet")
        self.assertEqual(workers["spec"]["template"]["metadata"]["labels"]["tier"], "w")
        self.assertEqual(workers["metadata"]["labels"]["tier"], "all")
        self.assertEqual(text.count("tier: w"), 1)


if __name__ == "__main__":
    unittest.main()
