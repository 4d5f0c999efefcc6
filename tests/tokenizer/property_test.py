"""Random tokenizers, read by ours and by the `tokenizers` package: equal ids, texts and pieces.

Usage: property_test.py TOKENIZER_DRIVER [ROUNDS [SEED]]. Each round makes a tokenizer.json: byte-level BPE, BPE of
characters as SentencePiece's are converted to, or a unigram model, with random chains of normalizers and
pre-tokenizers, those of published models among them; a vocabulary with holes, unused words and words outside the
alphabet, merges, repeated ones among them, and added tokens of every kind, some of them words of the vocabulary, some
listed twice. The package reads it with encode_special_tokens on: text never becomes a special token. Runs in the
interpreter of `scripts/tools.sh tokenizers`.
"""
import base64
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

os.environ["RUST_BACKTRACE"] = "0"  # the package's own panics are looked for, and are many
from tokenizers import Tokenizer

from published import PRE_TOKENIZERS, byte_level, metaspace, sequence, split

TEXTS_A_ROUND = 20
SPACE = "\u2581"


def alphabet():
    keep = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in keep]
    return {**{b: chr(b) for b in keep}, **{b: chr(0x100 + i) for i, b in enumerate(rest)}}


ALPHABET = alphabet()
# What texts and words are made of: few letters, so that merges happen; what pre-tokenizers and strippers look at.
ATOMS = ["a", "b", "c", "A", "1", "2", "é", "中", "😀", "e\u0301", "\u200d", "👩\u200d💻", " ", " ", "  ", "\n", "\r\n",
         "\t", "\u00a0", "\u3000", "_", "-", ".", "<", ">", "'s", "'ll", "\ufffd", "\u0000", "ß", "न\u093f"]
# For pre-tokenizers and normalizers: cases, forms, marks, signs, ends of lines, characters that are few.
RARE_ATOMS = ["'S", "'\u017f", "'VE", "Ab", "aB", "ABC", "DŽ", "\u01c5", "İ", "K", "ﬁ", "½", "Ⅷ", "①", "한", "각", "か\u3099",
              "カ", "一二", "é́", "\u00c5", "\u212b", "\u0345", "\u180e", "\u2028", "\u0085", "\u000b", "/", "//", "$", "€",
              "!?", "。", "（", "#a", "\u00ad", "🇩🇪", "👍🏽", "1234567", "٣", SPACE, SPACE + SPACE, "\u1e9e", "Σ", "\u0130"]


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


def pattern(rng, may_be_empty=True):
    regexes = [r"\s+", r"[0-9]", " {2,}", r"\p{Lu}", "a|b", r"\bA", r"\w+", r"\s+$", r"a++b?"]
    regexes += [r"(?=1)", "x*", "$"] if may_be_empty else []
    return rng.choice([{"String": rng.choice(["a", " ", "  ", "1", SPACE, "\n", "b-"])}, {"Regex": rng.choice(regexes)}])


def random_split(rng):
    behaviors = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
    return {"type": "Split", "pattern": pattern(rng), "behavior": rng.choice(behaviors), "invert": rng.random() < 0.3}


def random_step(rng):
    behaviors = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
    return rng.choice([lambda: {"type": "Digits", "individual_digits": rng.random() < 0.5},
                       lambda: {"type": "Punctuation", "behavior": rng.choice(behaviors)},
                       lambda: {"type": rng.choice(["Whitespace", "WhitespaceSplit"])},
                       lambda: random_split(rng), lambda: random_split(rng)])()


def charsmap(rules):
    """SentencePiece's compiled rules: a double-array trie, each node of which has 256 places of its own."""
    units, normal = [0] * 256, b"".join(text.encode() + b"\0" for text in rules.values())
    starts, nodes = {}, {b"": (0, 256)}  # of a node: its unit, and where its children's are
    for source, text in rules.items():
        starts[source.encode()] = normal.index(text.encode() + b"\0")
        for end in range(1, len(source.encode()) + 1):
            prefix = source.encode()[:end]
            if prefix not in nodes:
                nodes[prefix] = (nodes[prefix[:-1]][1] ^ prefix[-1], 256 * (len(nodes) + 1))
    units += [0] * 256 * len(nodes)
    for prefix, (place, children) in nodes.items():
        leaf = prefix in starts
        units[place] = (place ^ children) << 10 | leaf << 8 | (prefix[-1] if prefix else 0)
        if leaf:
            units[children] = 1 << 31 | starts[prefix]
    trie = b"".join(unit.to_bytes(4, "little") for unit in units)
    return len(trie).to_bytes(4, "little") + trie + normal


def precompiled(rng):
    sources = rng.sample(["a", "é", "e\u0301", "ﬁ", "½", "\u3000", "\t", "ab", "中", "न", "\u200d", "한"], 5)
    rules = {source: rng.choice(["", " ", "a", "bc", "é"]) for source in sources}
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap(rules)).decode()}


