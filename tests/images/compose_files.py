"""The compose files as podman-compose resolves them. To be run by the Python of scripts/tools.sh compose."""

import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
VENV_PYTHON = ROOT / ".cache/tools/venv/bin/python"


def podman_compose(files, arguments, environment=None, env_file=None, **options):
    """Runs podman-compose over `files`; returns what subprocess.run does."""
    command = [VENV_PYTHON.with_name("podman-compose")]
    if env_file:
        command += ["--env-file", env_file]
    for file in files:
        command += ["-f", file]
    # What the caller's shell has set must not leak in.
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PREGATE_", "COMPOSE_"))}
    return subprocess.run([*command, *arguments], env={**clean, **(environment or {})}, text=True, **options)


def resolve(names, environment, env_file=None):
    """The merged compose document of `names` as a dict; profiles of `env_file` are on."""
    import yaml

    done = podman_compose(
        [DEPLOY / n for n in names],
        ["config"],
        environment,
        DEPLOY / env_file if env_file else None,
        capture_output=True,
    )
    if done.returncode != 0:
        raise RuntimeError(f"podman-compose config of {names}: {done.stderr}")
    return yaml.safe_load(done.stdout)
