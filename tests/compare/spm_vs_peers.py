"""Token ids of a SentencePiece model by `pregate tokenize` against three peers': the sentencepiece package,
transformers and llama.cpp.

Trains a model as Llama-2's was trained, and puts it into a GGUF file around tiny random weights. `pregate import`
makes a directory of that; pregate and transformers read the tokenizer.model in it, pregate and llama.cpp the GGUF
file. Texts are the shared domains, whole, and random slices of their bytes. Needs the Python packages sentencepiece,
protobuf, transformers, llama-cpp-python and gguf.
"""
import argparse
import pathlib
import random
import tempfile

import gguf
import llama_cpp
import numpy
import sentencepiece
import transformers

from pregate_cli import Report, run, run_json, shared_dir

HIDDEN, FFN, HEADS = 32, 32, 2


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pregate", required=True, help="the pregate program")
    parser.add_argument("--vocab-size", type=int, default=8000)
    parser.add_argument("--slices", type=int, default=40)
    parser.add_argument("--slice-bytes-max", type=int, default=1 << 15)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    return parser.parse_args()


def train(paths, scratch, vocab_size):
    """A processor of a model trained on the files."""
    sentencepiece.SentencePieceTrainer.train(
        input=",".join(map(str, paths)), model_prefix=str(scratch / "trained"), vocab_size=vocab_size,
        model_type="bpe", byte_fallback=True, split_digits=True, allow_whitespace_only_pieces=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, max_sentence_length=1 << 20,
        minloglevel=2)
    return sentencepiece.SentencePieceProcessor(model_file=str(scratch / "trained.model"))


def piece_type(spm, i):
    kinds = [(spm.is_unknown, 2), (spm.is_control, 3), (spm.is_unused, 5), (spm.is_byte, 6)]
    return next((number for is_kind, number in kinds if is_kind(i)), 1)


def write_gguf(path, spm):
    """The vocabulary as llama.cpp's converter writes it, and weights of one tiny layer."""
    ids = range(spm.get_piece_size())
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(2048)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([spm.id_to_piece(i) for i in ids])
    writer.add_token_scores([spm.get_score(i) for i in ids])
    writer.add_token_types([piece_type(spm, i) for i in ids])
    writer.add_bos_token_id(spm.bos_id())
    writer.add_eos_token_id(spm.eos_id())
    rng = numpy.random.default_rng(0)
    shapes = {"token_embd": (len(ids), HIDDEN), "output": (len(ids), HIDDEN), "output_norm": (HIDDEN,),
              "blk.0.attn_norm": (HIDDEN,), "blk.0.ffn_norm": (HIDDEN,), "blk.0.ffn_gate": (FFN, HIDDEN),
              "blk.0.ffn_up": (FFN, HIDDEN), "blk.0.ffn_down": (HIDDEN, FFN)}
    shapes |= {f"blk.0.attn_{name}": (HIDDEN, HIDDEN) for name in ("q", "k", "v", "output")}
    for name, shape in shapes.items():
        writer.add_tensor(name + ".weight", rng.normal(size=shape).astype(numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def random_slice(rng, texts, bytes_max):
    text = rng.choice(texts)
    begin = rng.randrange(len(text))
    return text[begin:begin + int(bytes_max ** rng.random()) + 1].decode(errors="ignore").encode()


def difference(ours, theirs):
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    return f"{len(ours)} and {len(theirs)} ids part at {at}: {ours[at:at + 5]} and {theirs[at:at + 5]}"


def main():
    args = parse_args()
    print("seed", args.seed)
    rng = random.Random(args.seed)
    paths = sorted((shared_dir() / "data" / "domains").glob("*.txt"))
    texts = [path.read_bytes() for path in paths]
    report = Report()
    with tempfile.TemporaryDirectory() as name:
        scratch = pathlib.Path(name)
        spm = train(paths, scratch, args.vocab_size)
        model, imported, file = scratch / "model.gguf", scratch / "imported", scratch / "text"
        write_gguf(model, spm)
        run(args.pregate, "import", "--from", "gguf", "--in", model, "--out", imported)
        llama = llama_cpp.Llama(str(model), vocab_only=True, verbose=False)
        hf = transformers.LlamaTokenizer.from_pretrained(imported)
        again = sentencepiece.SentencePieceProcessor(model_file=str(imported / "tokenizer.model"))

        def compare(name, text):
            file.write_bytes(text)
            ours = [run_json(args.pregate, "tokenize", "--model", path, "--text-file", file)["ids"]
                    for path in (model, imported)]
            readable = text.decode(errors="replace")
            stray = "\ufffd" in readable  # llama.cpp and Python read bytes that are not UTF-8 in ways of their own
            peers = {"pregate on the imported directory": ours[1],
                     "sentencepiece": spm.encode(text),
                     "sentencepiece on the imported model": again.encode(text)}
            if not stray:
                peers["llama.cpp"] = llama.tokenize(text, add_bos=False, special=False)
                # Before a text that begins with a space transformers 5 puts no dummy prefix; the others do.
                if not readable.startswith(" "):
                    peers["transformers"] = hf.encode(readable, add_special_tokens=False, split_special_tokens=True)
            for peer, ids in peers.items():
                same = ours[0] == list(ids)
                report.check(same, f"{name}, {peer}: " +
                             (f"{len(ids)} ids" if same else difference(ours[0], list(ids))))

        for path, text in zip(paths, texts):
            compare(path.name, text)
        for i in range(args.slices):
            piece = random_slice(rng, texts, args.slice_bytes_max)
            compare(f"slice {i} of {len(piece)} bytes", piece)
    report.exit()


if __name__ == "__main__":
    main()
