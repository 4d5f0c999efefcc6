#!/usr/bin/env python3
"""Writes what the comments of the chart's values.yaml say into README.md's table and the schema.

usage: scripts/chart_readme.py [--check]     (needs PyYAML: run it with .cache/tools/venv/bin/python)

The comment lines directly above a key describe it. A key whose value is a mapping with described keys is a
section; every other key is a value and must have a comment. A value may be null (which is how Helm takes a default
away) where its default is empty, and where the comment says what "null:" means; the schema requires all others. --check
writes nothing and fails where a file is not up to date.
"""

import json
import pathlib
import sys

import yaml

CHART = pathlib.Path(__file__).resolve().parent.parent / "deploy" / "helm" / "pregate"
BEGIN, END = "<!-- values: begin (scripts/chart_readme.py) -->", "<!-- values: end -->"


def comment_above(lines, line, column):
    """The comment lines that end directly above `line`, at its indentation."""
    texts = []
    while line > 0 and lines[line - 1].startswith(" " * column + "#"):
        line -= 1
        texts.insert(0, lines[line].strip().lstrip("#").strip())
    return " ".join(texts)


def described(lines, node, path=()):
    """Yields (path, default, description) for each value below a mapping node, in the file's order."""
    for key, value in node.value:
        here = path + (key.value,)
        text = comment_above(lines, key.start_mark.line, key.start_mark.column)
        children = isinstance(value, yaml.MappingNode) and not value.flow_style and value.value
        if children and any(
            comment_above(lines, k.start_mark.line, k.start_mark.column) for k, _ in value.value
        ):
            yield here, None, text
            yield from described(lines, value, here)
        else:
            yield here, yaml.safe_load(yaml.serialize(value)), text


def read_values(text):
    """All sections and values of a values.yaml; exits where a value has no comment."""
    rows = list(described(text.splitlines(), yaml.compose(text)))
    bare = [".".join(path) for path, default, note in rows if not note and default is not None]
    if bare:
        sys.exit(f"values.yaml: no comment above {', '.join(bare)}")
    return rows


def table(rows):
    """README's table of values."""
    lines = ["| value | default | meaning |", "|---|---|---|"]
    for path, default, note in rows:
        escaped = note.replace("|", "\\|")
        if default is None:
            lines.append(f"| **{'.'.join(path)}** | | {escaped} |")
        else:
            shown = json.dumps(default).replace("|", "\\|")
            lines.append(f"| `{'.'.join(path)}` | `{shown}` | {escaped} |")
    return "\n".join(lines)


def with_table(readme, rows):
    """The README with a fresh table between its marks."""
    head, rest = readme.split(BEGIN)
    return f"{head}{BEGIN}\n{table(rows)}\n{rest[rest.index(END):]}"


def with_descriptions(schema_text, rows):
    """The schema with the comments as descriptions, and with the keys that must be there."""
    schema = json.loads(schema_text)
    required = {}
    for path, default, note in rows:
        place = schema
        for key in path:
            parent, place = place, place["properties"][key]
        if note:
            place["description"] = note
        of_parent = required.setdefault(path[:-1], (parent, []))[1]
        if default not in ("", [], {}) and "null:" not in note:
            of_parent.append(path[-1])
    for parent, keys in required.values():
        parent.pop("required", None)
        if keys:
            parent["required"] = keys
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def main():
    """Writes or checks both files."""
    rows = read_values((CHART / "values.yaml").read_text())
    stale = []
    for name, derive in (("README.md", with_table), ("values.schema.json", with_descriptions)):
        path = CHART / name
        before = path.read_text()
        after = derive(before, rows)
        if before == after:
            continue
        stale.append(name)
        if "--check" not in sys.argv:
            path.write_text(after)
            print(f"wrote {path.name}")
    if "--check" in sys.argv and stale:
        sys.exit(f"not up to date: {', '.join(stale)}; run scripts/chart_readme.py")


if __name__ == "__main__":
    main()