def random_normalizer(rng):
    steps = [{"type": t} for t in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents")]
    steps += [{"type": "Strip", "strip_left": True, "strip_right": rng.random() < 0.5},
              {"type": "Prepend", "prepend": rng.choice([SPACE, "a", " "])},
              {"type": "Replace", "pattern": pattern(rng, False), "content": rng.choice(["", "b", SPACE, "1 "])},
              precompiled(rng)]
    chain = rng.sample(steps, rng.choice([1, 1, 2]))
    if sum(s["type"].startswith("NFK") or s["type"].startswith("NF") for s in chain) > 1:
        chain = chain[:1]  # our limit on growth
    return chain[0] if len(chain) == 1 else {"type": "Sequence", "normalizers": chain}


def make_byte_level(rng):
    """Published pre-tokenizers, and random chains."""
    model = make_model(rng)
    chain = rng.choice(list(PRE_TOKENIZERS.values()))
    if rng.random() < 0.3:
        steps = [random_step(rng) for _ in range(rng.randint(0, 2))]
        last = {**byte_level(rng.random() < 0.5), "add_prefix_space": rng.random() < 0.5}
        chain = sequence(*steps, last)
    if rng.random() < 0.1:
        model["byte_fallback"] = True
    return model, random_normalizer(rng) if rng.random() < 0.3 else None, chain, byte_level(True)


def make_character_bpe(rng):
    """What SentencePiece's BPE is converted to."""
    chars = [SPACE, "a", "b", "c", "A", "1", "2", "é", "中", "-", "."]
    chars = [c for c in chars if rng.random() < 0.95]
    tokens = ["<unk>", "<s>"] + chars
    base, merges = chars[:], []
    for _ in range(rng.randint(0, 50)):
        left, right = rng.choice(base), rng.choice(base)
        crosses = SPACE in right.lstrip(SPACE) or SPACE in left.lstrip(SPACE) or (left.strip(SPACE) and SPACE in right)
        if len(left + right) > 6 or (crosses and rng.random() < 0.8):
            continue
        merges.append([left, right])
        if left + right not in tokens:
            tokens.append(left + right)
            base.append(left + right)
    bytes_lost = rng.choice([0, 0, 0, 0.1, 1])
    tokens += [t for t in (f"<0x{b:02X}>" for b in range(256)) if rng.random() >= bytes_lost]
    rng.shuffle(tokens)
    model = {"type": "BPE", "dropout": None, "unk_token": rng.choice(["<unk>", "<unk>", None]),
             "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": rng.random() < 0.5,
             "byte_fallback": rng.random() < 0.8, "ignore_merges": rng.random() < 0.2,
             "vocab": {t: i for i, t in enumerate(tokens)}, "merges": merges}
    return (model, *spaced_parts(rng))


def make_unigram(rng):
    chars = [SPACE, "a", "b", "c", "A", "1", "é", "中", "-"]
    texts = {"<unk>": 0.0}
    for c in chars:
        if rng.random() < 0.9:
            texts[c] = -rng.random() * 9
    for _ in range(rng.randint(0, 60)):
        texts["".join(rng.choice(chars + ATOMS[:10]) for _ in range(rng.randint(2, 4)))] = -float(rng.randint(1, 12))
    for b in range(256):
        if rng.random() < 0.98:
            texts[f"<0x{b:02X}>"] = -20.0
    vocab = [[t, s] for t, s in texts.items()]
    if rng.random() < 0.5:
        rng.shuffle(vocab)
    unknown = next(i for i, (t, _) in enumerate(vocab) if t == "<unk>")
    model = {"type": "Unigram", "unk_id": unknown, "vocab": vocab, "byte_fallback": rng.random() < 0.5}
    return (model, *spaced_parts(rng))


def spaced_parts(rng):
    """Normalizer, pre-tokenizer and decoder of models in which U+2581 stands for spaces."""
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    to_space = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    fallback, fuse, strip = {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    scheme, whole = rng.choice(["first", "always", "never"]), rng.random() < 0.5
    decoder = rng.choice([[to_space, fallback, fuse, strip], [to_space, fallback, fuse], [fallback, fuse],
                          [metaspace(scheme, whole)], [{"type": "Strip", "content": "a", "start": 1, "stop": 1}, to_space]])
    decoder = {"type": "Sequence", "decoders": decoder} if len(decoder) > 1 or rng.random() < 0.5 else decoder[0]
    kind = rng.randrange(5)
    if kind == 0:  # Llama-2, Phi-3, TinyLlama
        return {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE}, replace]}, None, decoder
    if kind == 1:  # Gemma
        return replace, {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}, decoder
    if kind == 2:  # Mistral
        return None, metaspace(scheme, whole), decoder
    if kind == 3:  # T5 and others
        return random_normalizer(rng), sequence({"type": "WhitespaceSplit"}, metaspace("always", True)), decoder
    return random_normalizer(rng), random_step(rng) if rng.random() < 0.7 else None, decoder


