#!/usr/bin/env python3
"""Holds deploy/*.yaml and deploy/images to the compose specification, the programs' options and the rules of
a hardened service. usage: compose_test.py BIN_DIR"""

import functools
import itertools
import json
import pathlib
import re
import subprocess
import sys
import unittest

import compose_files
from compose_files import DEPLOY, ROOT

ENVIRONMENT = {"PREGATE_MODEL_DIR": "/checkpoint", "PREGATE_CERTS_DIR": "/identities"}
CPU, CUDA = ("compose.yaml",), ("compose.yaml", "compose.cuda.yaml")
SHIPPED = list(itertools.product([CPU, CUDA], [None, "two-workers.env"]))
HEALTH_ONLY = {"PREGATE_SERVER"}  # read by the healthcheck's command
BIN = pathlib.Path()


@functools.cache
def resolved(names, env_file=None):
    return compose_files.resolve(names, ENVIRONMENT, env_file)


def options_of(argv, environment):
    """What a program says its options are, under `environment`."""
    done = subprocess.run(
        [BIN / argv[0], *argv[1:], "--print-config"], env=environment, text=True, capture_output=True
    )
    if done.returncode != 0:
        raise AssertionError(f"{argv} --print-config: {done.stderr}")
    return json.loads(done.stdout)


def option_of(variable):
    """--kv-cache-bytes is read from PREGATE_KV_CACHE_BYTES."""
    return variable.removeprefix("PREGATE_").lower().replace("_", "-")


class ComposeTest(unittest.TestCase):
    def check_each_service(self, check):
        """Calls check(name, service) for the services of each way to combine the files."""
        for names, env_file in SHIPPED:
            for name, service in resolved(names, env_file)["services"].items():
                with self.subTest(files=names, env_file=env_file, service=name):
                    check(name, service)

    def test_keeps_the_compose_specification(self):
        import compose_spec
        import yaml

        for names, env_file in SHIPPED:
            document = resolved(names, env_file)
            compose_spec.PyCompose.from_yaml(yaml.safe_dump(document))
            broken = json.loads(json.dumps(document))
            broken["services"]["router"]["readonly"] = True
            with self.assertRaises(ValueError):  # the check checks
                compose_spec.PyCompose.from_yaml(yaml.safe_dump(broken))

    def test_needs_the_directories_to_be_named(self):
        for missing in ENVIRONMENT:
            rest = {k: v for k, v in ENVIRONMENT.items() if k != missing}
            done = compose_files.podman_compose(
                [DEPLOY / "compose.yaml"], ["config"], rest, capture_output=True
            )
            self.assertNotEqual(done.returncode, 0, missing)

    def test_every_variable_is_an_option_of_its_program(self):
        def check(name, service):
            environment = {k: str(v) for k, v in service["environment"].items()}
            options = options_of(service["command"], environment)
            for variable in environment.keys() - HEALTH_ONLY:
                self.assertIn(option_of(variable), list(options))
                self.assertEqual(options[option_of(variable)]["value"], environment[variable])

        self.check_each_service(check)

    def test_healthcheck_asks_the_listener_as_the_program_itself(self):
        def check(name, service):
            environment = {k: str(v) for k, v in service["environment"].items()}
            kind, program, *arguments = service["healthcheck"]["test"]
            self.assertEqual((kind, program), ("CMD", "/usr/bin/pregate"))  # there is no shell
            options = options_of(["pregate", *arguments], environment)
            port = environment["PREGATE_LISTEN"].rsplit(":", 1)[1]
            self.assertEqual(options["server"]["value"], f"127.0.0.1:{port}")
            self.assertEqual(options["tls-dir"]["value"], environment["PREGATE_TLS_DIR"])
            self.assertLess(
                float(options["timeout-s"]["value"]),
                float(service["healthcheck"]["timeout"].removesuffix("s")),
            )

        self.check_each_service(check)

    def test_services_are_locked_down(self):
        def check(name, service):
            self.assertIs(service["read_only"], True)
            self.assertRegex(service["user"], r"^[1-9]\d*:[1-9]\d*$")
            self.assertEqual(service["cap_drop"], ["ALL"])
            self.assertEqual(service["security_opt"], ["no-new-privileges:true"])
            self.assertTrue(all(t.startswith("/tmp:size=") for t in service["tmpfs"]))
            for volume in service["volumes"]:
                self.assertTrue(volume.endswith(":ro"), volume)

        self.check_each_service(check)

    def test_only_the_client_port_is_published_beyond_loopback(self):
        def check(name, service):
            listen = {
                service["environment"][v].rsplit(":", 1)[1]
                for v in ("PREGATE_LISTEN", "PREGATE_METRICS_LISTEN")
            }
            for port in service["ports"]:
                self.assertIn(port.rsplit(":", 1)[1], listen)
                if port != "7600:7600":
                    self.assertTrue(port.startswith("127.0.0.1:"), port)

        self.check_each_service(check)
        published = [p for _, s in resolved(CPU, "two-workers.env")["services"].items() for p in s["ports"]]
        self.assertEqual(len(published), len(set(p.rsplit(":", 1)[0] for p in published)))

    def test_the_cell_fits_together(self):
        for names, env_file in SHIPPED:
            services = resolved(names, env_file)["services"]
            cell = services["scheduler"]["environment"]
            self.assertEqual(cell["PREGATE_ROUTER"], "router:7610")
            workers = cell["PREGATE_WORKERS"].split(",")
            self.assertEqual(len(workers), 2 if env_file else 1)
            for rank, address in enumerate(workers):
                name, port = address.split(":")
                worker = services[name]["environment"]
                self.assertEqual(worker["PREGATE_LISTEN"], f"0.0.0.0:{port}")
                self.assertEqual(worker["PREGATE_COLLECTIVE_HOST"], name)
                self.assertEqual(
                    (int(worker["PREGATE_RANK"]), int(worker["PREGATE_WORLD_SIZE"])), (rank, len(workers))
                )

    def test_each_service_mounts_its_own_identity(self):
        def check(name, service):
            role = name.split("-")[0]
            self.assertIn(f"/identities/{role}:/tls:ro", service["volumes"])

        self.check_each_service(check)

    def test_cuda_gives_each_worker_a_device_of_its_own(self):
        services = resolved(CUDA, "two-workers.env")["services"]
        devices = [
            services[w]["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"][0]
            for w in ("worker-0", "worker-1")
        ]
        self.assertEqual(devices, ["0", "1"])
        for worker in ("worker-0", "worker-1"):
            self.assertEqual(services[worker]["environment"]["PREGATE_DEVICE"], "cuda")

    def test_versions_are_the_projects(self):
        version = re.search(r"project\(pregate VERSION ([\d.]+)", (ROOT / "CMakeLists.txt").read_text())[1]
        for file in ("compose.yaml", "compose.cuda.yaml"):
            for tag in re.findall(r":-pregate:([\d.]+)-", (DEPLOY / file).read_text()):
                self.assertEqual(tag, version, file)


class FilesTest(unittest.TestCase):
    def test_nothing_names_a_registry(self):
        for file in [*DEPLOY.glob("*.yaml"), *(DEPLOY / "images").iterdir()]:
            self.assertNotRegex(
                file.read_text(), r"(docker|quay|gcr|ghcr)\.io|FROM (?!scratch)[a-z]", file.name
            )


if __name__ == "__main__":
    BIN = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main()
