"""Live programs for the tests of this folder: a tiny model, servers on free ports, their metrics."""
import itertools
import json
import os
import pathlib
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".cache/tools"
PYTHON = TOOLS / "venv/bin/python"
BIN = pathlib.Path(sys.argv.pop(1)).resolve()  # every test here is called as TEST.py BIN_DIR ...
TIMEOUT_S = 60
LONG, DEEP = 1900, 24  # tokens, one by one, of a model with so many layers last seconds: nothing ends before it is disturbed
COUNTER = itertools.count()


def wait_for(condition, what, timeout_s=TIMEOUT_S):
    """Polls until `condition()` is true; returns its value."""
    end = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < end, f"not in {timeout_s} s: {what}"
        time.sleep(0.005)
    return value


def pregate(*args, code=0):
    """Runs `pregate ARGS` to its end; returns what it printed."""
    done = subprocess.run([BIN / "pregate", *map(str, args)], capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == code, f"pregate {args}: exit code {done.returncode}, not {code}\n{done.stdout}{done.stderr}"
    return done.stdout


class Program:
    """A program with --port-file under test; killed at the end of a `with`."""

    def __init__(self, folder, name, *argv, certs=None, role="scheduler", http=False):
        """`certs`: a folder made by `pregate certs init`; without it all is plaintext. `role`: of the program's certificate.
        `http`: it listens for HTTP alone."""
        self.name = f"{name}-{next(COUNTER)}"
        self.ports, self.log = folder / f"{self.name}.json", folder / f"{self.name}.log"
        self.listen = ("--http-listen", "http") if http else ("--listen", "listen")
        self.argv = [*map(str, argv), self.listen[0], "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0",
                     "--port-file", str(self.ports)]
        self.operator = ["--tls-dir", str(certs / "operator")] if certs else []
        self.tls = None
        if certs:
            self.argv += ["--tls-dir", str(certs / role)]
            self.tls = ssl.create_default_context(cafile=certs / "operator/ca.crt")
            self.tls.load_cert_chain(certs / "operator/tls.crt", certs / "operator/tls.key")
        self.process = None
        self.start()

    def start(self):
        self.ports.unlink(missing_ok=True)
        with self.log.open("a") as log:
            self.process = subprocess.Popen(self.argv, stdout=log, stderr=subprocess.STDOUT)
        wait_for(lambda: self.ports.exists() or self.process.poll() is not None, f"{self.name} opens its port")
        assert self.process.poll() is None, f"{self.name} did not start:\n{self.log.read_text()}"
        # Comes back at the same places.
        for option, bound in ((self.listen[0], self.address), ("--metrics-listen", self.metrics_address)):
            self.argv[self.argv.index(option) + 1] = bound

    @property
    def address(self):
        return json.loads(self.ports.read_text())[self.listen[1]]

    @property
    def http_address(self):
        return json.loads(self.ports.read_text())["http"]

    @property
    def metrics_address(self):
        return json.loads(self.ports.read_text())["metrics"]

    def metric(self, name, **labels):
        """Sum of the series of /metrics that have the labels; 0 when there is none."""
        url = f"{'https' if self.tls else 'http'}://{self.metrics_address}/metrics"
        text = urllib.request.urlopen(url, timeout=10, context=self.tls).read().decode()
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
                   if line.startswith((f"{name}{{", f"{name} ")) and all(w in line for w in wanted))

    def running(self):
        return self.metric("pregate_num_requests_running")

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process.poll() is None:
            self.kill()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Folder:
    """A temporary folder with a model of random weights; one for a test class. `layers`: the more, the longer an answer takes."""

    def __init__(self, layers=3):
        self.temp = tempfile.TemporaryDirectory()
        self.path = pathlib.Path(self.temp.name)
        self.model = self.path / "tiny"
        pregate("synth", "--shape", "tiny", "--layers", layers, "--experts", 3, "--shared", 0.25, "--own", 0.25, "--seed", 1, "--out", self.model)

    def certs(self):
        """A new authority and certificates for all roles."""
        made = self.path / f"certs-{len(list(self.path.glob('certs-*')))}"
        pregate("certs", "init", "--dir", made)
        return made

    def serve(self, *flags, certs=None, model=None):
        server = Program(self.path, "serve", BIN / "pregate", "serve", "--model", model or self.model, "--threads", 1,
                         *flags, certs=certs)
        wait_ready(server)
        return server

    def cluster(self, *scheduler_flags, all_flags=()):
        """Scheduler, router and worker as processes, in this order."""
        router = Program(self.path, "router", BIN / "pregate-router", "--model", self.model, "--threads", 1, *all_flags)
        worker = Program(self.path, "worker", BIN / "pregate-worker", "--model", self.model, "--threads", 1,
                         "--dtype", "f32", *all_flags)
        scheduler = Program(self.path, "scheduler", BIN / "pregate-scheduler", "--model", self.model,
                            "--router", router.address, "--workers", worker.address, *scheduler_flags,
                            *all_flags)
        wait_ready(scheduler)
        return scheduler, router, worker

    def generate(self, prompt, max_tokens, temperature=0, seed=0):
        """What `pregate generate` says in one process: the text that every client must get."""
        return json.loads(pregate("generate", "--model", self.model, "--prompt", prompt, "--max-tokens", max_tokens,
                                  "--temperature", temperature, "--seed", seed, "--ignore-eos", "--threads", 1, "--json"))

    def cleanup(self):
        self.temp.cleanup()


class Served:
    """For a TestCase: a folder and a server of its model for all tests of the class."""

    LAYERS = 3

    @classmethod
    def setUpClass(cls):
        cls.folder = Folder(cls.LAYERS)
        cls.server = cls.folder.serve()

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        cls.folder.cleanup()


def wait_ready(server):
    """Until grpc.health.v1 says so."""
    def ready():
        return subprocess.run([BIN / "pregate", "health", "--server", server.address, *server.operator],
                              capture_output=True).returncode == 0
    wait_for(ready, f"{server.name} is ready")
    if "http" in json.loads(server.ports.read_text()):  # it asks the scheduler four times a second
        wait_for(lambda: http_health(server) == 200, f"{server.name} is ready over HTTP")


def http_health(server):
    """The status of /health on the HTTP port."""
    try:
        return urllib.request.urlopen(f"http://{server.http_address}/health", timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code


class Client:
    """A client program under test, whose stdout is read as it comes."""

    def __init__(self, argv, env=None, stdin=None):
        self.process = subprocess.Popen([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=stdin,
                                        env={**os.environ, **(env or {})})
        self.out = b""

    def read_some(self, at_least):
        """Waits until so many bytes came in all."""
        while len(self.out) < at_least:
            chunk = os.read(self.process.stdout.fileno(), 4096)
            assert chunk, f"ended early: {self.out} {self.process.stderr.read().decode()}"
            self.out += chunk
        return self.out

    def finish(self):
        """(exit code, stdout, stderr) at its end."""
        rest, err = self.process.communicate(timeout=TIMEOUT_S)
        return self.process.returncode, (self.out + rest).decode(), err.decode()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
