"""Runs the commands of a page as they stand there, in order, in one shell.

Every ```sh block is run, in a network of its own with loopback only, in a folder that looks like the repository
with BIN_DIR as build/release/bin. Commands that need a
cluster or a container engine are checked as far as they go without (OFFLINE); the suites `chart` and `images` run what
they start. `<!-- expect: REGEX -->` above a block: its output must match. A line `! COMMAND` must fail. The commands of pregate in ```text
blocks are not run, but each flag must be one of the program's.

Usage: doc_test.py SOURCE_DIR BIN_DIR PAGE
"""
import itertools
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap

BLOCK = re.compile(r"((?:^<!-- [^\n]* -->\n)*)^```sh\n(.*?)^```$", re.M | re.S)
NOTE = re.compile(r"<!-- (\w+): (.*?) -->")

# Without a cluster, manifests are rendered and checked against the API's schemas instead of being sent; without an
# engine, the compose file is resolved with the page's variables.
OFFLINE = {
    "sudo": '"$@" 2>/dev/null || echo "not allowed here: $*"',
    "docker": """
        [ "$1" = compose ]; shift
        case " $* " in
          *" up "*) "$TOOLS/../venv/bin/podman-compose" -f deploy/compose.yaml config | grep -E "source:|:/(tls|model):ro" ;;
          *) echo "docker compose $*: not run without an engine" ;;
        esac""",
    "kubectl": """
        case "$1" in
          create) exec "$TOOLS/kubectl" "$@" --dry-run=client -o yaml ;;
          label) exit 0 ;;
          *) echo "kubectl $1: not run without a cluster" ;;
        esac""",
    "helm": """
        verb=$1; shift
        case "$verb" in
          install | upgrade)
            args=()
            for a in "$@"; do [ "$a" = --install ] || [ "$a" = --wait ] || args+=("$a"); done
            "$TOOLS/helm" template "${args[@]}" 2>/dev/null |
              "$TOOLS/../venv/bin/python" -c "$ONLY_KUBERNETES" >rendered.yaml
            "$TOOLS/../venv/bin/kubernetes-validate" --strict --quiet rendered.yaml ;;
          test | uninstall | rollback) echo "helm $verb: not run without a cluster" ;;
          *) exec "$TOOLS/helm" "$verb" "$@" ;;
        esac""",
}

# Passes on the manifests that the API's own schemas know, and names all on stderr.
ONLY_KUBERNETES = '''
import sys, yaml
for o in filter(None, yaml.safe_load_all(sys.stdin)):
    print(o["kind"], o["metadata"]["name"], file=sys.stderr)
    if not o["apiVersion"].startswith("monitoring.coreos.com/"):
        print("---", yaml.safe_dump(o), sep="\\n")
'''


def fail(message):
    print(f"FAILED: {message}")
    sys.exit(1)


def write_program(path, body):
    path.write_text("#!/usr/bin/env bash\nset -euo pipefail\n" + textwrap.dedent(body) + "\n")
    path.chmod(0o755)


def make_folder(root, source, bin_dir):
    """The repository as a user has it after scripts/build.sh release, without its build."""
    for entry in source.iterdir():
        if entry.name not in ("build", "scripts", "deploy", ".git", ".cache"):
            (root / entry.name).symlink_to(entry)
    shutil.copytree(source / "deploy", root / "deploy", symlinks=True)  # the page puts keys there
    (root / "build/release").mkdir(parents=True)
    (root / "build/release/bin").symlink_to(bin_dir)
    (root / "scripts").mkdir()
    for entry in (source / "scripts").iterdir():
        if entry.name != "build.sh":
            (root / "scripts" / entry.name).symlink_to(entry)
    write_program(root / "scripts/build.sh", '[ "$1" = release ] && [ -x build/release/bin/pregate ]')
    # The demo model's name and form, in small.
    (root / "scripts/demo_model.sh").unlink()
    write_program(root / "scripts/demo_model.sh", """
        "$1/pregate" synth --shape tiny --experts 3 --out .cache/quickstart/smollm2-135m-moe5 >&2
        echo .cache/quickstart/smollm2-135m-moe5""")
    (root / "deploy/images/build.sh").unlink()
    write_program(root / "deploy/images/build.sh", '[ "$1" = cpu ]')
    tools = source / ".cache/tools/bin"
    shims = root / "shims"
    shims.mkdir()
    for name, body in OFFLINE.items():
        write_program(shims / name, f'TOOLS="{tools}"\n' + textwrap.dedent(body))
    return shims


