"""buildah and podman with storage and networks of their own, in a folder that is removed afterwards."""

import os
import pathlib
import shutil
import subprocess

# What rootless and nested machines need; harmless elsewhere.
RUN_OPTIONS = [
    "--runtime",
    "runc",
    "--ulimit",
    "nofile=1024:1024",
    "--ulimit",
    "nproc=1000:1000",
    "--pull=never",
]


class Unavailable(Exception):
    """This machine cannot build or run containers; the text says why."""


class Containers:
    def __init__(self, work):
        self.work = pathlib.Path(work)
        self.environment = None

    def run(self, *argv, check=True, timeout=120, **options):
        """Runs a command under this storage; its output is in the result and in a failure's text."""
        done = subprocess.run(
            [str(a) for a in argv],
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            **options,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"exit code {done.returncode} of {' '.join(map(str, argv))}:\n{done.stdout}")
        return done

    def podman_run(self, image, *arguments, options=(), check=True):
        """One program as the compose file runs it: read-only, no capability, the image's user."""
        return self.run(
            "podman",
            "run",
            "--rm",
            *RUN_OPTIONS,
            "--no-healthcheck",
            "--read-only",
            "--cap-drop",
            "ALL",
            "--security-opt",
            "no-new-privileges",
            *options,
            image,
            *arguments,
            check=check,
        )

    def open(self):
        """Picks a storage driver with which a container runs here; raises Unavailable where none does."""
        reasons = []
        for driver in ("overlay", "vfs"):
            self._configure(driver)
            reason = self._probe()
            if reason is None:
                return driver
            reasons.append(f"{driver}: {reason}")
            self.close()
        raise Unavailable("; ".join(reasons))

    def close(self):
        if self.environment:
            self.run("podman", "rm", "--all", "--force", "--time", "0", check=False)
            self.run("podman", "rmi", "--all", "--force", check=False)
            self.run("podman", "network", "prune", "--force", check=False)
        shutil.rmtree(self.work / "storage", ignore_errors=True)

    def _configure(self, driver):
        storage = self.work / "storage"
        storage.mkdir()
        (storage / "storage.conf").write_text(
            f'[storage]\ndriver = "{driver}"\nrunroot = "{storage}/run"\ngraphroot = "{storage}/graph"\n'
        )
        (storage / "containers.conf").write_text(
            '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
            f'[network]\nnetwork_backend = "netavark"\nnetwork_config_dir = "{storage}/networks"\n'
        )
        self.environment = {
            **os.environ,
            "CONTAINERS_STORAGE_CONF": str(storage / "storage.conf"),
            "CONTAINERS_CONF": str(storage / "containers.conf"),
        }

    def _probe(self):
        """None, or why a static program does not run in a container on a network of its own."""
        program = self.work / "probe"
        self.run("cc", "-static", "-x", "c", "-o", program, "-", input="int main(void) { return 0; }")
        script = """set -e
container=$(buildah from scratch)
buildah copy -q "$container" "$0" /probe
buildah commit -q "$container" probe
buildah rm "$container"
podman network create probe
podman run --rm --network probe "$@" probe /probe
podman network rm probe"""
        done = self.run("bash", "-c", script, program, *RUN_OPTIONS, check=False)
        return None if done.returncode == 0 else done.stdout.strip().splitlines()[-1]
