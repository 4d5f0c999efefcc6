"""Perplexity of a refactored model on the end of each domain's text, beside the dense model it was made from.

For each domain: the dense model, the MoE with the domain's own expert, and the MoE with its router; windows of 512
without overlap, as `pregate eval ppl` scores them. Writes JSON and prints the table of models/*/README.md.
usage: moe_quality.py --pregate PROGRAM --dense PATH --moe DIR --corpus DIR --out FILE [--hold-out 0.15] [--jobs 1]
"""
import argparse
import concurrent.futures
import json
import pathlib
import subprocess
import tempfile

import machine


def held_out(text, share):
    """The bytes that `pregate refactor --hold-out` never reads; the cut moves to the start of a character."""
    cut = int(len(text) * (1 - share))
    while cut < len(text) and text[cut] & 0xC0 == 0x80:
        cut += 1
    return text[cut:]


def evaluate(args, model, text, expert=None):
    command = [args.pregate, "eval", "ppl", "--model", model, "--text", text, "--context", str(args.context),
               "--dtype", args.dtype, "--threads", str(args.threads), "--windows-max", str(args.windows_max), "--json"]
    if expert is not None:
        command += ["--expert", str(expert)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def table(experts, rows):
    mean = lambda values: sum(values) / len(values)
    own = [r["own"]["ppl"] / r["dense"]["ppl"] for r in rows]
    router = [r["router"]["ppl"] / r["dense"]["ppl"] for r in rows]
    ratio = [a / b for a, b in zip(router, own)]
    kept = [r["router"]["kept_routes"] for r in rows]
    line = lambda name, values, form: "| " + " | ".join([name] + [form.format(v) for v in values]) + " |"
    print(line("", experts + ["mean"], "{}"))
    print("|" + "---|" * (len(experts) + 2))
    print(line("tokens scored", [r["dense"]["tokens"] for r in rows], "{}") + " |")
    print(line("dense perplexity", [r["dense"]["ppl"] for r in rows], "{:.2f}") + " |")
    print(line("own expert, x dense", own + [mean(own)], "{:.3f}"))
    print(line("router, x dense", router + [mean(router)], "{:.3f}"))
    print(line("router, x own expert", ratio + [mean(ratio)], "{:.3f}"))
    print(line("tokens that keep the expert of the one before", kept + [mean(kept)], "{:.1%}"))
    print("\nexpert that the router names, by domain of the text:\n")
    print(line("text", experts, "{}"))
    print("|" + "---|" * (len(experts) + 1))
    for name, r in zip(experts, rows):
        total = sum(r["router"]["expert_tokens"])
        print(line(name, [n / total for n in r["router"]["expert_tokens"]], "{:.1%}"))
    return {"own_x_dense": own, "router_x_dense": router, "router_x_own": ratio, "router_x_own_mean": mean(ratio)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pregate", required=True)
    parser.add_argument("--dense", required=True)
    parser.add_argument("--moe", required=True)
    parser.add_argument("--corpus", required=True, type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--hold-out", type=float, default=0.15)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--dtype", default="f32")
    parser.add_argument("--threads", type=int, default=0, help="of each program; 0: all cores")
    parser.add_argument("--jobs", type=int, default=1, help="programs at a time")
    parser.add_argument("--windows-max", type=int, default=0, help="windows of each domain; 0: all")
    args = parser.parse_args()

    files = sorted(args.corpus.glob("*.txt"))  # the experts' order
    experts = [f.stem for f in files]
    with tempfile.TemporaryDirectory() as scratch, concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        jobs = []
        for expert, file in enumerate(files):
            text = pathlib.Path(scratch) / file.name
            text.write_bytes(held_out(file.read_bytes(), args.hold_out))
            jobs.append({"dense": pool.submit(evaluate, args, args.dense, text),
                         "own": pool.submit(evaluate, args, args.moe, text, expert),
                         "router": pool.submit(evaluate, args, args.moe, text)})
        rows = [{kind: job.result() for kind, job in domain.items()} for domain in jobs]
    summary = table(experts, rows)
    config = {k: str(v) for k, v in vars(args).items() if k not in ("pregate", "dense", "moe", "corpus", "out")}
    args.out.write_text(json.dumps({"machine": machine.describe(), "config": config,
                                    "domains": dict(zip(experts, rows)), **summary}, indent=1) + "\n")


if __name__ == "__main__":
    main()
