#!/usr/bin/env python3
"""Flags and variables of rendered containers against the programs themselves.

usage: .cache/tools/venv/bin/python tests/chart/flags_test.py (PREGATE_BIN_DIR: where the programs are)
"""

import json
import os
import pathlib
import re
import subprocess
import unittest

from chart import PORTS, PROGRAMS, ROOT, each_set, env, flags, rendered

GATEWAY = (ROOT / "gateway_service").exists()  # a tree that has the program

BIN = pathlib.Path(os.environ.get("PREGATE_BIN_DIR", ROOT / "build" / "debug" / "bin"))


class Flags(unittest.TestCase):
    """The programs know every flag and variable that the chart gives them, and take its values."""

    @classmethod
    def setUpClass(cls):
        missing = [p for p in [*PROGRAMS.values(), "pregate"] if not (BIN / p).exists()]
        if missing:
            raise RuntimeError(f"{', '.join(missing)} not built in {BIN}")

    def config(self, program):
        """{option: {"value": ...}} of the program's defaults."""
        command = [BIN / program, "--model=/m", "--print-config"]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    def help(self, *command):
        text = subprocess.run(
            [BIN / command[0], *command[1:], "--help"], capture_output=True, text=True, check=True
        ).stdout
        return set(re.findall(r"^ +(--[a-z0-9-]+) ", text, re.M)), set(
            re.findall(r"\{(PREGATE_[A-Z0-9_]+)\}", text)
        )

    @each_set
    def test_flags_and_variables_exist(self, chart):
        for component in chart.pods():
            if component == "gateway" and not GATEWAY:
                continue
            container = chart.container(component)
            known, variables = self.help(*container["command"])
            self.assertLessEqual(set(flags(container)), known, component)
            ours = {name for name in env(container) if name.startswith("PREGATE_")}
            self.assertLessEqual(ours, variables, component)

    @each_set
    def test_probe_flags_exist(self, chart):
        known, _ = self.help("pregate", "health")
        for component in chart.cell():
            for kind in ("startup", "readiness", "liveness"):
                command = chart.container(component)[f"{kind}Probe"]["exec"]["command"]
                self.assertLessEqual({a.partition("=")[0] for a in command[2:]}, known)

    @each_set
    def test_values_are_taken(self, chart):
        for component, program in PROGRAMS.items():
            if component not in chart.workloads():
                continue
            container = chart.container(component)
            variables = {"PREGATE_RANK": "0", "PREGATE_COLLECTIVE_HOST": "10.0.0.1", "PREGATE_THREADS": "2"}
            given = {name: variables[name] for name in env(container) if name in variables}
            done = subprocess.run(
                [BIN / program, *container["args"], "--print-config"],
                env={**os.environ, **given},
                capture_output=True,
                text=True,
                check=False,
            )
            self.assertEqual(done.returncode, 0, done.stderr)
            config = json.loads(done.stdout)
            for flag, value in flags(container).items():
                if value is not True:
                    self.assertEqual(config[flag[2:]]["value"], value, (component, flag))
            for name, value in given.items():
                self.assertEqual(
                    config[name.removeprefix("PREGATE_").lower().replace("_", "-")]["value"], value
                )

    def test_defaults_are_the_programs(self):
        """Where the chart differs from a program's own default, it is on this list."""
        chosen = {
            "--model",
            "--listen",
            "--metrics-listen",
            "--tls-dir",
            "--log-format",
            "--workers",
            "--router",
            "--world-size",
            "--dtype",
            "--kv-cache-bytes",
        }
        chart = rendered("minimal")
        for component, program in PROGRAMS.items():
            config = self.config(program)
            for flag, value in flags(chart.container(component)).items():
                if flag not in chosen:
                    self.assertEqual(config[flag[2:]]["value"], value, (component, flag))

    def test_ports_are_the_programs_defaults(self):
        for component, program in PROGRAMS.items():
            config = self.config(program)
            self.assertEqual(config["listen"]["value"], f"127.0.0.1:{PORTS[component]}")
            self.assertEqual(config["metrics-listen"]["value"], f"127.0.0.1:{PORTS[component] + 1}")


if __name__ == "__main__":
    unittest.main()
