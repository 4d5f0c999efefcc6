"""The pre-tokenizers of published models, as their tokenizer.json files have them."""

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
SIGN, TAIL = r"[^\r\n\p{L}\p{N}]?", r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
TEKKEN = rf"{SIGN}{UPPER}*{LOWER}+|{SIGN}{UPPER}+{LOWER}*|\p{{N}}{TAIL}"
GPT4O = rf"{SIGN}{UPPER}*{LOWER}+{ENDING}|{SIGN}{UPPER}+{LOWER}*{ENDING}|\p{{N}}{{1,3}}{TAIL}"
DEEPSEEK_V3 = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
               r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+").replace('\\"', '"')
HAN = "[一-龥ࠀ-一가-퟿]+"


def byte_level(regex):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": regex}


def split(regex, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": invert}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


def metaspace(scheme, whole):
    return {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": not whole}


DIGITS = {"type": "Digits", "individual_digits": True}

PRE_TOKENIZERS = {
    "gpt2": byte_level(True),
    "smollm": sequence(DIGITS, byte_level(True)),
    "llama3": sequence(split(LLAMA3), byte_level(False)),
    "qwen2": sequence(split(QWEN2), byte_level(False)),
    "tekken": sequence(split(TEKKEN), byte_level(False)),
    "gpt-4o": sequence(split(GPT4O, "Removed", True), byte_level(False)),
    "phi-4-mini": sequence(split(GPT4O), byte_level(False)),
    "deepseek-v3": sequence(split(r"\p{N}{1,3}"), split("[一-龥぀-ゟ゠-ヿ]+"), split(DEEPSEEK_V3), byte_level(False)),
    "deepseek-coder": sequence(split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split(HAN), DIGITS,
                               byte_level(False)),
    "deepseek-llm": sequence(split("[\r\n]"), split(r"\s?[A-Za-zµÀ-ÖØ-öø-ƺ]+"), split("\\s?[!-/:-~！-／：-～‘-‟　-。]+"),
                             split(r"\s+$"), split(HAN), split(r"\p{N}+"), byte_level(False)),
    "llama.cpp's default": sequence(split(r"[\p{P}\$\+<=>\^~\|]+"), split(GPT2), split(r"\p{N}+"),
                                    split("[0-9][0-9][0-9]"), byte_level(False)),
}
