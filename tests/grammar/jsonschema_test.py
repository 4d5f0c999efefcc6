"""Texts that masks allowed to the end, beside the `jsonschema` package.

Of oneOf, which is read as anyOf, and of notes that are none to us (format) the package is not asked.
Usage: jsonschema_test.py GRAMMAR_DRIVER SCHEMAS SEED
"""
import json
import subprocess
import sys

import jsonschema


def as_any_of(schema):
    """The schema with oneOf as anyOf."""
    if isinstance(schema, list):
        return [as_any_of(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {("anyOf" if key == "oneOf" else key): as_any_of(value) for key, value in schema.items()}


def refuse_constant(name):
    raise ValueError(f"{name} is no JSON")


def main():
    driver, schemas, seed = sys.argv[1:]
    lines = subprocess.run([driver, schemas, seed], check=True, capture_output=True, text=True).stdout.split("\n")[:-1]
    faults = 0
    for line in lines:
        case = json.loads(line)
        schema = as_any_of(case["schema"])
        jsonschema.Draft202012Validator.check_schema(schema)
        value = json.loads(case["text"], parse_constant=refuse_constant)
        validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker(["date", "uuid"]))
        for error in validator.iter_errors(value):
            faults += 1
            print(f"{error.message}\n  schema {json.dumps(case['schema'])}\n  text   {case['text']}")
    print(f"seed {seed}: {len(lines)} texts of {schemas} schemas, {faults} faults")
    return 1 if faults or len(lines) < int(schemas) / 2 else 0


if __name__ == "__main__":
    sys.exit(main())
