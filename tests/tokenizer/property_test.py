"""Random byte-level BPE tokenizers, read by ours and by the `tokenizers` package: equal ids, texts and pieces.

Usage: property_test.py TOKENIZER_DRIVER [ROUNDS [SEED]]. Each round makes a tokenizer.json: a vocabulary with holes,
unused words and words outside the alphabet, merges, repeated ones among them, and added tokens of every kind, some
of them words of the vocabulary, some listed twice. The package reads it with encode_special_tokens on: text never
becomes a special token. Runs in the interpreter of `scripts/tools.sh tokenizers`.
"""
import json
import pathlib
import random
import subprocess
import sys
import tempfile

from tokenizers import Tokenizer

TEXTS_A_ROUND = 20

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def alphabet():
    keep = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in keep]
    return {**{b: chr(b) for b in keep}, **{b: chr(0x100 + i) for i, b in enumerate(rest)}}


ALPHABET = alphabet()
# What texts and words are made of: few letters, so that merges happen; what pre-tokenizers and strippers look at.
ATOMS = ["a", "b", "c", "A", "1", "2", "é", "中", "😀", "e\u0301", "\u200d", "👩\u200d💻", " ", " ", "  ", "\n", "\r\n",
         "\t", "\u00a0", "\u3000", "_", "-", ".", "<", ">", "'s", "'ll", "\ufffd", "\u0000", "ß", "न\u093f"]


def words(rng, count):
    return ["".join(rng.choice(ATOMS) for _ in range(rng.randint(1, 4))) for _ in range(count)]


def spell(text):
    return "".join(ALPHABET[b] for b in text.encode())


def make_model(rng):
    tokens = [ALPHABET[b] for b in range(256)]
    if rng.random() < 0.3:  # a vocabulary that lacks bytes
        tokens = [t for t in tokens if rng.random() < 0.97]
    merges = []
    base = [t for t in tokens if t in {spell(a) for a in ATOMS if len(a.encode()) == 1} or ord(t) > 0x7E]
    base = [t for t in base if t in "abcA12" or rng.random() < 0.3] + [spell("a") if spell("a") in tokens else tokens[0]]
    for _ in range(rng.randint(0, 60)):
        left, right = rng.choice(base), rng.choice(base)
        if len(left + right) > 8:
            continue
        merges.append([left, right])
        if left + right not in tokens:
            tokens.append(left + right)
            base.append(left + right)
    if merges and rng.random() < 0.5:
        merges.insert(rng.randint(0, len(merges)), rng.choice(merges))  # one twice
    tokens += [t for t in ("<unk>", "[PAD 1]", "中文", "un used") if rng.random() < 0.5]  # not reached by text
    ids, at = {}, 0
    order = tokens[:]
    if rng.random() < 0.5:
        rng.shuffle(order)
    holes = rng.random() < 0.4
    for token in order:
        if holes and rng.random() < 0.05:
            at += rng.randint(1, 5)
        ids[token], at = at, at + 1
    unk = rng.choice([None, None, "a" if "a" in ids else None, "<unk>" if "<unk>" in ids else None])
    return {"type": "BPE", "dropout": None, "unk_token": unk, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": rng.random() < 0.5, "byte_fallback": False,
            "ignore_merges": rng.random() < 0.3, "vocab": ids,
            "merges": merges if rng.random() < 0.5 else [" ".join(m) for m in merges]}


def make_added(rng, vocab):
    contents = words(rng, rng.randint(0, 6)) + rng.sample(list(vocab), rng.randint(0, 3))
    contents += [c for c in ("<|x|>", "<tool>", "no", "  ", "é", "<unk>", "a\nb") if rng.random() < 0.4]
    rng.shuffle(contents)
    added, at = [], len(vocab)
    for content in contents + rng.sample(contents, min(len(contents), rng.randint(0, 1))):
        flag = lambda share: rng.random() < share
        at += 1
        added.append({"id": vocab.get(content, at), "content": content, "single_word": flag(0.2), "lstrip": flag(0.2),
                      "rstrip": flag(0.2), "normalized": flag(0.4), "special": flag(0.4)})
    return added


