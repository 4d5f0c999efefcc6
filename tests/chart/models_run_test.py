#!/usr/bin/env python3
"""The recipes that fill a model volume, run as they are: from an image, by each pod's download, from a claim that a Job filled.

usage: .cache/tools/venv/bin/python tests/chart/models_run_test.py     (as root; PREGATE_BIN_DIR: the programs; exit code 77: cannot run here)

A cell of one worker a recipe; its pods are plain processes (kubelet.py). Only the recipe's addresses and digests are replaced.
"""

import copy
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

from arrows import Pod
from chart import ROOT, VALUE_FILES, Rendered
from kubelet import Node, RunningPod
from pod_network import why_not

BIN = pathlib.Path(os.environ.get("PREGATE_BIN_DIR", ROOT / "build" / "debug" / "bin"))
ROLES = ("scheduler", "router", "worker", "client")
READY_S = 60
WRONG = "0" * 64
STORE_PORT = 8080
SMALL = ["worker.dtype=f32", "worker.kvCacheBytes=16MiB", "worker.stepTokens=64", "worker.seqSlots=8"]
SMALL += ["router.kvCacheBytes=8MiB", "monitoring.dashboards.enabled=false", "worker.shmSize=16Mi"]
SMALL += ["worker.resources.requests.cpu=500m", "worker.resources.limits.memory=4Gi"]


