"""`pregate import` and `pregate logits` against the golden case of the paper's authors' own modules.

Dense, router and MoE logits: relative error |a - b| / |b| of each list at most 1e-5. Expert ids: equal.
The authors' layout is read twice, as it is and imported into our own format.
"""
import argparse
import pathlib
import tempfile

import numpy as np
from safetensors.numpy import load_file

from pregate_cli import Report, run, shared_dir, write_json


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pregate", required=True, help="the pregate program")
    parser.add_argument("--case", type=pathlib.Path, help="(default: gqa_split of the shared golden cases)")
    parser.add_argument("--tolerance", type=float, default=1e-5)
    return parser.parse_args()


def relative_error(ours, theirs):
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


def check_lists(report, name, ours, golden, tensors, tolerance):
    """`tensors`: names of ours -> names in the golden file, without the list's number."""
    k = 0
    while f"{k}.input_ids" in golden:
        for mine, reference in tensors.items():
            a, b = ours.get(f"{k}.{mine}"), golden[f"{k}.{reference}"]
            label = f"{name} list {k} ({len(b)} tokens) {mine}"
            if a is None or a.shape != b.shape:
                report.check(False, f"{label}: expected shape {b.shape}, got {None if a is None else a.shape}")
            elif np.issubdtype(b.dtype, np.integer):
                report.check(np.array_equal(a, b), f"{label}: {np.count_nonzero(a != b)} differ")
            else:
                error = relative_error(a, b)
                report.check(error <= tolerance, f"{label}: relative error {error:.2e}")
        k += 1
    report.check(k > 0, f"{name}: {k} lists compared")


def main():
    args = parse_args()
    case = args.case or shared_dir() / "golden" / "gqa_split"
    golden = load_file(case / "golden.safetensors")
    lists = [golden[f"{k}.input_ids"].tolist() for k in range(sum(key.endswith(".input_ids") for key in golden))]
    report = Report()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        tokens = write_json(scratch / "tokens.json", lists)

        def logits(model):
            out = scratch / "logits.safetensors"
            run(args.pregate, "logits", "--model", model, "--tokens", tokens, "--out", out)
            return load_file(out)

        moe_tensors = {"logits": "moe_logits", "router_logits": "router_logits", "expert_ids": "expert_ids"}
        moe, imported, imported_dense = case / "moe_authors_layout", scratch / "moe", scratch / "dense"
        run(args.pregate, "import", "--from", "authors", "--in", moe, "--out", imported)
        run(args.pregate, "import", "--from", "hf", "--in", case / "dense", "--out", imported_dense)
        for name, model in (("dense", case / "dense"), ("dense, imported", imported_dense)):
            check_lists(report, name, logits(model), golden, {"logits": "dense_logits"}, args.tolerance)
        for name, model in (("moe", moe), ("moe, imported", imported)):
            check_lists(report, name, logits(model), golden, moe_tensors, args.tolerance)
    report.exit()


if __name__ == "__main__":
    main()
