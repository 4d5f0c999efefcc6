"""The table of docs/METRICS.md, made of what the programs export.

usage: metrics_table.py BIN_DIR    starts a small cell and writes the table anew
"""
import dataclasses
import pathlib
import re
import sys
import tempfile

DOC = pathlib.Path(__file__).parents[2] / 'docs' / 'METRICS.md'
BEGIN, END = '<!-- series: begin -->', '<!-- series: end -->'
EVERYWHERE = {'model'}  # labels that go without saying
SAMPLE = re.compile(r'^([a-z_:][a-z0-9_:]*)(?:\{(.*)\})? (\S+)$', re.IGNORECASE)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
UNITS = ('seconds', 'bytes', 'ratio', 'tokens', 'units', 'experts')
SERVICES = ('scheduler', 'router', 'worker', 'gateway')  # in the order of the table


@dataclasses.dataclass
class Family:
    """All series of one name."""

    kind: str = 'untyped'
    words: str = ''  # of HELP
    labels: set = dataclasses.field(default_factory=set)  # names
    samples: list = dataclasses.field(default_factory=list)  # (name, labels, value)


def parse(text):
    """Text exposition: {name: Family}."""
    families = {}
    family = Family()
    for line in text.splitlines():
        if line.startswith('# HELP '):
            name, words = line.removeprefix('# HELP ').split(' ', 1)
            family = families[name] = Family(words=words)
        elif line.startswith('# TYPE '):
            family.kind = line.split(' ')[3]
        elif found := SAMPLE.match(line):
            labels = dict(LABEL.findall(found[2] or ''))
            family.labels |= set(labels) - {'le'}
            family.samples.append((found[1], labels, float(found[3])))
    return families


def unit(name):
    """What a value is in; 1: a number of what the name says, or a yes."""
    if name.startswith('pregate_expert_cache_'):
        return 'units'
    words = name.removesuffix('_total').split('_')
    return next((word for word in reversed(words) if word in UNITS), '1')


def table(services):
    """Markdown of {service: families}: what several export is theirs together."""
    owners = {}
    for service, families in services.items():
        for name, family in families.items():
            owners.setdefault(name, []).append((service, family))
    lines = ['| Series | Type | Labels | Unit | Service | Meaning |', '|---|---|---|---|---|---|']

    def place(item):
        name, found = item
        return (len(found) > 1, SERVICES.index(found[0][0]), name)

    for name, found in sorted(owners.items(), key=place):
        family = found[0][1]
        who = 'each' if len(found) == len(services) else ', '.join(service for service, _ in found)
        named = ', '.join(f'`{label}`' for label in sorted(family.labels - EVERYWHERE))
        lines.append(f'| `{name}` | {family.kind} | {named} | {unit(name)} | {who} | {family.words} |')
    return '\n'.join(lines)


def written(text):
    """The table that a document holds."""
    return text.split(BEGIN)[1].split(END)[0].strip()


def main():
    import cell

    with tempfile.TemporaryDirectory() as folder:
        model = pathlib.Path(folder) / 'tiny'
        cell.synth(sys.argv[1], model)
        running = cell.Cell(sys.argv[1], folder, model)
        try:
            services = running.start().exports()
        finally:
            running.close()
    head, _, rest = DOC.read_text().partition(BEGIN)
    tail = rest.partition(END)[2]
    DOC.write_text(f'{head}{BEGIN}\n{table(services)}\n{END}{tail}')


if __name__ == '__main__':
    main()