class Recipes(unittest.TestCase):
    """Every recipe of deploy/helm/pregate/recipes gives a cell that answers, all with the same text."""

    answers = {}

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="pregate-models-"))
        os.chmod(cls.folder, 0o755)
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.certs, cls.store = cls.folder / "certs", cls.folder / "store"
        cls.store.mkdir()
        for command in (
            ["certs", "init", "--dir", cls.certs],
            ["synth", "--shape", "tiny", "--experts", "3", "--out", cls.store / "tiny"],
        ):
            subprocess.run([BIN / "pregate", *command], check=True, capture_output=True)
        subprocess.run(["tar", "-cf", cls.store / "tiny.tar", "-C", cls.store, "tiny"], check=True)
        cls.digest = hashlib.sha256((cls.store / "tiny.tar").read_bytes()).hexdigest()

    def start(self, recipe, address="192.0.2.1", digest=None, sets=(), host_paths=None):
        """A node with the recipe's release, not yet any pod. The store answers at `address`."""
        text = VALUE_FILES[recipe].read_text()
        text = text.replace("https://models.example/", f"http://{address}:{STORE_PORT}/")
        text = text.replace("192.0.2.0/24", f"{address}/32").replace("port: 443", f"port: {STORE_PORT}")
        text = text.replace(f'"{WRONG}"', f'"{digest or self.digest}"')
        folder = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
        os.chmod(folder, 0o755)
        (folder / "values.yaml").write_text(text)
        chart = Rendered(folder / "values.yaml", sets=[*SMALL, *sets])
        secrets = {f"demo-pregate-{role}-tls": self.certs / role for role in ROLES}
        self.node = Node(chart, folder, BIN, secrets, host_paths or {})
        self.addCleanup(self.node.close)
        return chart

    def serve_store(self):
        """The store as a machine outside of the cell: its requests go to a log."""
        netns, address = self.node.network.add(Pod("elsewhere", {"app": "store"}))
        self.store_log = self.node.folder / "store.log"
        with open(self.store_log, "wb") as log:
            server = subprocess.Popen(
                ["ip", "netns", "exec", netns, sys.executable, "-u", "-m", "http.server", str(STORE_PORT)],
                cwd=self.store,
                stdout=log,
                stderr=log,
            )
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        self.node.wait(lambda: b"Serving" in self.store_log.read_bytes(), 20)
        return address

    def assert_answers(self, recipe):
        """All pods become ready, and `helm test` gives the text that every recipe's cell gives."""
        self.node.start("scheduler")
        self.node.start("router")
        self.node.start("worker", 0)
        self.node.wait(lambda: all(pod.ready for pod in self.node.pods.values()), READY_S)
        test = copy.deepcopy(self.node.chart.workload("test"))
        test["spec"]["terminationGracePeriodSeconds"] = 5
        pod = self.node.start_pod("test", test["metadata"]["labels"], test["spec"])
        self.assertEqual(pod.process.wait(60), 0, self.node.report())
        self.answers[recipe] = pod.log.read_text().partition("\nprompt ")[0]
        self.assertEqual(len(set(self.answers.values())), 1, self.answers)
        self.assertTrue(self.answers[recipe].strip())

    def test_from_an_image(self):
        """With a container beside the router, which shares a volume with it."""
        beat = {
            "name": "beside",
            "image": "busybox:1.37",
            "command": ["sh", "-c", "while :; do date >/scratch/beat; sleep 1; done"],
            "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
        }
        reference = "registry.example/models/tiny@sha256:" + WRONG
        self.start(
            "model-image",
            host_paths={reference: self.store},
            sets=[
                f"router.extraContainers={json.dumps([beat])}",
                'router.extraVolumes=[{"name":"scratch","emptyDir":{}}]',
                'router.extraVolumeMounts=[{"name":"scratch","mountPath":"/scratch","readOnly":true}]',
            ],
        )
        self.assert_answers("model-image")
        router, worker = self.node.pods["demo-pregate-router"], self.node.pods["demo-pregate-worker-0"]
        code, output = router.execute(["/usr/bin/cat", "/scratch/beat"], 5)
        self.assertEqual(code, 0, output)
        self.assertNotEqual(router.execute(["/usr/bin/touch", "/scratch/x"], 5)[0], 0, "mounted read-only")
        code, output = worker.execute(["/usr/bin/df", "--output=size", "/dev/shm"], 5)
        self.assertEqual(output.split()[-1], str(16 * 1024), "KiB of worker.shmSize")
        self.assertEqual(worker.execute(["/usr/bin/touch", "/dev/shm/x"], 5)[0], 0)

    def test_by_download(self):
        # The store's address is known when its machine is there, and the machine when the node is.
        address = "10.244.7.3"
        self.start("model-download", address)
        self.assertEqual(self.serve_store(), address)
        self.assert_answers("model-download")
        self.assertEqual(self.store_log.read_text().count("GET /tiny.tar"), 3, "once a pod")
        worker = self.node.pods["demo-pregate-worker-0"]
        self.assertEqual(worker.execute(["/usr/bin/ls", "/model"], 5)[1].split(), ["tiny"])
        self.assertNotEqual(worker.execute(["/usr/bin/touch", "/model/x"], 5)[0], 0, "the program may only read")

    def test_a_wrong_digest_starts_nothing(self):
        self.start("model-download", "10.244.7.3", WRONG)
        self.serve_store()
        pod = self.node.start("scheduler")
        failed = (0.0, "init container download failed")
        self.node.wait(lambda: [text for _, text in pod.events].count(failed[1]) == 2, 20)
        self.assertIsNone(pod.process)
        self.assertIn("model.tar: FAILED", pod.log.read_text())
        pod.stop()

    def test_the_policies_let_nothing_else_out(self):
        self.start("model-download", "10.244.7.3", sets=["networkPolicy.extraEgress=[]"])
        self.serve_store()
        pod = self.node.start("router")
        self.node.wait(lambda: pod.events, 60)
        self.assertIn("init container download failed", [text for _, text in pod.events])
        self.assertNotIn("GET", self.store_log.read_text())
        pod.stop()

    def test_from_a_claim_that_a_job_fills(self):
        claim = self.folder / "claim"
        claim.mkdir()
        os.chown(claim, 0, 65532)
        os.chmod(claim, 0o2775)
        chart = self.start("model-claim", "10.244.7.3", host_paths={"models": claim})
        self.serve_store()
        (job,) = [o for o in chart.given if o["kind"] == "Job"]
        spec = {**job["spec"]["template"]["spec"], "terminationGracePeriodSeconds": 5}
        for _ in range(2):  # the second finds it there
            fill = RunningPod(self.node, "fill", {"app": "fill"}, spec)
            code = fill.process.wait(60)
            fill.stop()
            self.assertEqual(code, 0, fill.log.read_text())
        self.assertEqual(self.store_log.read_text().count("GET /tiny.tar"), 1)
        self.assertEqual(sorted(p.name for p in claim.iterdir()), [".sha256", "tiny"])
        self.assert_answers("model-claim")


if __name__ == "__main__":
    lacking = why_not()
    if lacking is None and not (BIN / "pregate-scheduler").exists():
        lacking = f"no programs in {BIN}"
    if lacking is not None:
        print(f"skipped: {lacking}", file=sys.stderr)
        sys.exit(77)
    unittest.main(verbosity=2)
