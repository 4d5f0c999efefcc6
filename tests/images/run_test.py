#!/usr/bin/env python3
"""Builds an image from the programs of a build folder, looks into it, and runs a cell of deploy/compose.yaml.
usage: run_test.py BIN_DIR      exit code 77: this machine cannot, and the last line says why"""

import json
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import tempfile
import time

import compose_files
from compose_files import ROOT
from containers import RUN_OPTIONS, Containers, Unavailable

PROGRAMS = {"pregate", "pregate-gateway", "pregate-router", "pregate-scheduler", "pregate-worker"}
TAG = "pregate:test"
SKIP = 77
# For a cell with the tiny model: 3 s; 50 s where DNS queries get lost while the network's name server starts.
START_S = 150


def say(text):
    print(f"[{time.monotonic() - say.start:5.1f} s] {text}", flush=True)


say.start = time.monotonic()


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def variant_of(bin_dir):
    libraries = subprocess.run(
        ["ldd", bin_dir / "pregate-worker"], text=True, check=True, capture_output=True
    ).stdout
    return "cuda" if "libcudart" in libraries else "cpu"


def check_metadata(containers):
    config = json.loads(containers.run("podman", "image", "inspect", TAG).stdout)[0]
    check(config["Config"]["User"] == "65532:65532", "the image's user")
    check(config["Config"]["StopSignal"] == "SIGTERM", "the image's stop signal")
    check(
        config["Healthcheck"]["Test"] == ["CMD", "/usr/bin/pregate", "health"],
        f"healthcheck {config.get('Healthcheck')}",
    )
    check(not config["Config"].get("Entrypoint"), "an entrypoint")
    labels = config["Labels"]
    for name in ("title", "version", "revision"):
        check(
            labels.get(f"org.opencontainers.image.{name}", "unknown") != "unknown",
            f"label {name} in {labels}",
        )


def check_contents(containers, work):
    """4 programs, no shell, no set-uid file, nothing all may write but /tmp and the like, packages whole."""
    root = work / "root"
    root.mkdir()
    name = containers.run("podman", "create", *RUN_OPTIONS[2:], "--no-healthcheck", TAG).stdout.split()[-1]
    containers.run("podman", "export", "--output", work / "root.tar", name)
    containers.run("podman", "rm", name)
    containers.run("tar", "--extract", "--file", work / "root.tar", "--directory", root)
    check({p.name for p in (root / "usr/bin").iterdir()} == PROGRAMS, "/usr/bin has other programs than ours")
    check(not any((root / "usr/sbin").iterdir()), "/usr/sbin is not empty")
    for path in root.rglob("*"):
        mode = path.lstat().st_mode
        check(
            not (stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID)), f"set-uid or set-gid: {path}"
        )
        if mode & stat.S_IWOTH and not path.is_symlink():
            check(mode & stat.S_ISVTX, f"anyone may write {path}")
    verify = containers.run("dpkg", f"--root={root}", "--verify")
    check(verify.stdout == "", f"files differ from their packages':\n{verify.stdout}")
    packages = containers.run(
        "dpkg-query",
        f"--admindir={root}/var/lib/dpkg",
        "--show",
        "--showformat=${Package} ${db:Status-Status}\n",
    )
    listed = dict(line.split() for line in packages.stdout.splitlines())
    check({"base-files", "libc6", "libssl3", "libgrpc++1.51"} <= listed.keys(), f"packages {sorted(listed)}")
    check(set(listed.values()) == {"installed"}, f"states {listed}")
    shutil.rmtree(root)


def check_programs(containers, work, variant):
    """Each program starts; only /tmp can be written; a worker without its device says so."""
    for program in sorted(PROGRAMS):
        check(program in containers.podman_run(TAG, program, "--help").stdout, f"{program} --help")
    synth = ["pregate", "synth", "--shape", "tiny", "--out"]
    check("wrote" in containers.podman_run(TAG, *synth, "/tmp/model").stdout, "a model in /tmp")
    refused = containers.podman_run(TAG, *synth, "/model", check=False)
    check(
        refused.returncode == 1 and "/model" in refused.stdout,
        f"a read-only root took a file: {refused.stdout}",
    )
    if variant == "cuda" and pathlib.Path("/dev/nvidiactl").exists():
        return
    mount = ["--volume", f"{work}/model:/model:ro"]
    worker = containers.podman_run(
        TAG, "pregate-worker", "--model", "/model", "--device", "cuda", options=mount, check=False
    )
    check(worker.returncode in (1, 2), f"exit code {worker.returncode}: {worker.stdout}")
    check("cudaGetDeviceCount" in worker.stdout or "built without it" in worker.stdout, worker.stdout)


