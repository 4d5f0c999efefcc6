"""Token ids of `pregate tokenize` against llama.cpp's, on whole files and on random slices of their bytes.

Needs the Python package llama-cpp-python. Slices hold whole characters: other bytes are refused by name.
"""
import argparse
import pathlib
import random
import tempfile

import llama_cpp

from pregate_cli import Report, run_json, shared_dir


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pregate", required=True, help="the pregate program")
    parser.add_argument("--model", required=True, help="GGUF file; only its vocabulary is read by llama.cpp")
    parser.add_argument("--ours", help="the same model as pregate shall read it (default: --model)")
    parser.add_argument("--text", nargs="*", type=pathlib.Path, help="files (default: the shared domains)")
    parser.add_argument("--slices", type=int, default=30)
    parser.add_argument("--slice-bytes-max", type=int, default=1 << 16)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    return parser.parse_args()


def random_slice(rng, texts, bytes_max):
    text = rng.choice(texts)
    begin = rng.randrange(len(text))
    # Lengths of every order of magnitude.
    return text[begin:begin + int(bytes_max ** rng.random()) + 1].decode(errors="ignore").encode()


def first_difference(ours, theirs):
    for i, (a, b) in enumerate(zip(ours, theirs)):
        if a != b:
            return i
    return min(len(ours), len(theirs))


def main():
    args = parse_args()
    paths = args.text or sorted((shared_dir() / "data" / "domains").glob("*.txt"))
    llama = llama_cpp.Llama(args.model, vocab_only=True, verbose=False)
    report = Report()
    with tempfile.TemporaryDirectory() as scratch:
        file = pathlib.Path(scratch) / "text"

        def compare(name, text):
            file.write_bytes(text)
            ours = run_json(args.pregate, "tokenize", "--model", args.ours or args.model, "--text-file", file)["ids"]
            theirs = llama.tokenize(text, add_bos=False, special=False)
            detail = f"{name}: {len(ours)} ids"
            if ours != theirs:
                at = first_difference(ours, theirs)
                detail += f", {len(theirs)} in llama.cpp; at {at}: {ours[at:at + 5]} and {theirs[at:at + 5]}"
            report.check(ours == theirs, detail)

        texts = [path.read_bytes() for path in paths]
        for path, text in zip(paths, texts):
            compare(path.name, text)
        print("seed", args.seed)
        rng = random.Random(args.seed)
        for i in range(args.slices):
            piece = random_slice(rng, texts, args.slice_bytes_max)
            compare(f"slice {i} of {len(piece)} bytes", piece)
    report.exit()


if __name__ == "__main__":
    main()