def vocab_of(model):
    return model["vocab"] if isinstance(model["vocab"], dict) else {t: i for i, (t, _) in enumerate(model["vocab"])}


def make_tokenizer(rng):
    kind = rng.choice([make_byte_level, make_byte_level, make_character_bpe, make_character_bpe, make_unigram])
    model, normalizer, pre_tokenizer, decoder = kind(rng)
    added = make_added(rng, vocab_of(model))
    # The package mixes up the entries of a token that is listed twice, and takes a special one whose normal form is
    # another text for none that is special.
    plain = {token["content"] for token in added if normalizer and (token["special"] or not token["normalized"])}
    for token in added:
        token["normalized"] &= token["content"] not in plain
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
            "normalizer": normalizer, "pre_tokenizer": pre_tokenizer,
            "post_processor": rng.choice([None, byte_level(True)]), "decoder": decoder, "model": model}


def make_texts(rng, tokenizer):
    spelled = [t["content"] for t in tokenizer["added_tokens"]]
    parts = ATOMS + spelled * 3 + rng.sample(RARE_ATOMS, 12)
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


def answers_of(function, questions):
    """The questions that the package can answer, and its answers: where tokens strip each other's spaces it may panic."""
    pairs = []
    for question in questions:
        try:
            pairs.append((question, function(question)))
        except BaseException as error:
            if type(error).__name__ != "PanicException":
                raise
    return [question for question, _ in pairs], [answer for _, answer in pairs]


def check_round(driver, rng, folder):
    source = make_tokenizer(rng)
    path = pathlib.Path(folder, "tokenizer.json")
    path.write_text(json.dumps(source, ensure_ascii=rng.random() < 0.5), encoding="utf-8")
    reference = Tokenizer.from_file(str(path))
    reference.encode_special_tokens = True
    normal = lambda token: reference.normalizer.normalize_str(token["content"])
    if reference.normalizer and any(t["normalized"] and not normal(t) for t in source["added_tokens"]):
        # The package finds such a token between any two characters, and may not come to an end.
        answer = driver.ask({"dir": folder, "texts": [], "ids": []})
        return [] if "is empty once it is normalized" in answer.get("error", "") else [f"not refused: {answer}"]
    normals = {normal(t): t["content"] for t in source["added_tokens"] if t["normalized"]} if reference.normalizer else {}
    if len(normals) < len(set(t["content"] for t in source["added_tokens"] if t["normalized"])) and reference.normalizer:
        return []  # of two with one normal form the package takes now one, now the other
    special_texts = {t["content"] for t in source["added_tokens"] if t["special"]}
    if reference.normalizer and any(t["normalized"] and normal(t) in special_texts for t in source["added_tokens"]):
        return []  # the package takes such a token for the special one
    encode = lambda text: reference.encode(text, add_special_tokens=False).ids
    texts, want_ids = answers_of(encode, make_texts(rng, source))
    for _ in range(3):  # some files the package reads now one way, now another: its maps have no order
        again = Tokenizer.from_file(str(path))
        again.encode_special_tokens = True
        if [again.encode(text, add_special_tokens=False).ids for text in texts] != want_ids:
            return []
    size = max([*vocab_of(source["model"]).values(), *reference.get_added_tokens_decoder(), 0]) + 1
    ids, want_texts = answers_of(reference.decode, make_ids(rng, size) + want_ids)
    answer = driver.ask({"dir": folder, "texts": texts, "ids": ids})
    mistakes = []
    if "error" in answer:
        return [f"refused: {answer['error']}"]
    if answer["size"] != size:
        mistakes.append(f"size {answer['size']}, expected {size}")
    special = {reference.token_to_id(token["content"]) for token in source["added_tokens"] if token["special"]}
    for text, got, want in zip(texts, answer["ids"], want_ids):
        # The package's unigram models give special tokens to texts that spell them; ours never does.
        if source["model"]["type"] == "Unigram" and special & set(want):
            continue
        if got != want:
            mistakes.append(f"encode {text!r}: {got}, expected {want}")
    for row, got, pieces, want in zip(ids, answer["texts"], answer["streamed"], want_texts):
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
                print(f"round {number}: {len(mistakes)} differ; tokenizer.json, its model cut:")
                source = json.loads(pathlib.Path(folder, "tokenizer.json").read_text(encoding="utf-8"))
                print({key: value for key, value in source.items() if key != "model"}, str(source["model"])[-600:])
                print("\n".join(mistakes[:5]))
                sys.exit(1)
    print(f"{rounds} tokenizers, {rounds * TEXTS_A_ROUND} random texts and as many id lists: equal")


if __name__ == "__main__":
    main()
