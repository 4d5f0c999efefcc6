"""What the suites of the command line share: the programs of one build, and how they are run.

The directory of the programs is each suite's first argument.
"""
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

BIN = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else "build/debug/bin").resolve()
SERVICES = ["pregate-router", "pregate-worker", "pregate-scheduler"]
PROGRAMS = [*SERVICES, "pregate-gateway"]  # it has another port than theirs
COMMANDS = ["serve", "generate", "chat", "top", "trace", "refactor", "import", "logits", "tokenize", "routes record", "eval ppl", "eval task",
            "inspect", "synth", "simulate", "health", "certs init", "certs renew", "certs show", "api-token new", "completion"]
# Without what the caller's environment may say.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PREGATE_")}


def argv_of(command, *args):
    """["BIN/pregate", "eval", "ppl", ...] of "eval ppl", ["BIN/pregate-router", ...] of a service."""
    words = [command] if command in PROGRAMS else ["pregate", *command.split()]
    return [BIN / words[0], *words[1:], *map(str, args)]


def run(command, *args, env=None, timeout=300, **kwargs):
    return subprocess.run(argv_of(command, *args), capture_output=True, text=True, timeout=timeout,
                          env={**ENVIRONMENT, **(env or {})}, **kwargs)


def pregate(*args, code=0):
    """Runs the program; returns what it printed. Fails with its errors if it ends otherwise than with `code`."""
    done = subprocess.run([BIN / "pregate", *map(str, args)], capture_output=True, text=True, timeout=300,
                          env=ENVIRONMENT)
    assert done.returncode == code, f"pregate {args}: exit code {done.returncode}, not {code}\n{done.stdout}{done.stderr}"
    return done.stdout if code == 0 else done.stderr


def pregate_json(*args):
    return json.loads(pregate(*args, "--json"))


def wait_until(true, seconds=60):
    end = time.time() + seconds
    while not true():
        assert time.time() < end, "waited in vain"
        time.sleep(0.02)


@contextlib.contextmanager
def started(command, *args, log=subprocess.DEVNULL, **kwargs):
    """A program that runs for the time of a with block, then is killed if it still does."""
    process = subprocess.Popen(argv_of(command, *args), stdout=log, stderr=log, env=ENVIRONMENT, **kwargs)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.wait(timeout=30)
