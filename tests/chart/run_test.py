#!/usr/bin/env python3
"""Starts what the chart renders, as it is, in network namespaces: commands, environment, mounts and probes.

usage: .cache/tools/venv/bin/python tests/chart/run_test.py     (as root; PREGATE_BIN_DIR: the programs; exit code 77: cannot run here)

The tests run in the order of their names on one cell of two workers: each leaves it serving.
"""

import copy
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from arrows import Pod
from chart import ROOT, Rendered, flags
from kubelet import SPEED, Node
from pod_network import why_not

BIN = pathlib.Path(os.environ.get("PREGATE_BIN_DIR", ROOT / "build" / "debug" / "bin"))
ROLES = ("scheduler", "router", "worker", "client", "monitor")
NEW_ADDRESS_S = 10  # gRPC's default is to look a name up every 30 s at most
READY_S = 60  # until a tiny model's cell serves, on two busy cores

SCRAPE = """
import http.client, ssl, sys
address, certs = sys.argv[1:]
context = ssl.create_default_context(cafile=certs + "/ca.crt")
context.check_hostname = False
context.load_cert_chain(certs + "/tls.crt", certs + "/tls.key")
host, port = address.split(":")
connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=5)
connection.request("GET", "/metrics")
answer = connection.getresponse()
print(answer.read().decode())
sys.exit(answer.status != 200)
"""