def make_tokenizer(rng):
    byte_level = lambda regex: {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": regex}
    split = lambda regex: {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
    sequence = lambda *steps: {"type": "Sequence", "pretokenizers": list(steps)}
    model = make_model(rng)
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": make_added(rng, model["vocab"]),
            "normalizer": None,
            "pre_tokenizer": rng.choice([
                byte_level(True), sequence({"type": "Digits", "individual_digits": True}, byte_level(True)),
                sequence(split(LLAMA3), byte_level(False)),
                sequence(split(r"[\p{P}\$\+<=>\^~\|]+"), split(GPT2), split(r"\p{N}+"), split("[0-9][0-9][0-9]"),
                         byte_level(False))]),
            "post_processor": rng.choice([None, byte_level(True)]), "decoder": byte_level(True), "model": model}


def make_texts(rng, tokenizer):
    spelled = [t["content"] for t in tokenizer["added_tokens"]]
    parts = ATOMS + spelled * 3
    texts = ["".join(rng.choice(parts) for _ in range(rng.randint(0, 30))) for _ in range(TEXTS_A_ROUND)]
    return texts + [""] + spelled


def make_ids(rng, size):
    return [[rng.randrange(size + 5) for _ in range(rng.randint(0, 20))] for _ in range(TEXTS_A_ROUND)]


class Driver:
    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        encoding="utf-8")

    def ask(self, question):
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def encode_all(reference, texts):
    """The texts that the package can encode, and their ids: where tokens strip each other's spaces it may panic."""
    pairs = []
    for text in texts:
        try:
            pairs.append((text, reference.encode(text, add_special_tokens=False).ids))
        except BaseException as error:
            if type(error).__name__ != "PanicException":
                raise
    return [text for text, _ in pairs], [ids for _, ids in pairs]


def check_round(driver, rng, folder):
    source = make_tokenizer(rng)
    path = pathlib.Path(folder, "tokenizer.json")
    path.write_text(json.dumps(source, ensure_ascii=rng.random() < 0.5), encoding="utf-8")
    reference = Tokenizer.from_file(str(path))
    reference.encode_special_tokens = True
    texts, want_ids = encode_all(reference, make_texts(rng, source))
    size = max([*source["model"]["vocab"].values(), *reference.get_added_tokens_decoder(), 0]) + 1
    ids = make_ids(rng, size) + want_ids
    answer = driver.ask({"dir": folder, "texts": texts, "ids": ids})
    mistakes = []
    if "error" in answer:
        return [f"refused: {answer['error']}"]
    if answer["size"] != size:
        mistakes.append(f"size {answer['size']}, expected {size}")
    for text, got, want in zip(texts, answer["ids"], want_ids):
        if got != want:
            mistakes.append(f"encode {text!r}: {got}, expected {want}")
    for row, got, pieces in zip(ids, answer["texts"], answer["streamed"]):
        want = reference.decode(row, skip_special_tokens=True)
        if got != want:
            mistakes.append(f"decode {row}: {got!r}, expected {want!r}")
        if "".join(pieces) != want:
            mistakes.append(f"stream {row}: {pieces!r}, expected {want!r}")
    return mistakes


def main():
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 150
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}, {rounds} rounds")
    driver = Driver(sys.argv[1])
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            mistakes = check_round(driver, random.Random(f"{seed}/{number}"), folder)
            if mistakes:
                print(f"round {number}: {len(mistakes)} differ; tokenizer.json:")
                print(pathlib.Path(folder, "tokenizer.json").read_text(encoding="utf-8")[-1500:])
                print("\n".join(mistakes[:5]))
                sys.exit(1)
    print(f"{rounds} vocabularies, {rounds * TEXTS_A_ROUND} random texts and as many id lists: equal")


if __name__ == "__main__":
    main()
