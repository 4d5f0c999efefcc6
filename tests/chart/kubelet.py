"""Runs rendered pods as plain processes, as a kubelet would: environment, mounts, user, probes, restarts.

Real: each pod's network namespace, address and ports, DNS over UDP, enforced NetworkPolicies, a read-only
root, user and groups, dropped capabilities, mounted secrets, model and empty volumes, init containers, containers
beside the program, exec probes inside of the container, SIGTERM and SIGKILL. Not: images (our programs for ours, this
machine's for others), cgroups, seccomp, the cluster's scheduler, cluster IPs (a Service's name leads to its ready
pods themselves), probes and restarts of the containers beside. Time between probes is divided by SPEED.
"""

import itertools
import math
import os
import pathlib
import shutil
import signal
import subprocess
import threading
import time

from arrows import Pod
from chart import quantity, selects
from pod_network import PodNetwork, write_names

SPEED = 5.0
HERE = pathlib.Path(__file__).resolve().parent


class RunningPod:
    """One pod. Its thread runs its init containers, then probes and restarts the first container until stop()."""

    def __init__(self, node, name, labels, spec, namespace="ns"):
        self.node, self.name, self.labels, self.spec = node, name, labels, spec
        self.container = spec["containers"][0]
        self.folder = node.folder / f"{name}-{next(node.numbers)}"
        (self.folder / "root").mkdir(parents=True)
        self.log = self.folder / "log"
        self.started = self.ready = False
        self.restarts = 0
        self.exit_codes = []
        self.events = []  # (seconds since the node began, text)
        self.process = None
        self.beside = []  # the other containers' processes
        self.stopping = threading.Event()
        self.netns, self.ip = node.network.add(Pod(namespace, labels))
        self.thread = threading.Thread(target=self.run, name=name)
        if not spec.get("initContainers"):
            self.begin()
        if spec.get("restartPolicy") != "Never":
            self.thread.start()

    def note(self, text):
        """Writes an event."""
        self.events.append((round(time.monotonic() - self.node.began, 1), text))

    def environment(self, container):
        """NAME=VALUE of each env entry, from the downward API where it says so."""
        pairs = [] if container["image"].startswith("pregate:") else ["PATH=/usr/bin"]
        for entry in container.get("env", []):
            source = entry.get("valueFrom", {})
            if "fieldRef" in source:
                value = self.field(source["fieldRef"]["fieldPath"])
            elif "resourceFieldRef" in source:
                value = self.resource(source["resourceFieldRef"])
            else:
                value = entry["value"]
            pairs.append(f"{entry['name']}={value}")
        return pairs

    def field(self, path):
        """A field of the pod, as fieldRef names it."""
        if path == "status.podIP":
            return self.ip
        assert path.startswith("metadata.labels['"), path
        return self.labels[path[len("metadata.labels['") : -2]]

    def resource(self, ref):
        """A request or limit of the container, rounded up to the divisor."""
        assert ref["containerName"] == self.container["name"]
        kind, _, name = ref["resource"].partition(".")
        return math.ceil(quantity(self.container["resources"][kind][name]) / quantity(ref["divisor"]))

    def mounts(self, container):
        """HOST_DIR:MOUNT_PATH:ro or rw of each volume mount."""
        volumes = {v["name"]: v for v in self.spec["volumes"]}
        for mount in container.get("volumeMounts", []):
            folder, writable = self.volume(volumes[mount["name"]])
            mode = "rw" if writable and not mount.get("readOnly") else "ro"
            yield f"{folder}:{mount['mountPath']}:{mode}"

    def volume(self, volume):
        """Where a volume lies, and whether it may be written."""
        if "secret" in volume:
            return self.secret(volume["secret"]), False
        if "emptyDir" in volume:
            return self.empty_dir(volume["name"], volume["emptyDir"]), True
        if "hostPath" in volume:
            return self.node.host_paths[volume["hostPath"]["path"]], True
        if "image" in volume:
            return self.node.host_paths[volume["image"]["reference"]], False
        claim = volume["persistentVolumeClaim"]
        return self.node.host_paths[claim["claimName"]], not claim.get("readOnly")

    def empty_dir(self, name, source):
        """A folder of the pod's that the fsGroup owns, in memory with its size where the volume says so."""
        folder = self.folder / "volumes" / name
        if not folder.exists():
            folder.mkdir(parents=True)
            if source.get("medium") == "Memory":
                size = int(quantity(source["sizeLimit"]))
                subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "shm", folder], check=True)
                self.node.mounted.append(folder)
            os.chown(folder, 0, self.spec["securityContext"]["fsGroup"])
            os.chmod(folder, 0o2777)
        return folder

    def secret(self, source):
        """A secret as the kubelet writes it: files behind a link, of the fsGroup, with the default mode."""
        target = self.folder / "secrets" / source["secretName"]
        if not target.exists():
            data = target / "..2026"
            data.mkdir(parents=True)
            for file in filter(pathlib.Path.is_file, self.node.secrets[source["secretName"]].iterdir()):
                key = file.name
                shutil.copy(file, data / key)
                os.chown(data / key, 0, self.spec["securityContext"]["fsGroup"])
                os.chmod(data / key, source["defaultMode"])
                (target / key).symlink_to(f"..data/{key}")
            (target / "..data").symlink_to(data.name)
        return target

    def begin(self):
        """Starts the containers."""
        self.started = self.ready = False
        self.process = self.launch(self.container)
        self.beside = self.beside or [self.launch(container) for container in self.spec["containers"][1:]]
        self.note(f"container started, pid {self.process.pid}")

    def initialize(self):
        """Runs the init containers, one after the other, each until it succeeds; false where stop() came first."""
        for container in self.spec.get("initContainers", []):
            while self.launch(container).wait() != 0:
                self.note(f"init container {container['name']} failed")
                if self.stopping.wait(5 / SPEED):
                    return False
            self.note(f"init container {container['name']} done")
        return True

    def launch(self, container):
        """A process that is a container."""
        security = self.spec["securityContext"]
        with open(self.log, "ab") as log:
            return subprocess.Popen(
                [
                    "ip",
                    "netns",
                    "exec",
                    self.netns,
                    "unshare",
                    "-m",
                    HERE / "sandbox.sh",
                    self.folder / "root",
                    self.node.programs,
                    self.node.etc,
                    str(security["runAsUser"]),
                    str(security["runAsGroup"]),
                    str(security["fsGroup"]),
                    *self.mounts(container),
                    "--",
                    *self.environment(container),
                    *container["command"],
                    *container.get("args", []),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def execute(self, command, timeout):
        """Runs a command inside of the container, as an exec probe: (exit code or None, output)."""
        security = self.spec["securityContext"]
        inside = [
            "nsenter",
            "--target",
            str(self.process.pid),
            "--mount",
            "--net",
            "--root",
            "--wd",
            "/usr/bin/setpriv",
            "--reuid",
            str(security["runAsUser"]),
            "--regid",
            str(security["runAsGroup"]),
            "--groups",
            str(security["fsGroup"]),
            "--no-new-privs",
            "--bounding-set=-all",
            "--inh-caps=-all",
            "/usr/bin/env",
            "-i",
            "PATH=/programs",
            *self.environment(self.container),
            *command,
        ]
        try:
            done = subprocess.run(inside, capture_output=True, text=True, timeout=timeout, check=False)
            return done.returncode, done.stdout + done.stderr
        except subprocess.TimeoutExpired:
            return None, "timed out"

    def probe(self, probe):
        """Whether a probe passes: a command inside, or a GET from the node, which no NetworkPolicy holds up."""
        if "exec" in probe:
            return self.execute(probe["exec"]["command"], probe["timeoutSeconds"])[0] == 0
        get = probe["httpGet"]
        port = next(p["containerPort"] for p in self.container["ports"] if p["name"] == get["port"])
        url = f"http://{self.ip}:{port}{get['path']}"
        command = ["ip", "netns", "exec", self.netns, "curl", "-sf", "-o", "/dev/null", "-m", str(probe["timeoutSeconds"]), url]
        return subprocess.run(command, check=False).returncode == 0

    def run(self):
        """The kubelet's loop for this pod."""
        failures = dict.fromkeys(("startup", "readiness", "liveness"), 0)
        due = dict.fromkeys(failures, 0.0)
        if self.process is None:
            if not self.initialize():
                return
            self.begin()
        while not self.stopping.wait(0.05):
            if self.process.poll() is not None:
                self.restart(f"exited with {self.process.returncode}")
                failures, due = dict.fromkeys(failures, 0), dict.fromkeys(due, 0.0)
                continue
            for kind in ("readiness", "liveness") if self.started else ("startup",):
                probe = self.container[f"{kind}Probe"]
                if time.monotonic() < due[kind]:
                    continue
                due[kind] = time.monotonic() + probe["periodSeconds"] / SPEED
                failures[kind] = 0 if self.probe(probe) else failures[kind] + 1
                self.judge(kind, failures[kind], probe)

    def judge(self, kind, failures, probe):
        """What follows from a probe's answer."""
        if self.stopping.is_set() or self.process.poll() is not None:
            return
        if kind == "startup" and failures == 0:
            self.started = True
            self.note("started")
        elif kind == "readiness":
            ready = failures < probe["failureThreshold"]
            if ready != self.ready:
                self.ready = ready
                self.note("ready" if ready else "not ready")
                self.node.publish()
        elif failures >= probe["failureThreshold"]:
            self.note(f"{kind} failed")
            self.terminate(5)

    def restart(self, why):
        """A container that ended begins again in the same pod, with the same address."""
        self.exit_codes.append(self.process.returncode)
        self.note(why)
        self.ready = False
        self.node.publish()
        self.restarts += 1
        self.begin()

    def terminate(self, grace):
        """SIGTERM, then SIGKILL after `grace` seconds: (exit code, seconds)."""
        begun = time.monotonic()
        if self.process is None:
            return None, 0.0
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(grace)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        return self.process.returncode, time.monotonic() - begun

    def kill_beside(self):
        """Ends the other containers."""
        for process in self.beside:
            process.kill()
            process.wait()

    def stop(self):
        """Ends the pod as a deletion does: (exit code, seconds)."""
        self.stopping.set()
        if self.thread.is_alive():
            self.thread.join()
        self.ready = False
        self.node.publish()
        ended = self.terminate(self.spec["terminationGracePeriodSeconds"])
        self.kill_beside()
        self.node.network.remove(self.netns)
        return ended


class Node:
    """All pods of a rendered chart, DNS, and clients beside them. close() ends everything."""

    def __init__(self, chart, folder, programs, secrets, host_paths):
        self.chart, self.folder, self.programs = chart, folder, programs
        self.secrets, self.host_paths = secrets, host_paths
        self.began = time.monotonic()
        self.numbers = itertools.count()
        self.lock = threading.Lock()
        self.pods = {}  # name -> RunningPod
        self.mounted = []  # folders that are mounts of this machine
        self.network = PodNetwork(chart.all("NetworkPolicy"))
        self.names = folder / "names.json"
        dns_netns, self.dns_ip = self.network.add(Pod("kube-system", {"k8s-app": "kube-dns"}))
        self.publish()
        self.dns = subprocess.Popen(
            ["ip", "netns", "exec", dns_netns, "python3", HERE / "dns_server.py", self.names, self.dns_ip]
        )
        self.etc = folder / "etc"
        self.etc.mkdir()
        (self.etc / "resolv.conf").write_text(
            f"nameserver {self.dns_ip}\n"
            "search ns.svc.cluster.local svc.cluster.local cluster.local\n"
            "options ndots:5\n"
        )
        (self.etc / "hosts").write_text("127.0.0.1 localhost\n")
        (self.etc / "nsswitch.conf").write_text("hosts: files dns\n")
        (self.etc / "ld.so.cache").write_bytes(pathlib.Path("/etc/ld.so.cache").read_bytes())

    def start(self, component, ordinal=None):
        """Starts a workload's pod; workers by ordinal, as their StatefulSet does."""
        workload = self.chart.workload(component)
        name, template = workload["metadata"]["name"], workload["spec"]["template"]
        labels = dict(template["metadata"]["labels"])
        if ordinal is not None:
            name = f"{name}-{ordinal}"
            labels["apps.kubernetes.io/pod-index"] = str(ordinal)
            labels["statefulset.kubernetes.io/pod-name"] = name
        return self.start_pod(name, labels, template["spec"])

    def start_pod(self, name, labels, spec):
        """Starts any pod; one with restartPolicy Never is neither probed nor restarted."""
        pod = RunningPod(self, name, labels, spec)
        self.pods[name] = pod
        self.publish()
        return pod

    def publish(self):
        """DNS names: all pods of a headless Service and each by itself, the ready ones of others."""
        with self.lock:
            names = {}
            for service in self.chart.all("Service"):
                host = f"{service['metadata']['name']}.ns.svc.cluster.local"
                headless = service["spec"].get("clusterIP") == "None"
                meant = [
                    p
                    for p in list(self.pods.values())
                    if selects({"matchLabels": service["spec"]["selector"]}, p.labels)
                    and (p.ready or service["spec"].get("publishNotReadyAddresses"))
                    and not p.stopping.is_set()
                ]
                names[host] = [p.ip for p in meant]
                if headless:
                    names.update({f"{p.name}.{host}": [p.ip] for p in meant})
            write_names(self.names, names)

    def wait(self, what, timeout):
        """Waits until `what()`; the exception shows every pod's events and the end of its log."""
        deadline = time.monotonic() + timeout
        while not what():
            if time.monotonic() > deadline:
                raise AssertionError("timed out\n" + self.report())
            time.sleep(0.05)

    def report(self):
        """Events and logs, for a failure's message."""
        lines = []
        for pod in self.pods.values():
            lines.append(f"== {pod.name} {pod.ip}")
            lines += [f"  {at:7.1f} s {text}" for at, text in pod.events]
            lines += ["  | " + line for line in pod.log.read_text(errors="replace").splitlines()[-12:]]
        return "\n".join(lines)

    def close(self):
        """Kills what is left and removes the namespaces."""
        for pod in self.pods.values():
            pod.stopping.set()
        for pod in self.pods.values():
            if pod.thread.is_alive():
                pod.thread.join()
            if pod.process is not None and pod.process.poll() is None:
                pod.process.kill()
                pod.process.wait()
            pod.kill_beside()
        for folder in self.mounted:
            subprocess.run(["umount", folder], check=True)
        self.dns.kill()
        self.dns.wait()
        self.network.close()
