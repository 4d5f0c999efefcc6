"""One tokenizer for each family of models, trained by the `tokenizers` package and read by ours: equal ids and texts.

Usage: families_test.py TOKENIZER_DRIVER [STRINGS [SEED]]. Their parts are those of the published tokenizer.json files. They
are trained on the pages of this repository, and compared on these and on pages of other domains, where they lie in
shared/data/domains; then on STRINGS random strings, over all families.
"""
import json
import os
import pathlib
import random
import sys
import tempfile

os.environ["RUST_BACKTRACE"] = "0"
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from property_test import ATOMS, RARE_ATOMS, SPACE, Driver
from published import PRE_TOKENIZERS, byte_level, metaspace

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE_BYTES = 20000
VOCABULARY = 1500


def pages():
    own = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))]
    domains = [path for base in (ROOT, *ROOT.parents) for path in sorted(base.glob("shared/data/domains/*.txt"))]
    return own, [path.read_text(encoding="utf-8")[:PAGE_BYTES] for path in domains]


def replace(source, target):
    return {"type": "Replace", "pattern": {"String": source}, "content": target}


LLAMA2_DECODER = {"type": "Sequence", "decoders": [replace(SPACE, " "), {"type": "ByteFallback"}, {"type": "Fuse"},
                                                   {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
GEMMA_DECODER = {"type": "Sequence", "decoders": LLAMA2_DECODER["decoders"][:3]}
PREPENDING = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE}, replace(" ", SPACE)]}
T5_LIKE = {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]}

# name: (model, normalizer, pre-tokenizer, decoder)
FAMILIES = {name: ("bytes", {"type": "NFC"} if name == "qwen2" else None, chain, byte_level(True))
            for name, chain in PRE_TOKENIZERS.items()}
FAMILIES |= {
    "llama-2, phi-3, tinyllama": ("characters", PREPENDING, None, LLAMA2_DECODER),
    "mistral": ("characters", None, metaspace("first", True), LLAMA2_DECODER),
    "gemma": ("characters", replace(" ", SPACE), {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious",
                                                  "invert": False}, GEMMA_DECODER),
    "t5": ("unigram", T5_LIKE, metaspace("always", False), metaspace("always", False)),
}


def train(kind, texts):
    """A model of `kind` as JSON, trained on words that the family's own pre-tokenizer need not make."""
    if kind == "bytes":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, show_progress=False,
                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    else:
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True) if kind == "characters"
                              else models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        special = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
        options = dict(vocab_size=VOCABULARY, show_progress=False, special_tokens=special)
        trainer = (trainers.BpeTrainer(limit_alphabet=80, **options) if kind == "characters"
                   else trainers.UnigramTrainer(unk_token="<unk>", **options))
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    if kind == "unigram":
        model["byte_fallback"] = True
        # The package reads a number of 17 digits up to one unit off, which decides ties ("0" + "00"); short ones it reads exactly.
        model["vocab"] = [[text, round(score, 6)] for text, score in model["vocab"]]
    return model


def make_family(name, trained):
    kind, normalizer, pre_tokenizer, decoder = FAMILIES[name]
    model = json.loads(json.dumps(trained[kind]))
    if name in ("llama3", "tekken"):
        model["ignore_merges"] = True
    size = len(model["vocab"])
    added = [("<unk>", True), ("<s>", True), ("</s>", True)] if kind != "bytes" else []
    ids = {text: i for i, text in enumerate(["<unk>", "<s>", "</s>"])}
    added += [("<|im_end|>", True), ("<think>", False), ("\n\n\n", False)]
    return {"version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [{"id": ids.get(text, size + i), "content": text, "single_word": False, "lstrip": False,
                              "rstrip": False, "normalized": False, "special": special}
                             for i, (text, special) in enumerate(added)],
            "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": None, "decoder": decoder,
            "model": model}


def check_family(driver, source, texts, rng):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "tokenizer.json")
        path.write_text(json.dumps(source), encoding="utf-8")
        reference = Tokenizer.from_file(str(path))
        reference.encode_special_tokens = True
        want_ids = [encoding.ids for encoding in reference.encode_batch(texts, add_special_tokens=False)]
        size = reference.get_vocab_size(with_added_tokens=True)
        rows = want_ids + [[rng.randrange(size + 3) for _ in range(20)] for _ in range(len(texts) // 4)]
        answer = driver.ask({"dir": folder, "texts": texts, "ids": rows})
        if "error" in answer:
            return [f"refused: {answer['error']}"]
        special = {reference.token_to_id(t["content"]) for t in source["added_tokens"] if t["special"]}
        # The package's unigram models give special tokens to texts that spell them; ours never does.
        differ = [f"encode {text[:80]!r}: {got[:40]}, expected {want[:40]}"
                  for text, got, want in zip(texts, answer["ids"], want_ids)
                  if got != want and not (source["model"]["type"] == "Unigram" and special & set(want))]
        for row, got, pieces, want in zip(rows, answer["texts"], answer["streamed"], reference.decode_batch(rows)):
            if got != want or "".join(pieces) != want:
                differ.append(f"decode {row[:40]}: {got[:80]!r}, expected {want[:80]!r}")
        return differ


def main():
    strings = int(sys.argv[2]) if len(sys.argv) > 2 else 4000
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}, {strings} strings", flush=True)
    own, domains = pages()
    trained = {kind: train(kind, own) for kind in ("bytes", "characters", "unigram")}
    driver = Driver(sys.argv[1])
    for name in FAMILIES:
        rng = random.Random(f"{seed}/{name}")
        atoms = ATOMS + RARE_ATOMS + ["<think>", "<|im_end|>", "the", " of", "Router", "</s>"]
        texts = ["".join(rng.choice(atoms) for _ in range(rng.randint(0, 30))) for _ in range(strings // len(FAMILIES))]
        differ = check_family(driver, make_family(name, trained), own + domains + texts, rng)
        if differ:
            print(f"{name}: {len(differ)} differ")
            print("\n".join(differ[:5]))
            sys.exit(1)
    print(f"{len(FAMILIES)} families, {len(own) + len(domains)} pages and {strings} strings: equal")


if __name__ == "__main__":
    main()