class Cell:
    """deploy/compose.yaml with two workers, under a project name of its own and without published ports."""

    def __init__(self, containers, work):
        self.containers = containers
        self.name = f"pregate-test-{os.getpid()}"
        self.certs = work / "certs"
        environment = {
            "PREGATE_IMAGE": TAG,
            "PREGATE_MODEL_DIR": str(work / "model"),
            "PREGATE_CERTS_DIR": str(self.certs),
        }
        document = compose_files.resolve(["compose.yaml"], environment, "two-workers.env")
        document["name"] = self.name
        for service in document["services"].values():
            del service["ports"], service["restart"]
            service.pop("profiles", None)
        self.services = sorted(document["services"])
        self.file = work / "compose.yaml"
        self.file.write_text(json.dumps(document))

    def compose(self, *arguments):
        self.containers.run(
            compose_files.VENV_PYTHON.with_name("podman-compose"),
            "--podman-run-args",
            " ".join(RUN_OPTIONS),
            "--project-name",
            self.name,
            "--file",
            self.file,
            *arguments,
        )

    def container(self, service):
        return f"{self.name}_{service}_1"

    def logs(self, service):
        return self.containers.run(
            "podman", "logs", "--tail", "20", self.container(service), check=False
        ).stdout

    def all_logs(self):
        return "\n".join(f"== {service}\n{self.logs(service)}" for service in self.services)

    def wait_serving(self, service, deadline):
        """Runs the compose file's healthcheck until it passes."""
        while True:
            probe = self.containers.run("podman", "healthcheck", "run", self.container(service), check=False)
            if probe.returncode == 0:
                return
            check(probe.returncode == 1, f"{service} has ended:\n{self.logs(service)}")
            check(
                time.monotonic() < deadline,
                f"{service} is not serving after {START_S} s: {probe.stdout}\n{self.all_logs()}",
            )
            time.sleep(0.2)

    def generate(self, role):
        """`pregate generate` from another container, with the identity of `role` or none."""
        options = ["--network", f"{self.name}_default"]
        identity = []
        if role:
            options += ["--volume", f"{self.certs / role}:/tls:ro"]
            identity = ["--tls-dir", "/tls"]
        return self.containers.podman_run(
            TAG,
            "pregate",
            "generate",
            "--server",
            "scheduler:7600",
            *GENERATE,
            *identity,
            options=options,
            check=False,
        )


GENERATE = ["--prompt", "Once upon a time", "--max-tokens", "12", "--temperature", "0", "--ignore-eos"]


def check_cell(containers, work, bin_dir):
    cell = Cell(containers, work)
    cell.compose("up", "--detach")
    deadline = time.monotonic() + START_S
    for service in cell.services:
        cell.wait_serving(service, deadline)
    say(f"{', '.join(cell.services)} are serving")
    for service in cell.services:
        processes = containers.run("podman", "top", cell.container(service), "huser", "pid").stdout.split()[
            2:
        ]
        check(processes == ["65532", "1"], f"{service} runs as {processes}")

    answer = cell.generate("client")
    check(answer.returncode == 0, f"generate as client: {answer.stdout}\n{cell.logs('scheduler')}")
    alone = containers.run(bin_dir / "pregate", "generate", "--model", work / "model", *GENERATE)
    check(
        text_of(answer.stdout) == text_of(alone.stdout),
        f"the cell answers\n{answer.stdout}\nand one process\n{alone.stdout}",
    )
    say("answered a client in another container")

    for role, reason in ((None, ""), ("monitor", "wrong role monitor")):
        refused = cell.generate(role)
        check(refused.returncode != 0 and reason in refused.stdout, f"generate as {role}: {refused.stdout}")
    say("refused one without an identity, and a monitor")

    for service in cell.services:
        containers.run("podman", "stop", "--time", "20", cell.container(service))
        code = containers.run(
            "podman", "inspect", "--format", "{{.State.ExitCode}}", cell.container(service)
        ).stdout.strip()
        check(code == "0", f"{service} ended with {code}: {cell.logs(service)}")
    cell.compose("down")


def text_of(output):
    """What was generated, without the line of timings."""
    return output.splitlines()[0]


def run(bin_dir, work):
    if os.geteuid() != 0:
        raise Unavailable("not root")
    containers = Containers(work)
    driver = containers.open()
    try:
        variant = variant_of(bin_dir)
        if (driver, variant) == ("vfs", "cuda"):
            raise Unavailable("the vfs storage driver would copy the CUDA libraries into every layer")
        say(f"building a {variant} image, storage driver {driver}")
        containers.run(ROOT / "deploy/images/build.sh", variant, "--bin", bin_dir, "--tag", TAG, timeout=400)
        size = containers.run("podman", "image", "inspect", "--format", "{{.Size}}", TAG).stdout.strip()
        say(f"built, {int(size) / 1e6:.0f} MB")
        check_metadata(containers)
        check_contents(containers, work)
        say("contents are as they should be")
        model = ["--shape", "tiny", "--experts", "3", "--shared", "0.2", "--own", "0.3", "--seed", "7"]
        containers.run(bin_dir / "pregate", "synth", *model, "--out", work / "model")
        check_programs(containers, work, variant)
        say("programs start, read-only and without root")
        containers.run(
            bin_dir / "pregate",
            "certs",
            "init",
            "--dir",
            work / "certs",
            "--hosts",
            "scheduler,router,worker-0,worker-1",
        )
        containers.run("chown", "--recursive", "65532:65532", work / "certs")
        check_cell(containers, work, bin_dir)
        say("stopped on SIGTERM with exit code 0")
    finally:
        containers.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="pregate-images-") as folder:
        try:
            run(pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(folder))
        except Unavailable as reason:
            print(f"skipped: {reason}")
            sys.exit(SKIP)
