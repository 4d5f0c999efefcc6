"""What the comparisons share: running the `pregate` program and finding the shared material."""
import argparse
import json
import os
import pathlib
import random
import subprocess
import sys


class Failed(SystemExit):
    """A program that failed. Ends the script, unless that was expected; `said` is its standard error."""

    def __init__(self, command, code, said):
        super().__init__(f"{' '.join(command)}: exit status {code}\n{said}")
        self.said = said


def run(binary, *args):
    """Runs `binary args...`; returns its standard output."""
    command = [str(binary), *map(str, args)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise Failed(command, done.returncode, done.stderr)
    return done.stdout


def run_json(binary, *args):
    return json.loads(run(binary, *args, "--json"))


def write_json(path, value):
    pathlib.Path(path).write_text(json.dumps(value))
    return path


def shared_dir():
    """PREGATE_SHARED_DIR, or `shared` beside the source tree."""
    default = pathlib.Path(__file__).resolve().parents[3] / "shared"
    return pathlib.Path(os.environ.get("PREGATE_SHARED_DIR", default))


def parse_seeded_args(description, *options):
    """--pregate, --tolerance, --seed and further options of a comparison over random models; prints the seed."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pregate", required=True, help="the pregate program")
    parser.add_argument("--tolerance", type=float, default=1e-5, help="of the relative error")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    for option in options:
        parser.add_argument(option)
    args = parser.parse_args()
    print("seed", args.seed)
    return args


class Report:
    """Prints one line a check and remembers whether one failed."""

    def __init__(self):
        self.failures = 0

    def check(self, ok, line):
        self.failures += not ok
        print("ok  " if ok else "FAIL", line, flush=True)

    def exit(self):
        print(f"{self.failures} failed" if self.failures else "all equal")
        sys.exit(1 if self.failures else 0)
