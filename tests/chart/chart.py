"""The chart as the tests see it: rendering, and ways into what was rendered."""

import functools
import pathlib
import re
import subprocess

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "pregate"
HELM = ROOT / ".cache" / "tools" / "bin" / "helm"
VALUE_FILES = {path.stem: path for folder in ("ci", "recipes") for path in sorted((CHART / folder).glob("*.yaml"))}
VALUE_SETS = sorted(VALUE_FILES)
PORTS = {"scheduler": 7600, "router": 7610, "worker": 7620}
PROGRAMS = {"scheduler": "pregate-scheduler", "router": "pregate-router", "worker": "pregate-worker"}
HTTP_PORT = 7680  # of the gateway; its metrics are on the port after it


class Refused(Exception):
    """helm refused to render; the text says why."""


def helm(*args):
    """helm's stdout; Refused with its stderr where it fails."""
    done = subprocess.run([HELM, *map(str, args)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Refused(done.stderr + done.stdout)
    return done.stdout


def template(values, release="demo", namespace="ns", sets=(), chart=CHART):
    """The text that `helm template` gives for a value set of ci/ or recipes/, or a file (None: no values at all)."""
    args = ["template", release, chart, "--namespace", namespace]
    if values is not None:
        args += ["-f", VALUE_FILES.get(values, values)]
    for pair in sets:
        args += ["--set-json" if pair.partition("=")[2][:1] in "{[" else "--set", pair]
    return helm(*args)


def notes(values):
    """What `helm install` prints at its end. A dry run of the client's needs no cluster."""
    return helm(
        "install",
        "demo",
        CHART,
        "-f",
        VALUE_FILES[values],
        "--namespace",
        "ns",
        "--dry-run=client",
    ).partition("NOTES:\n")[2]


class Rendered:
    """The objects of one rendering: the chart's, and those that the values bring (extraObjects)."""

    def __init__(self, values, **kwargs):
        self.text = template(values, **kwargs)
        self.objects, self.given = [], []
        for document in re.split(r"^---\n", self.text, flags=re.M):
            source = document.partition("\n")[0]
            place = self.given if source.endswith("/extraobjects.yaml") else self.objects
            place += [o for o in yaml.safe_load_all(document) if o]

    def all(self, kind):
        """Objects of a kind."""
        return [o for o in self.objects if o["kind"] == kind]

    def one(self, kind, component=None):
        """The one object of a kind (with this component label)."""
        found = [o for o in self.all(kind) if component in (None, component_of(o))]
        if len(found) != 1:
            raise LookupError(f"{len(found)} objects {kind} of {component}")
        return found[0]

    def workload(self, component):
        """The Deployment, StatefulSet or test Pod of a component."""
        kind = {"worker": "StatefulSet", "test": "Pod"}.get(component, "Deployment")
        return self.one(kind, component)

    def workloads(self):
        """component -> its Deployment or StatefulSet."""
        return {component_of(o): o for o in self.all("Deployment") + self.all("StatefulSet")}

    def cell(self):
        """component -> the Deployment or StatefulSet of each that speaks gRPC: all but the gateway."""
        return {c: w for c, w in self.workloads().items() if c != "gateway"}

    def pods(self):
        """component -> (labels, spec) of each pod that is made, the test's too."""
        made = {
            c: (w["spec"]["template"]["metadata"]["labels"], w["spec"]["template"]["spec"])
            for c, w in self.workloads().items()
        }
        made.update({component_of(p): (p["metadata"]["labels"], p["spec"]) for p in self.all("Pod")})
        return made

    def container(self, component):
        """The container of a component's pod that runs our program: the first."""
        return self.pods()[component][1]["containers"][0]


@functools.lru_cache(maxsize=None)
def rendered(values, release="demo", namespace="ns"):
    """A value set's objects; read only."""
    return Rendered(values, release=release, namespace=namespace)


def each_set(test):
    """Runs a test method once for each value set."""

    @functools.wraps(test)
    def run(self):
        for values in VALUE_SETS:
            with self.subTest(values=values):
                self.values = values
                test(self, rendered(values))

    return run


def component_of(obj):
    """The component label of an object."""
    return obj["metadata"]["labels"].get("app.kubernetes.io/component")


def flags(container):
    """A container's arguments as {flag: value or True}; a flag given twice keeps the last."""
    pairs = (arg.partition("=") for arg in container.get("args", []))
    return {name: value if equals else True for name, equals, value in pairs}


def env(container):
    """A container's environment as {name: entry}."""
    return {entry["name"]: entry for entry in container.get("env", [])}


def selects(selector, labels):
    """Whether a label selector (matchLabels only) matches."""
    assert set(selector) <= {"matchLabels"}, selector
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def quantity(text):
    """A Kubernetes quantity as a number."""
    text = str(text)
    units = {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
    for unit in sorted(units, key=len, reverse=True):
        if text.endswith(unit):
            return float(text[: -len(unit)]) * units[unit]
    return float(text)
