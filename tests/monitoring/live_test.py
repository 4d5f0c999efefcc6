"""A real Prometheus on a real cell: every panel, recorded series and alert has what it asks for.

usage: live_test.py BIN_DIR    (programs of one build; wants prometheus: scripts/deps.sh monitoring)
"""
import json
import math
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import unittest

sys.dont_write_bytecode = True
import cell  # noqa: E402
import metrics_table  # noqa: E402

BIN = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else 'build/debug/bin').resolve()
ROOT = pathlib.Path(__file__).parents[2]
DEPLOY = ROOT / 'deploy'

# Queries that may be zero throughout, and why. None may be empty.
MAY_BE_ZERO = {
    ('Failures', 'failed'): 'no request fails here: a lost worker costs a recovery, not a request',
    ('Refused', '503 not ready'): 'the scheduler stays, whatever becomes of its workers',
    ('Drafts', 'guessed'): 'experts do not fit here, and the router service routes what is drawn: then there are none',
    ('Drafts', 'right'): 'as above',
    ('Failed steps and rows', 'steps'): 'a worker may die between two steps',
    ('Failed steps and rows', 'rows'): 'plans come from the scheduler, so no row is bad',
    ('Units when they were needed', 'late prefetches'): 'a unit of the tiny model is copied in a microsecond',
    ('Time lost by cause', 'late'): 'as above',
    ('Routed lookahead', '{{model}}'): 'a prompt runs as soon as it is routed, between two scrapes',
    ('Requests open', 'open'): 'a prompt is routed in a fraction of a millisecond, between two scrapes',
    ('Errors and gaps', 'errors'): 'the router answers',
    ('Errors and gaps', 'gaps'): 'the router forgets no session',
    ('Evictions and expirations', 'evictions'): 'few sessions at once',
    ('Evictions and expirations', 'expirations'): 'a session expires after minutes',
}


# Panels that show nothing in plaintext; TlsTest asks their queries.
TLS_PANELS = {'Certificates end in'}


def lint(text):
    """What promtool has to say about an exposition; nothing when all is well."""
    done = subprocess.run(['promtool', 'check', 'metrics'], input=text, capture_output=True, text=True)
    return done.stdout + done.stderr + ('' if done.returncode == 0 else f'exit code {done.returncode}')


def configuration(folder, targets, name='prometheus.yml'):
    """A configuration of the repository with this cell's targets, in a hurry.

    The rules are those of the repository to the letter but for `for:`, so that an alert needs seconds.
    """
    text = (DEPLOY / 'prometheus' / name).read_text()
    text = re.sub(r'_interval: 15s', f'_interval: {cell.SCRAPE_S}s', text)
    for role, port in (('scheduler', 7601), ('router', 7611), ('worker', 7621), ('gateway', 7681)):
        assert f'["127.0.0.1:{port}"]' in text
        text = text.replace(f'["127.0.0.1:{port}"]', json.dumps(targets[role]))
    path = folder / name
    path.write_text(text)
    (folder / 'rules').mkdir()
    for rules in (DEPLOY / 'prometheus/rules').glob('*.yml'):
        hurried = re.sub(r'^( +for:) \w+$', r'\1 2s', rules.read_text(), flags=re.M)
        (folder / 'rules' / rules.name).write_text(hurried)
    return path


def queries(dashboard):
    """(panel, legend, query) with variables put in."""
    for panel in dashboard['panels']:
        for target in panel.get('targets', []):
            expr = target['expr'].replace('$__rate_interval', '1m')
            yield panel['title'], target['legendFormat'], re.sub(r'\$\w+', '.*', expr)


