"""What kernel_trace.cc wrote, by kernel: a table for each stretch between cudaProfilerStart and Stop.

A kernel's time is from the end of the one that ended before it to its own end, since kernels may begin while others
run: so times add up to the stretch's. usage: kernel_times.py FILE [NAME_OF_STRETCH...]; prints one JSON object.
"""
import json
import re
import subprocess
import sys


def stretches(path):
    """[[(start, end, grid, mangled name)]], ns."""
    found, current = [], None
    with open(path) as lines:
        for line in lines:
            start, end, grid, name = line.rstrip("\n").split(";", 3)
            if "ProfilerStart" in name:
                current = []
            elif "ProfilerStop" in name:
                found.append(current or [])
                current = None
            elif current is not None:
                current.append((int(start), int(end), grid, name))
    return found


def readable(names):
    """Mangled name -> "Kernel<arguments>"; library kernels keep theirs."""
    names = sorted(names)
    plain = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True).stdout.splitlines()
    short = {}
    for name, text in zip(names, plain):
        text = re.sub(r"pregate::cuda::|\(anonymous namespace\)::|^void ", "", text)
        short[name] = re.sub(r"\([^()]*\)\s*(const)?$", "", text)[:80]
    return short


def by_kernel(records, names):
    table, last = {}, records[0][0]
    for start, end, grid, name in records:
        row = table.setdefault(f"{names[name]} {grid}", {"launches": 0, "us": 0.0})
        row["launches"] += 1
        row["us"] += max(0, end - last) / 1e3
        last = max(last, end)
    for row in table.values():
        row["us_each"] = round(row["us"] / row["launches"], 2)
        row["us"] = round(row["us"], 1)
    return {"us": round((last - records[0][0]) / 1e3, 1), "launches": len(records),
            "kernels": dict(sorted(table.items(), key=lambda kv: -kv[1]["us"]))}


def tables(path, labels=()):
    found = [records for records in stretches(path) if records]
    names = readable({name for records in found for _, _, _, name in records})
    return {labels[i] if i < len(labels) else f"stretch {i}": by_kernel(records, names)
            for i, records in enumerate(found)}


if __name__ == "__main__":
    print(json.dumps(tables(sys.argv[1], sys.argv[2:]), indent=1))