class Cell(unittest.TestCase):
    """One rendered release with ci/cpu.yaml."""

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="pregate-chart-"))
        os.chmod(cls.folder, 0o755)
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        certs, model = cls.folder / "certs", cls.folder / "model"
        subprocess.run([BIN / "pregate", "certs", "init", "--dir", certs], check=True, capture_output=True)
        subprocess.run(
            [
                BIN / "pregate",
                "synth",
                "--shape",
                "tiny",
                "--experts",
                "3",
                "--shared",
                "0.4",
                "--own",
                "0.2",
                "--out",
                model,
            ],
            check=True,
            capture_output=True,
        )
        cls.certs = certs
        cls.chart = Rendered("cpu")
        cls.node = Node(
            cls.chart,
            cls.folder,
            BIN,
            {f"cell-{role}": certs / role for role in ROLES},
            {"/srv/models/tiny": model},
        )
        cls.addClassCleanup(cls.node.close)
        cls.replicas = cls.chart.workload("worker")["spec"]["replicas"]
        cls.answer = None

    def pod(self, component, ordinal=None):
        name = self.chart.workload(component)["metadata"]["name"]
        return self.node.pods[name if ordinal is None else f"{name}-{ordinal}"]

    def all_ready(self):
        names = {"scheduler", "router"}
        return all(self.pod(c).ready for c in names) and all(
            self.pod("worker", r).ready for r in range(self.replicas)
        )

    def wait_ready(self, timeout=READY_S):
        begun = time.monotonic()
        self.node.wait(self.all_ready, timeout)
        return time.monotonic() - begun

    def run_once(self, name, labels, spec, timeout=60):
        """Runs a pod to its end: (exit code, stdout and stderr)."""
        pod = self.node.start_pod(name, labels, spec)
        try:
            pod.process.wait(timeout)
        finally:
            pod.stop()
            del self.node.pods[pod.name]
        return pod.process.returncode, pod.log.read_text(errors="replace")

    def helm_test(self, **changes):
        """The rendered test pod, its labels or arguments changed: (exit code, output)."""
        pod = copy.deepcopy(self.chart.workload("test"))
        spec = pod["spec"]
        spec["terminationGracePeriodSeconds"] = 5
        container = spec["containers"][0]
        for old, new in changes.get("replace", {}).items():
            self.assertIn(old, container["args"])
            container["args"] = [new if arg == old else arg for arg in container["args"]]
        return self.run_once(pod["metadata"]["name"], changes.get("labels", pod["metadata"]["labels"]), spec)

    def scrape(self, component, ordinal=None, role="monitor", namespace="monitoring"):
        """A program's metrics page as a pod of a namespace sees it: (exit code, output)."""
        target = self.pod(component, ordinal)
        port = flags(target.container)["--metrics-listen"].rpartition(":")[2]
        netns, _ = self.node.network.add(Pod(namespace, {"app": "prometheus"}))
        try:
            done = subprocess.run(
                [
                    "ip",
                    "netns",
                    "exec",
                    netns,
                    sys.executable,
                    "-c",
                    SCRAPE,
                    f"{target.ip}:{port}",
                    self.certs / role,
                ],
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
        finally:
            self.node.network.remove(netns)
        return done.returncode, done.stdout + done.stderr

    def workers_up(self):
        code, page = self.scrape("scheduler")
        self.assertEqual(code, 0, page)
        return sum(float(v) for v in re.findall(r"^pregate_worker_up(?:\{[^}]*\})? (\S+)$", page, re.M))

    def assert_answers(self):
        """`helm test` passes, with the same text as ever."""
        code, output = self.helm_test()
        self.assertEqual(code, 0, output + self.node.report())
        answer = output.partition("\nprompt ")[0]
        self.assertTrue(answer.strip())
        type(self).answer = type(self).answer or answer
        self.assertEqual(answer, self.answer, "greedy answers to one prompt are equal")

    def members(self):
        """How many workers the group that was formed last has, by the log of its first."""
        lines = self.pod("worker", 0).log.read_text(errors="replace").splitlines()
        formed = [
            line
            for line in map(json.loads, filter(lambda text: text.startswith("{"), lines))
            if line["message"] == "formed" and line["status"] == "ok"
        ]
        return formed[-1]["members"]

    # --- in order ---

    def test_01_a_scheduler_without_workers_waits_alive(self):
        scheduler = self.node.start("scheduler")
        self.node.wait(lambda: scheduler.started, READY_S)
        # Some liveness probes, and names that lead nowhere for so long that gRPC alone looks again late.
        time.sleep(3 * scheduler.container["livenessProbe"]["periodSeconds"] / SPEED)
        self.assertFalse(scheduler.ready)
        self.assertEqual(scheduler.restarts, 0)

    def test_02_the_cell_becomes_ready(self):
        self.node.start("router")
        for rank in reversed(range(self.replicas)):  # any order
            self.node.start("worker", rank)
        seconds = self.wait_ready()
        print(f"# router and {self.replicas} workers started: cell ready after {seconds:.1f} s", flush=True)
        self.assertEqual([p.restarts for p in self.node.pods.values()], [0] * (2 + self.replicas))

    def test_03_the_pods_are_what_their_security_context_says(self):
        for pod in self.node.pods.values():
            status = dict(
                line.split(":\t", 1)
                for line in pathlib.Path(f"/proc/{pod.process.pid}/status").read_text().splitlines()
                if ":\t" in line
            )
            self.assertEqual(status["Uid"].split(), ["65532"] * 4)
            self.assertEqual(int(status["CapEff"], 16), 0)
            self.assertEqual(status["NoNewPrivs"], "1")
            code, output = pod.execute(["/usr/bin/touch", "/written"], 5)
            self.assertNotEqual(code, 0)
            self.assertIn("Read-only file system", output)

    def test_04_helm_test_generates(self):
        self.assert_answers()
        # One worker makes a cell ready; the other joins when its name is there.
        begun = time.monotonic()
        self.node.wait(lambda: self.workers_up() == self.replicas, NEW_ADDRESS_S)
        print(f"# all workers attached {time.monotonic() - begun:.1f} s after the answer", flush=True)
        self.node.wait(lambda: self.members() == self.replicas, NEW_ADDRESS_S)

    def test_05_helm_test_fails_where_it_should(self):
        code, output = self.helm_test(
            replace={"--prompt=What is a mixture of experts?": "--prompt=" + "too long " * 3000}
        )
        self.assertNotEqual(code, 0, output)
        stranger = {"app": "stranger"}
        code, output = self.helm_test(labels=stranger, replace={"--wait-s=120": "--wait-s=3"})
        self.assertNotEqual(code, 0, "a pod without the client label reaches the API: " + output)

    def test_06_metrics_are_prometheus_alone(self):
        for component, ordinal in (("scheduler", None), ("router", None), ("worker", 0), ("worker", 1)):
            code, page = self.scrape(component, ordinal)
            self.assertEqual(code, 0, page)
            self.assertIn('model="tiny"', page)
        self.assertNotEqual(self.scrape("scheduler", role="client")[0], 0, "a client's certificate")
        self.assertNotEqual(self.scrape("scheduler", namespace="ns")[0], 0, "another namespace")

    def test_07_a_killed_worker_comes_back(self):
        worker = self.pod("worker", 1)
        worker.process.send_signal(signal.SIGKILL)
        self.node.wait(lambda: worker.restarts == 1, 20)
        seconds = self.wait_ready()
        print(f"# worker 1 killed: all ready again after {seconds:.1f} s", flush=True)
        self.assertEqual(worker.exit_codes, [-signal.SIGKILL])
        self.assert_answers()
        self.node.wait(lambda: self.workers_up() == self.replicas, 30)
        self.assertEqual(self.members(), self.replicas)
        self.assertEqual(self.pod("scheduler").restarts, 0)
        self.assertEqual(self.pod("worker", 0).restarts, 0)

    def test_08_a_moved_worker_is_found_at_its_new_address(self):
        old = self.pod("worker", 0)
        code, seconds = old.stop()
        self.assertEqual(code, 0)
        self.assertLess(seconds, old.spec["terminationGracePeriodSeconds"])
        new = self.node.start("worker", 0)
        self.assertNotEqual(new.ip, old.ip)
        begun = time.monotonic()
        self.node.wait(lambda: new.ready and self.workers_up() == self.replicas, READY_S)
        seconds = time.monotonic() - begun
        print(f"# worker 0 at a new address: attached after {seconds:.1f} s", flush=True)
        self.assertLess(seconds, NEW_ADDRESS_S)
        self.wait_ready()
        self.assert_answers()

    def test_09_a_moved_router_is_found_too(self):
        old = self.pod("router")
        self.assertEqual(old.stop()[0], 0)
        begun = time.monotonic()
        new = self.node.start("router")
        self.assertNotEqual(new.ip, old.ip)
        self.wait_ready()
        print(f"# router at a new address: all ready after {time.monotonic() - begun:.1f} s", flush=True)
        self.assert_answers()

    def test_10_a_scheduler_whose_workers_are_gone_is_unready_and_alive(self):
        scheduler = self.pod("scheduler")
        for rank in range(self.replicas):
            self.pod("worker", rank).stop()
        self.node.wait(lambda: not scheduler.ready, 10)
        probe = scheduler.container["livenessProbe"]  # for longer than it would take to kill
        time.sleep((probe["failureThreshold"] + 1) * probe["periodSeconds"] / SPEED)
        self.assertEqual(scheduler.restarts, 0)
        self.assertFalse(scheduler.ready)
        for rank in range(self.replicas):
            self.node.start("worker", rank)
        self.wait_ready()
        self.assert_answers()

    def test_11_a_frozen_worker_is_restarted(self):
        worker = self.pod("worker", 1)
        worker.process.send_signal(signal.SIGSTOP)
        self.node.wait(lambda: not worker.ready, 20)
        self.assertEqual(worker.restarts, 0, "unready long before it is killed")
        self.node.wait(lambda: worker.restarts == 1, 90)
        self.assertIn("liveness failed", [text for _, text in worker.events])
        self.wait_ready()
        self.assert_answers()
        self.assertEqual(self.pod("scheduler").restarts, 0)

    def test_12_every_program_ends_cleanly_within_its_grace(self):
        for pod in sorted(self.node.pods.values(), key=lambda p: "scheduler" not in p.name):
            with self.subTest(pod=pod.name):
                code, seconds = pod.stop()
                self.assertEqual(code, 0, self.node.report())
                self.assertLess(seconds, pod.spec["terminationGracePeriodSeconds"])
                print(f"# {pod.name}: SIGTERM to exit {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    lacking = why_not()
    if lacking is None and not (BIN / "pregate-scheduler").exists():
        lacking = f"no programs in {BIN}"
    if lacking is not None:
        print(f"skipped: {lacking}", file=sys.stderr)
        sys.exit(77)
    unittest.main(verbosity=2, failfast=True)
