"""No server takes the address of one that lives, and what is wrong is said before anything is loaded.

usage: addresses_test.py BIN_DIR
"""
import json
import os
import pathlib
import signal
import socket
import tempfile
import time
import unittest

from programs import SERVICES, pregate, run, started, wait_until


class AddressesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temp = tempfile.TemporaryDirectory()
        cls.dir = pathlib.Path(cls.temp.name)
        cls.model, cls.stuck = cls.dir / "model", cls.dir / "stuck"
        pregate("synth", "--shape", "tiny", "--experts", 2, "--shared", 0.25, "--own", 0.25, "--seed", 1, "--out", cls.model)
        # A model whose loading waits for ever: whoever answers meanwhile has not begun to load.
        cls.stuck.mkdir()
        os.mkfifo(cls.stuck / "config.json")

    @classmethod
    def tearDownClass(cls):
        cls.temp.cleanup()

    def serving(self, name, command="serve", **flags):
        """A server of the tiny model, and a function that waits for the addresses that it took."""
        ports = self.dir / f"{name}.json"
        flags = {"listen": "127.0.0.1:0", "metrics-listen": "127.0.0.1:0", "port-file": ports, **flags}
        ports.unlink(missing_ok=True)

        def addresses():
            wait_until(ports.exists)
            return json.loads(ports.read_text())

        return started(command, "--model", self.model, *(f"--{k}={v}" for k, v in flags.items())), addresses

    def refused(self, command, named, *flags):
        """`command` says that `named` is at fault, at once."""
        start = time.time()
        model = self.stuck if command != "pregate-scheduler" else self.model
        workers = ["--workers=127.0.0.1:1", "--router=127.0.0.1:1"] if command == "pregate-scheduler" else []
        done = run(command, f"--model={model}", *workers, *flags, timeout=60)
        self.assertNotEqual(done.returncode, 0)
        last = done.stderr.strip().splitlines()
        last = next(line for line in reversed(last) if not line.startswith("Try:"))
        self.assertIn(named, last)
        self.assertNotIn("grpc", done.stderr.lower())
        self.assertLess(time.time() - start, 20)  # of a busy machine

    def test_a_second_server_is_refused_and_the_first_one_stays(self):
        door = self.dir / "door"
        serving, addresses = self.serving("tcp")
        with serving:
            taken = addresses()
            port = taken["listen"].rpartition(":")[2]
            with self.serving("unix", listen=f"unix:{door}")[0]:
                wait_until(lambda: run("health", "--server", f"unix:{door}").returncode == 0)
                free = ["--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0"]
                for command in ["serve", *SERVICES]:
                    with self.subTest(command):
                        self.refused(command, "--listen: 127.0.0.1", f"--listen={taken['listen']}", free[1])
                        self.refused(command, "--listen: localhost", f"--listen=localhost:{port}", free[1])
                        self.refused(command, f"--listen: unix:{door}", f"--listen=unix:{door}", free[1])
                        self.refused(command, "--metrics-listen: ", free[0], f"--metrics-listen={taken['metrics']}")
                        self.refused(command, "--port-file: ", *free, f"--port-file={self.dir}/tcp.json")
                self.assertEqual(json.loads((self.dir / "tcp.json").read_text()), taken)
                for server in (taken["listen"], f"unix:{door}"):
                    wait_until(lambda: run("health", "--server", server).returncode == 0)

    def test_a_killed_servers_socket_and_file_are_taken_over(self):
        door = self.dir / "old-door"
        for _ in range(2):
            serving, addresses = self.serving("old", command="pregate-router", listen=f"unix:{door}")
            with serving as server:
                addresses()
                self.assertEqual(run("health", "--server", f"unix:{door}", "--live").returncode, 0)
                server.kill()
                server.wait()
                self.assertTrue(door.exists())

    def test_of_two_that_start_at_once_one_serves(self):
        door = self.dir / "race-door"
        for _ in range(3):
            first = self.serving("race-1", command="pregate-router", listen=f"unix:{door}")[0]
            second = self.serving("race-2", command="pregate-router", listen=f"unix:{door}")[0]
            with first as a, second as b:
                wait_until(lambda: a.poll() is not None or b.poll() is not None)
                # The other holds the address already and may still be reading its model.
                wait_until(lambda: run("health", "--server", f"unix:{door}", "--live").returncode == 0)
                self.assertIn(None, (a.poll(), b.poll()))

    def test_mistakes_are_named_before_the_model_is_read(self):
        for command in ["serve", *SERVICES]:
            with self.subTest(command):
                self.refused(command, "--listen: 192.0.2.1", "--listen=192.0.2.1:7600")
                self.refused(command, "tls.crt", f"--tls-dir={self.dir}/none")
                self.refused(command, "--metrics-listen", "--listen=127.0.0.1:1", "--metrics-listen=127.0.0.1:1")

    def test_memory_that_is_not_there_is_named_by_its_option(self):
        free = ["--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0"]
        for command in ("serve", "pregate-router", "pregate-worker"):
            with self.subTest(command):
                done = run(command, f"--model={self.model}", *free, "--kv-cache-bytes=4TiB", timeout=60)
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertRegex(done.stderr.splitlines()[-1], r"--kv-cache-bytes 4TiB: .* MiB are available")

    def test_a_signal_ends_a_load_at_once(self):
        free = ["--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0"]
        for command in ("serve", "pregate-router", "pregate-worker"):
            for sent in (signal.SIGINT, signal.SIGTERM):
                log = self.dir / "log"
                with self.subTest(command), open(log, "w") as file, started(
                        command, f"--model={self.stuck}", *free, log=file) as server:
                    wait_until(lambda: "starting" in log.read_text())
                    server.send_signal(sent)
                    at = time.time()
                    self.assertEqual(server.wait(timeout=20), 128 + sent)
                    self.assertLess(time.time() - at, 1)

    def test_a_start_is_about_ten_lines(self):
        log = self.dir / "log"
        with open(log, "w") as file:
            with started("serve", f"--model={self.model}", f"--listen=unix:{self.dir}/quiet", "--metrics-listen=127.0.0.1:0",
                         log=file):
                wait_until(lambda: run("health", "--server", f"unix:{self.dir}/quiet").returncode == 0)
        lines = log.read_text().splitlines()
        self.assertLessEqual(len(lines), 12, log.read_text())
        self.assertLess(max(map(len, lines)), 400, log.read_text())
        self.assertIn("version", lines[0])


if __name__ == "__main__":
    unittest.main(verbosity=2)
