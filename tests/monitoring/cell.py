"""A cell of real processes on this machine, its load, and a Prometheus that watches it: for monitoring tests.

Everything listens on Unix sockets or on ports that the system gives; everything is stopped by close().
"""
import json
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import metrics_table

START_S = 30
SCRAPE_S = 1


def await_(what, seconds, check, every=0.2):
    """check() until it is true, which is returned; AssertionError names `what` when time is up."""
    end = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f'{what}: not within {seconds} s')
        time.sleep(every)


def free_port():
    """A port that nobody has at the moment: for what has to come back at the same place."""
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def get(url, context=None):
    with urllib.request.urlopen(url, timeout=10, context=context) as answer:
        return answer.read().decode()


def synth(bin_dir, model):
    """A model of random weights: five experts, of which a worker of two holds two or three."""
    shape = ['--shape', 'tiny', '--experts', '5', '--shared', '0.25', '--own', '0.1', '--seed', '1']
    subprocess.run([pathlib.Path(bin_dir) / 'pregate', 'synth', *shape, '--out', model],
                   check=True, capture_output=True)


class Process:
    """A child with its log in a file. It dies by SIGKILL at the latest ten seconds after stop()."""

    def __init__(self, argv, log):
        self.argv, self.log = [str(a) for a in argv], pathlib.Path(log)
        with open(log, 'ab') as out:
            self.child = subprocess.Popen(self.argv, stdout=out, stderr=out)

    def alive(self):
        assert self.child.poll() is None, f'{self.argv[0]} ended with {self.child.returncode}:\n{self.tail()}'
        return True

    def tail(self):
        return self.log.read_text(errors='replace')[-3000:]

    def kill(self):
        self.child.kill()
        self.child.wait()

    def stop(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()


class Cell:
    """Router, workers that share the experts, scheduler, gateway. `folder` is the caller's and outlives the cell."""

    def __init__(self, bin_dir, folder, model, workers=2, expert_slots=1, tls=None):
        self.bin, self.folder, self.model = pathlib.Path(bin_dir), pathlib.Path(folder), model
        self.num_workers, self.expert_slots = workers, expert_slots
        self.tls = tls or (lambda role: [])
        self.metrics_ports = {name: free_port() for name in self.names()}
        self.http_port = free_port()
        self.tokens = {tenant: self.api_token(tenant, limit) for tenant, limit in (('much', '1M'), ('little', '1'))}
        self.processes, self.clients = {}, []
        self.stop_load = threading.Event()
        self.generated = 0

    def names(self):
        return ['router', *(f'worker-{r}' for r in range(self.num_workers)), 'scheduler', 'gateway']

    def address(self, name):
        return f'unix:{self.folder}/{name}.sock'

    def start(self):
        for name in self.names():
            self.start_one(name)
        self.generate('to be ready', 1, wait_s=START_S)
        return self

    def start_one(self, name):
        role, _, rank = name.partition('-')
        argv = [self.bin / f'pregate-{role}', '--model-name', 'tiny',
                '--metrics-listen', f'127.0.0.1:{self.metrics_ports[name]}',
                *self.tls('client' if role == 'gateway' else role)]
        if role == 'gateway':
            argv += ['--http-listen', f'127.0.0.1:{self.http_port}', '--schedulers', self.address('scheduler'),
                     '--api-tokens-file', self.folder / 'tokens.json']
        else:
            argv += ['--model', self.model, '--listen', self.address(name)]
        if role == 'worker':
            argv += ['--rank', rank, '--world-size', self.num_workers, '--threads', 1,
                     '--kv-blocks', 10, '--expert-slots', self.expert_slots]
        if role == 'scheduler':
            workers = [self.address(n) for n in self.names() if n.startswith('worker')]
            argv += ['--workers', ','.join(workers), '--router', self.address('router'), '--queue-max', 8,
                     # Fewer than the load's streams, so that some wait.
                     '--running-max', 4, '--drain-timeout-s', 1,
                     # The router then keeps a session as long as its request runs: something to see.
                     '--decode-routing', 'service']
        self.processes[name] = Process(argv, self.folder / f'{name}.log')

    def targets(self):
        """{role: [address of /metrics]}"""
        found = {}
        for name, port in self.metrics_ports.items():
            found.setdefault(name.partition('-')[0], []).append(f'127.0.0.1:{port}')
        return found

    def exports(self):
        """{role: metric families} of the first process of each."""
        return {role: metrics_table.parse(get(f'http://{addresses[0]}/metrics'))
                for role, addresses in self.targets().items()}

    def generate(self, prompt, tokens, wait_s=0, check=True):
        done = subprocess.run(
            [self.bin / 'pregate', 'generate', '--server', self.address('scheduler'), '--prompt', prompt,
             '--max-tokens', str(tokens), '--ignore-eos', '--temperature', '1', '--wait-s', str(wait_s),
             *self.tls('client')],
            capture_output=True, text=True)
        assert done.returncode == 0 or not check, f'generate: {done.stderr}\n{self.logs()}'
        return done.returncode

    def api_token(self, tenant, tokens_per_minute):
        done = subprocess.run(
            [self.bin / 'pregate', 'api-token', 'new', '--tenant', tenant, '--tokens-per-minute', tokens_per_minute,
             '--file', self.folder / 'tokens.json', '--json'], check=True, capture_output=True, text=True)
        return json.loads(done.stdout)['token']

    def complete(self, prompt, tokens, key=None):
        """The same over HTTP, streamed; the status."""
        body = {'prompt': prompt, 'max_tokens': tokens, 'ignore_eos': True, 'stream': True}
        headers = {'Content-Type': 'application/json', **({'Authorization': f'Bearer {key}'} if key else {})}
        request = urllib.request.Request(f'http://127.0.0.1:{self.http_port}/v1/completions', json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                answer.read()
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    def load(self, streams=8):
        """Streams of short generations, one after the other, until close(): most over gRPC, one over HTTP, where one has no
        token and one has used what it may."""

        def run(stream):
            words = ['square', 'says', 'that', 'sentence', 'is', 'a', 'while', 'seven', 'doors', 'open']
            for n in range(1 << 30):
                if self.stop_load.is_set():
                    return
                prompt = ' '.join(words[(n * k + stream) % len(words)] for k in range(1, 14))
                self.generated += self.generate(prompt, 40, check=False) == 0

        def run_http():
            while not self.stop_load.is_set():
                self.complete('seven doors open', 40, self.tokens['much'])
                self.complete('seven doors open', 40, self.tokens['little'])
                self.complete('seven doors open', 40)

        self.clients.append(threading.Thread(target=run_http))
        self.clients[-1].start()
        for stream in range(streams):
            self.clients.append(threading.Thread(target=run, args=(stream,)))
            self.clients[-1].start()

    def logs(self):
        return '\n'.join(f'--- {name}\n{p.tail()}' for name, p in self.processes.items())

    def close(self):
        self.stop_load.set()
        for client in self.clients:
            client.join()
        for name in reversed(list(self.processes)):
            self.processes[name].stop()


class Prometheus:
    """A Prometheus with this configuration, and its HTTP API."""

    def __init__(self, config, folder):
        self.folder = pathlib.Path(folder)
        self.process = Process(
            ['prometheus', f'--config.file={config}', f'--storage.tsdb.path={self.folder}/prometheus',
             '--web.listen-address=127.0.0.1:0'],
            self.folder / 'prometheus.log')

        def bound():
            self.process.alive()
            return re.search(r'msg="Listening on" address=(\S+)', self.process.log.read_text())

        self.url = f'http://{await_("Prometheus listens", START_S, bound).group(1)}'
        await_('Prometheus is ready', START_S, self._ready)

    def _ready(self):
        try:
            return get(f'{self.url}/-/ready')
        except urllib.error.URLError:
            return False

    def api(self, path, **query):
        answer = json.loads(get(f'{self.url}/api/v1/{path}?{urllib.parse.urlencode(query, doseq=True)}'))
        assert answer['status'] == 'success', answer
        return answer['data']

    def query(self, expr):
        """Instant query: [(labels, value)]."""
        try:
            data = self.api('query', query=expr)
        except urllib.error.HTTPError as error:
            raise AssertionError(f'{expr}: {error.read().decode()}') from error
        return [(r['metric'], float(r['value'][1])) for r in data['result']]

    def alerts(self, name, state='firing'):
        return [a for a in self.api('alerts')['alerts']
                if a['labels']['alertname'] == name and a['state'] == state]

    def close(self):
        self.process.stop()
