"""What kernel_trace.cc wrote, by kernel: a table for each stretch between cudaProfilerStart and Stop.

A kernel's time is from the end of the one that ended before it to its own end, since kernels may begin while others
run: so times add up to the stretch's. usage: kernel_times.py [--parts] FILE [NAME_OF_STRETCH...]; prints one JSON object.
--parts: instead of kernels the parts of a step (PARTS), each the median over the stretches of a name up to its comma.
"""
import json
import re
import statistics
import subprocess
import sys

# Router: the replica. Attention: q, k and v, rope and the store, attention, output. Experts: gate, up and down of shared part and
# own. Norms: with the sums into the residual stream before them. Layers: all of them, where one kernel runs them (docs/adr/0015).
# Rest: embedding, groups of tokens by expert, logits, sampler.
PARTS = ("router", "attention", "experts", "norms", "layers", "rest")


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


ENDS_A_PART = ("ResolveLateKernel", "MarkSeenKernel", "BuildGroupsKernel", "GatherRowsKernel", "SampleTokensKernel")


def parts_in_turn(kernels):
    """The part that each kernel of a step belongs to, by its place among the others: library products have one name wherever
    they are used. The backbone computes in bf16 and the replica of the router in f32."""
    part = "rest"
    for name in kernels:
        of_kernel = part
        if name.startswith("EmbedKernel<float"):
            of_kernel = part = "router"
        elif name.startswith("EmbedKernel"):
            of_kernel, part = "rest", "layers"
        elif name.startswith(ENDS_A_PART):
            of_kernel = part = "rest"
        elif part not in ("router", "rest") and name.startswith("RmsNormKernel"):
            of_kernel, part = "norms", "experts" if part == "attention" else "attention"
        elif part == "experts" and name.startswith("AddFfnKernel"):
            of_kernel = "norms"  # the sum that ends the last layer
        yield of_kernel


def by_part(records, names):
    """ms of a step's parts and in all."""
    of_part, last = dict.fromkeys(PARTS, 0.0), records[0][0]
    for (_, end, _, _), part in zip(records, parts_in_turn(names[name] for _, _, _, name in records)):
        of_part[part] += max(0, end - last) / 1e6
        last = max(last, end)
    return {**of_part, "step": (last - records[0][0]) / 1e6}


def parts(path, labels=()):
    """{name of stretches: {"steps": how many, part: ms}}."""
    found = [records for records in stretches(path) if records]
    names = readable({name for records in found for _, _, _, name in records})
    steps = {}
    for i, records in enumerate(found):
        label = labels[i] if i < len(labels) else f"stretch {i}"
        steps.setdefault(label.split(",")[0], []).append(by_part(records, names))
    return {label: {"steps": len(rows), **{part: round(statistics.median(row[part] for row in rows), 4) for part in rows[0]}}
            for label, rows in steps.items()}


if __name__ == "__main__":
    arguments = [a for a in sys.argv[1:] if a != "--parts"]
    print(json.dumps((parts if "--parts" in sys.argv else tables)(arguments[0], arguments[1:]), indent=1))