def unknown_flags(document, bin_dir):
    """The flags in ```text blocks that the program's --help does not name."""
    for block in re.findall(r"^```text\n(.*?)^```$", document, re.M | re.S):
        for line in re.findall(r"^pregate(?:-[a-z]+)?(?: [a-z]+)* [^a-z:].*", block, re.M):
            words = line.partition(" #")[0].split()
            command = list(itertools.takewhile(lambda word: re.fullmatch(r"[a-z-]+", word) and word[0] != "-", words))
            told = subprocess.run([bin_dir / command[0], *command[1:], "--help"], capture_output=True, text=True, timeout=60)
            if told.returncode != 0:
                yield f"{' '.join(command)}: {told.stderr}"
            known = set(re.findall(r"--[a-z0-9-]+", told.stdout))
            yield from (f"{line}: {word}" for word in words if word.startswith("--") and word not in known)


def blocks(text):
    for match in BLOCK.finditer(text):
        yield dict(NOTE.findall(match.group(1))), match.group(2), text[:match.start()].count("\n") + 1


def as_script(document):
    """All blocks as one script; the output of each is cut out by marks."""
    lines = ["set -euo pipefail"]
    for number, (notes, commands, line) in enumerate(blocks(document)):
        # bash does not count a command that was to fail and did not as an error.
        commands = re.sub(r"^! (.*)$", r"if \1; then echo 'this was to fail'; exit 1; fi", commands, flags=re.M)
        lines += [f"echo '@@ {number} line {line}'", commands]
    return "\n".join(lines) + "\necho '@@ end'\n"


def main():
    source, bin_dir = (pathlib.Path(a).resolve() for a in sys.argv[1:3])
    page = sys.argv[3]
    document = (source / page).read_text()
    if unknown := list(unknown_flags(document, bin_dir)):
        fail("flags that the program has not: " + "; ".join(unknown))
    root = pathlib.Path(tempfile.mkdtemp(prefix="pregate-doc-"))
    try:
        shims = make_folder(root, source, bin_dir)
        (root / "script.sh").write_text(as_script(document))
        env = {**os.environ, "ONLY_KUBERNETES": ONLY_KUBERNETES, "PATH": f"{shims}:{bin_dir}:{os.environ['PATH']}", "TMPDIR": str(root)}
        # Processes of its own too: the page stops programs by name.
        alone = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
        if os.geteuid() != 0:
            alone += ["--user", "--map-root-user"]
        shell = subprocess.Popen(
            [*alone, "bash", "-c", "ip link set lo up; exec bash script.sh"],
            cwd=root, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True)
        try:
            output, _ = shell.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, signal.SIGKILL)
            output = shell.communicate()[0] + "\n(timed out)"
        finally:
            try:
                os.killpg(shell.pid, signal.SIGKILL)  # what a block left in the background
            except ProcessLookupError:
                pass
        print(output)
        if "@@ end" not in output:
            fail("the commands stopped at the last line above")
        parts = dict(re.findall(r"^@@ (\d+) line \d+\n(.*?)(?=^@@ )", output, re.M | re.S))
        for number, (notes, _, line) in enumerate(blocks(document)):
            wanted = notes.get("expect")
            if wanted and str(number) in parts and not re.search(wanted, parts[str(number)]):
                fail(f"{page} line {line}: output does not match {wanted!r}")
        print(f"ran {len(parts)} blocks")
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