class ServeTest(unittest.TestCase):
    """One process with everything in it."""

    def serve(self, workers):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = pathlib.Path(folder.name)
        cell.synth(BIN, path / 'tiny')
        process = cell.Process(
            [BIN / 'pregate', 'serve', '--model', path / 'tiny', '--workers', workers, '--threads', 1,
             '--kv-cache-bytes', '1MiB', '--listen', f'unix:{path}/serve.sock',
             '--metrics-listen', '127.0.0.1:0', '--port-file', path / 'ports'], path / 'log')
        self.addCleanup(process.stop)
        cell.await_('serve has ports', cell.START_S, lambda: process.alive() and (path / 'ports').exists())
        subprocess.run([BIN / 'pregate', 'generate', '--server', f'unix:{path}/serve.sock',
                        '--prompt', 'seven doors', '--max-tokens', '20', '--ignore-eos', '--wait-s', '30'],
                       check=True, capture_output=True)
        return cell.get(f'http://{json.loads((path / "ports").read_text())["metrics"]}/metrics')

    def test_one_registry_holds_all_services_and_every_worker(self):
        text = self.serve(workers=2)
        self.assertEqual(lint(text), '')
        documented = re.findall(r'^\| `(\w+)`', metrics_table.DOC.read_text(), flags=re.M)
        families = metrics_table.parse(text)
        self.assertEqual(sorted(families), sorted(documented))
        series = [(name, *sorted(labels.items())) for f in families.values() for name, labels, _ in f.samples]
        self.assertEqual(len(set(series)), len(series), 'a series is there twice')
        samples = families['pregate_worker_step_seconds'].samples
        steps = {labels['rank']: value for name, labels, value in samples if name.endswith('_count')}
        self.assertEqual(sorted(steps), ['0', '1'])
        self.assertTrue(all(n > 0 for n in steps.values()), steps)

        def total(family, sample):
            return sum(value for name, _, value in families[family].samples if name == sample)

        # The scheduler counts a step once, however many workers answer it.
        self.assertEqual(total('pregate_step_tokens', 'pregate_step_tokens_sum'),
                         total('pregate_worker_tokens_total', 'pregate_worker_tokens_total'))

    def test_a_worker_alone_exchanges_nothing(self):
        families = metrics_table.parse(self.serve(workers=1))
        values = [value for name in ('pregate_exchange_seconds', 'pregate_exchange_bytes_total')
                  for _, _, value in families[name].samples]
        self.assertGreater(len(values), 2)
        self.assertEqual(set(values), {0})


class LiveTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        temp = tempfile.TemporaryDirectory()
        cls.addClassCleanup(temp.cleanup)
        cls.folder = pathlib.Path(temp.name)
        cell.synth(BIN, cls.folder / 'tiny')
        cls.cell = cell.Cell(BIN, cls.folder, cls.folder / 'tiny')
        cls.addClassCleanup(cls.cell.close)
        cls.cell.start()
        cls.prometheus = cell.Prometheus(configuration(cls.folder, cls.cell.targets()), cls.folder)
        cls.addClassCleanup(cls.prometheus.close)
        cls.began = time.time()
        cls.cell.load()

    # In the order of names: what the third one queries, the second has caused.

    def test_1_exports_are_clean_and_documented(self):
        for role, addresses in self.cell.targets().items():
            for address in addresses:
                self.assertEqual(lint(cell.get(f'http://{address}/metrics')), '', f'{role} {address}')
        table = metrics_table.table(self.cell.exports())
        self.assertEqual(metrics_table.written(metrics_table.DOC.read_text()), table,
                         'docs/METRICS.md: tests/monitoring/metrics_table.py writes it anew')

    def test_2_a_killed_worker_raises_an_alert_that_names_it(self):
        def firing():
            return self.prometheus.alerts('PregateWorkerDown')

        both_up = 'count(pregate_worker_up == 1) == 2'
        cell.await_('the workers are scraped', 20, lambda: self.prometheus.query(both_up))
        self.assertEqual(firing(), [])
        self.cell.processes['worker-1'].kill()
        alert = cell.await_('PregateWorkerDown fires', 15, firing)[0]
        print(json.dumps(alert, indent=1), flush=True)
        self.assertEqual(alert['labels']['rank'], '1')
        self.assertEqual(alert['labels']['instance'], self.cell.targets()['scheduler'][0])
        self.assertEqual(self.prometheus.query('pregate_worker_up{rank="0"}')[0][1], 1)
        before = self.cell.generated
        cell.await_('the other worker serves', 20, lambda: self.cell.generated > before + 1)
        self.cell.start_one('worker-1')
        cell.await_('PregateWorkerDown is over', 20, lambda: not firing())
        cell.await_('nothing else fires', 20, lambda: not [
            a for a in self.prometheus.api('alerts')['alerts'] if a['state'] == 'firing'
            and a['labels']['alertname'] in ('PregateSchedulerDown', 'PregateRouterDown', 'PregateTargetDown',
                                             'PregateNoProgress', 'PregateErrorsHigh')])

    def range_values(self, expr):
        """Every finite value of the query since the start."""
        data = self.prometheus.api('query_range', query=expr, start=self.began, end=time.time(),
                                   step=cell.SCRAPE_S)
        values = [float(v) for series in data['result'] for _, v in series['values']]
        return [v for v in values if math.isfinite(v)]

    def test_3_every_panel_has_data(self):
        for path in sorted((DEPLOY / 'grafana').glob('*.json')):
            for panel, legend, expr in queries(json.loads(path.read_text())):
                if panel in TLS_PANELS:
                    continue
                with self.subTest(dashboard=path.stem, panel=panel, legend=legend):
                    values = cell.await_(f'data for {expr}', 10, lambda e=expr: self.range_values(e))
                    if (panel, legend) not in MAY_BE_ZERO:
                        self.assertGreater(max(values), 0, expr)

    def test_4_every_variable_has_values(self):
        for path in sorted((DEPLOY / 'grafana').glob('*.json')):
            for variable in json.loads(path.read_text())['templating']['list'][1:]:
                found = re.fullmatch(r'label_values\((.*), (\w+)\)', variable['definition'])
                series = re.sub(r'\$\w+', '.*', found[1])
                values = self.prometheus.api(f'label/{found[2]}/values', **{'match[]': series})
                self.assertTrue(values, f'{path.stem}: {variable["definition"]}')

    def test_5_every_rule_is_evaluated_and_every_recorded_series_has_data(self):
        recorded = 0
        for group in self.prometheus.api('rules')['groups']:
            for rule in group['rules']:
                self.assertEqual(rule['health'], 'ok', rule)
                if rule['type'] == 'recording':
                    recorded += 1
                    labels = ','.join(f'{k}="{v}"' for k, v in rule.get('labels', {}).items())
                    series = f'{rule["name"]}{{{labels}}}'
                    cell.await_(f'data for {series}', 10, lambda e=series: self.range_values(e))
        self.assertGreater(recorded, 10)


