"""Alerts, rules and dashboards on their own: what promtool says of them, and what they promise to people.

usage: rules_test.py    (wants prometheus: scripts/deps.sh monitoring)
"""
import json
import pathlib
import re
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).parents[2]
RULES = ROOT / 'deploy' / 'prometheus' / 'rules'
GRAFANA = ROOT / 'deploy' / 'grafana'
sys.dont_write_bytecode = True
sys.path.insert(0, str(GRAFANA))
import dashboards  # noqa: E402  (lies in deploy/grafana)


def promtool(*args):
    done = subprocess.run(['promtool', *map(str, args)], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def alerts():
    """{name: text of its rule}"""
    text = (RULES / 'alerts.yml').read_text()
    parts = re.split(r'^      - alert: (\S+)$', text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2]))


class RulesTest(unittest.TestCase):
    def test_promtool_takes_configuration_and_rules(self):
        for args in (['check', 'config', ROOT / 'deploy/prometheus/prometheus.yml'],
                     ['check', 'config', '--syntax-only', ROOT / 'deploy/prometheus/prometheus-mtls.yml'],
                     ['check', 'rules', '--lint-fatal', *sorted(RULES.glob('*.yml'))]):
            code, said = promtool(*args)
            self.assertEqual(code, 0, said)
            self.assertNotIn('FAILED', said)

    def test_alerts_fire_when_they_should_and_only_then(self):
        code, said = promtool('test', 'rules', *sorted((RULES / 'tests').glob('*.yml')))
        self.assertEqual(code, 0, said)

    def test_every_alert_has_a_series_that_fires_and_one_that_does_not(self):
        text = ''.join(path.read_text() for path in (RULES / 'tests').glob('*.yml'))
        for name in alerts():
            outcomes = re.findall(rf'alertname: {name}\n +eval_time: \S+\n +exp_alerts:( \[\])?', text)
            self.assertIn('', outcomes, f'{name} is never seen to fire')
            self.assertIn(' []', outcomes, f'{name} is never seen to stay quiet')

    def test_every_alert_says_what_it_is_and_has_its_paragraph(self):
        runbook = (ROOT / 'docs' / 'RUNBOOK.md').read_text()
        headings = re.findall(r'^## (\S+)$', runbook, flags=re.MULTILINE)
        self.assertGreaterEqual(len(alerts()), 8)
        self.assertEqual(headings, list(alerts()), 'docs/RUNBOOK.md: the alerts in their order')
        for name, rule in alerts().items():
            self.assertRegex(rule, r'severity: (critical|warning)', name)
            for annotation in ('summary', 'description'):
                self.assertRegex(rule, rf'\n          {annotation}: \S', name)
            self.assertIn(f'runbook: docs/RUNBOOK.md#{name.lower()}\n', rule)
            paragraph = runbook.split(f'\n## {name}\n')[1].split('\n## ')[0]
            for part in ('**Means.**', '**Look.**', '**Causes.**', '**Do.**'):
                self.assertIn(part, paragraph, name)


class DashboardsTest(unittest.TestCase):
    def setUp(self):
        self.files = {path.name: path.read_text() for path in GRAFANA.glob('*.json')}

    def test_the_files_are_what_the_generator_makes(self):
        self.assertEqual(self.files, dashboards.files(), 'run deploy/grafana/dashboards.py')

    def test_panels_say_what_they_show_and_in_what_unit(self):
        seen = set()
        for name, text in self.files.items():
            made = json.loads(text)
            self.assertGreaterEqual(made['schemaVersion'], 39)
            self.assertRegex(made['uid'], r'^pregate-[a-z]+$')
            variables = [v['name'] for v in made['templating']['list']]
            self.assertEqual(variables[:3], ['datasource', 'model', 'instance'], name)
            seen.add(made['uid'])
            self.assertEqual(len({p['id'] for p in made['panels']}), len(made['panels']))
            for panel in made['panels']:
                if panel['type'] == 'row':
                    continue
                self.assertTrue(panel['description'], panel['title'])
                self.assertTrue(panel['fieldConfig']['defaults']['unit'], panel['title'])
                self.assertEqual(panel['datasource']['uid'], '${datasource}')
                for target in panel['targets']:
                    self.assertIn('model=~"$model"', target['expr'], panel['title'])
        self.assertEqual(len(seen), len(self.files), 'uids are unique')

    def test_panels_do_not_overlap(self):
        for name, text in self.files.items():
            taken = set()
            for panel in json.loads(text)['panels']:
                at = panel['gridPos']
                cells = {(x, y) for x in range(at['x'], at['x'] + at['w'])
                         for y in range(at['y'], at['y'] + at['h'])}
                self.assertFalse(cells & taken, f'{name}: {panel["title"]}')
                self.assertLessEqual(at['x'] + at['w'], 24)
                taken |= cells


if __name__ == '__main__':
    unittest.main()
