#!/usr/bin/env python3
"""The HTTP gateway as the chart renders it, in front of a cell of real processes: tokens, policies, probes, drain.

usage: .cache/tools/venv/bin/python tests/chart/gateway_run_test.py   (as root; PREGATE_BIN_DIR: the programs; exit code 77: cannot run here)

The tests run in the order of their names on one cell of one worker: each leaves it serving.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

from arrows import Pod
from chart import HTTP_PORT, ROOT, Rendered
from kubelet import Node
from pod_network import why_not

BIN = pathlib.Path(os.environ.get("PREGATE_BIN_DIR", ROOT / "build" / "debug" / "bin"))
ROLES = ("scheduler", "router", "worker", "client")
READY_S = 60
CLIENT, STRANGER = {"demo-pregate-client": "true"}, {"app": "stranger"}


class GatewayCell(unittest.TestCase):
    """One release: a cell, and two gateways that take tokens."""

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="pregate-gateway-"))
        os.chmod(cls.folder, 0o755)
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        certs, model, tokens = cls.folder / "certs", cls.folder / "tiny", cls.folder / "tokens"
        tokens.mkdir()
        cls.certs = certs

        def pregate(*command):
            return subprocess.run([BIN / "pregate", *command], check=True, capture_output=True, text=True).stdout

        pregate("certs", "init", "--dir", certs)
        pregate("synth", "--shape", "tiny", "--experts", "3", "--out", model)
        said = pregate("api-token", "new", "--tenant", "team-a", "--file", tokens / "tokens.json")
        cls.token = re.search(r"pregate-[0-9a-f]{64}", said)[0]
        cls.chart = Rendered(
            "minimal",
            sets=[
                "model.existingClaim=models",
                "model.path=tiny",
                "worker.dtype=f32",
                "worker.kvCacheBytes=16MiB",
                "worker.seqSlots=8",
                "worker.resources.requests.cpu=500m",
                "router.kvCacheBytes=8MiB",
                "gateway.enabled=true",
                "gateway.apiTokensSecret=tokens",
                "gateway.drainTimeoutSeconds=5",
            ],
        )
        folders = {f"pregate-{role}": certs / role for role in ROLES}
        folders["demo-pregate-monitor-tls"] = certs / "monitor"
        folders["tokens"] = tokens
        models = cls.folder / "models"
        models.mkdir()
        model.rename(models / "tiny")
        cls.node = Node(cls.chart, cls.folder, BIN, folders, {"models": models})
        cls.addClassCleanup(cls.node.close)

    def gateways(self):
        return [pod for name, pod in self.node.pods.items() if "gateway" in name]

    def request(self, pod, path, labels, *options, namespace="ns", port=HTTP_PORT, scheme="http"):
        """(HTTP status, or 0 where nothing answers; body) of a request from another pod."""
        netns, _ = self.node.network.add(Pod(namespace, labels))
        try:
            done = subprocess.run(
                ["ip", "netns", "exec", netns, "curl", "-s", "-m", "30", "-w", "\n%{http_code}", *map(str, options)]
                + [f"{scheme}://{pod.ip}:{port}{path}"],
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            self.node.network.remove(netns)
        body, _, status = done.stdout.rpartition("\n")
        return int(status), body

    def complete(self, pod, labels, token=None):
        body = json.dumps({"model": "tiny", "prompt": "Once upon", "max_tokens": 8, "temperature": 0})
        options = ["-H", "Content-Type: application/json", "-d", body]
        return self.request(
            pod, "/v1/completions", labels, *options, *(["-H", f"Authorization: Bearer {token}"] if token else [])
        )

    def wait_ready(self):
        self.node.wait(lambda: all(pod.ready for pod in self.node.pods.values()), READY_S)

    # --- in order ---

    def test_1_it_waits_alive_for_a_scheduler(self):
        first = self.node.start("gateway")
        self.node.wait(lambda: first.started, READY_S)
        self.assertFalse(first.ready)
        for component, ordinal in (("scheduler", None), ("router", None), ("worker", 0)):
            self.node.start(component, ordinal)
        workload = self.chart.workload("gateway")["spec"]["template"]
        self.node.start_pod("second-gateway", workload["metadata"]["labels"], workload["spec"])
        self.wait_ready()
        self.assertEqual([pod.restarts for pod in self.gateways()], [0, 0])

    def test_2_a_client_with_a_token_is_answered_by_every_gateway(self):
        texts = set()
        for pod in self.gateways():
            status, body = self.complete(pod, CLIENT, self.token)
            self.assertEqual(status, 200, body + self.node.report())
            texts.add(json.loads(body)["choices"][0]["text"])
        self.assertEqual(len(texts), 1)
        self.assertTrue(texts.pop())

    def test_3_nobody_else_is(self):
        pod = self.gateways()[0]
        self.assertEqual(self.complete(pod, CLIENT)[0], 401)
        self.assertEqual(self.complete(pod, CLIENT, "pregate-" + "0" * 64)[0], 401)
        self.assertEqual(self.complete(pod, STRANGER, self.token)[0], 0, "a pod without the client label")
        self.assertEqual(self.request(pod, "/health", CLIENT, namespace="elsewhere")[0], 0)

    def test_4_metrics_are_prometheus_alone(self):
        pod, certs = self.gateways()[0], self.certs / "monitor"
        options = ["--cacert", certs / "ca.crt", "--cert", certs / "tls.crt", "--key", certs / "tls.key", "-k"]
        status, page = self.request(
            pod, "/metrics", {}, *options, namespace="monitoring", port=HTTP_PORT + 1, scheme="https"
        )
        self.assertEqual(status, 200, page)
        self.assertIn('model="tiny"', page)
        self.assertEqual(self.request(pod, "/metrics", CLIENT, *options, port=HTTP_PORT + 1, scheme="https")[0], 0)

    def test_5_without_a_scheduler_it_is_unready_and_alive(self):
        old = self.node.pods["demo-pregate-scheduler"]
        old.stop()
        del self.node.pods["demo-pregate-scheduler"]
        self.node.wait(lambda: not any(pod.ready for pod in self.gateways()), 20)
        new = self.node.start("scheduler")
        self.assertNotEqual(new.ip, old.ip)
        self.wait_ready()
        self.assertEqual([pod.restarts for pod in self.gateways()], [0, 0])
        self.assertEqual(self.complete(self.gateways()[0], CLIENT, self.token)[0], 200)

    def test_6_it_ends_cleanly_within_its_grace(self):
        for pod in self.gateways():
            code, seconds = pod.stop()
            self.assertEqual(code, 0, self.node.report())
            self.assertLess(seconds, pod.spec["terminationGracePeriodSeconds"])


if __name__ == "__main__":
    lacking = why_not()
    if lacking is None and not (BIN / "pregate-gateway").exists():
        lacking = f"no pregate-gateway in {BIN}"
    if lacking is not None:
        print(f"skipped: {lacking}", file=sys.stderr)
        sys.exit(77)
    unittest.main(verbosity=2, failfast=True)