class TlsTest(unittest.TestCase):
    """The same over mutual TLS."""

    # A job that the services must refuse, to put beside those of the repository.
    STRANGER = """
  - job_name: {name}
    scheme: {scheme}
    tls_config: {{{tls}}}
    static_configs:
      - targets: ["{target}"]
"""

    def test_the_monitor_may_scrape_and_nobody_else(self):
        temp = tempfile.TemporaryDirectory()
        self.addCleanup(temp.cleanup)
        folder = pathlib.Path(temp.name)
        certs = folder / 'certs'
        subprocess.run([BIN / 'pregate', 'certs', 'init', '--dir', certs], check=True, capture_output=True)
        (folder / 'monitor').symlink_to(certs / 'monitor')
        cell.synth(BIN, folder / 'tiny')
        running = cell.Cell(BIN, folder, folder / 'tiny', workers=1,
                            tls=lambda role: ['--tls-dir', certs / role])
        self.addCleanup(running.close)
        running.start()

        config = configuration(folder, running.targets(), 'prometheus-mtls.yml')
        target = running.targets()['scheduler'][0]
        client = ', '.join(f'{key}: certs/client/{file}' for key, file in (
            ('ca_file', 'ca.crt'), ('cert_file', 'tls.crt'), ('key_file', 'tls.key')))
        with config.open('a') as file:
            for name, scheme, tls in (('no-tls', 'http', ''), ('client', 'https', client),
                                      ('no-certificate', 'https', 'ca_file: certs/client/ca.crt')):
                file.write(self.STRANGER.format(name=name, scheme=scheme, tls=tls, target=target))
        prometheus = cell.Prometheus(config, folder)
        self.addCleanup(prometheus.close)

        def scraped():
            targets = prometheus.api('targets')['activeTargets']
            return not any(t['health'] == 'unknown' for t in targets) and targets

        errors = {t['labels']['job']: t['lastError'] for t in cell.await_('all are scraped', 20, scraped)}
        self.assertEqual({job for job, error in errors.items() if not error},
                         {'pregate-scheduler', 'pregate-router', 'pregate-worker', 'pregate-gateway'}, errors)
        self.assertIn('403', errors['client'])
        self.assertIn('tls', errors['no-certificate'])
        self.assertGreater(prometheus.query('sum(pregate_generation_tokens_total)')[0][1], 0)
        self.check_certificates(prometheus, 2 * sum(map(len, running.targets().values())))

    def check_certificates(self, prometheus, count):
        """Their ends: of each process, its own in 90 days, the authority's in ten years; nothing to be alarmed about."""
        left = prometheus.query('pregate_tls_certificate_expiry_timestamp_seconds - time()')
        days = {(labels['job'], labels['certificate']): value / 86400 for labels, value in left}
        self.assertEqual(len(days), count, days)
        for (job, certificate), value in days.items():
            self.assertAlmostEqual(value, 90 if certificate == 'own' else 3650, delta=3, msg=job)
        self.assertEqual(prometheus.alerts('PregateCertificateExpires'), [])
        panels = [q for path in (DEPLOY / 'grafana').glob('*.json') for q in queries(json.loads(path.read_text()))
                  if q[0] in TLS_PANELS]
        self.assertEqual(len(panels), len(TLS_PANELS))
        for _, _, expr in panels:
            self.assertEqual(len(prometheus.query(expr)), count, expr)


if __name__ == '__main__':
    unittest.main(verbosity=2)
