"""GGUF files of random blocks, read by ours and by the `gguf` package: equal values, bit for bit.

Usage: values_test.py GGUF_DRIVER [ROUNDS [SEED]]. Each round writes one file with a tensor of every type that is read,
and the same split into parts, by the package's writer. Blocks are random bytes, with scales that are finite, that may
be anything, or of weights that the package has quantised where it can. Runs in the interpreter of
`scripts/tools.sh gguf`.
"""
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize, quantize

# Where the scales of a block are: f16 unless said otherwise.
SCALES = {"F32": [], "F16": [], "BF16": [], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
          "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "Q8_K": [2], "IQ4_NL": [0],
          "IQ4_XS": [0], "MXFP4": []}
READ = [Type[name] for name in SCALES]


def reference(data, kind):
    if kind != Type.Q8_K:
        return dequantize(data, kind)
    blocks = data.reshape(-1, 292)  # the package has none: a float and 256 signed bytes, then sums
    scale, values = blocks[:, :4].copy().view(np.float32), blocks[:, 4:260].copy().view(np.int8)
    return (scale * values.astype(np.float32)).reshape(data.shape[0], -1)


def make_finite(blocks, kind, rng):
    """Scales of every magnitude but infinities and NaN: an exponent of all ones loses a bit."""
    ones, lost = (0x7F80, 0x0080) if kind == Type.Q8_K else (0x7C00, 0x0400)
    for at in SCALES[kind.name]:
        bits = blocks[:, at:at + 2].copy().view(np.uint16)
        bits[(bits & ones) == ones] ^= rng.choice([lost, ones & 0x4000])
        blocks[:, at:at + 2] = bits.view(np.uint8)


def make_data(kind, rng, numbers):
    elements, size = GGML_QUANT_SIZES[kind]
    rows, width = rng.randint(1, 40), rng.randint(1, 4)
    width *= 32 if elements == 1 else rng.choice([1, 3]) if elements == 32 else 1
    way = rng.choice(["finite", "finite", "anything", "weights"])
    if way == "weights":
        weights = (numbers.standard_normal((rows, width * elements)) * rng.choice([0.02, 1])).astype(np.float32)
        try:
            return quantize(weights, kind).view(np.uint8)
        except NotImplementedError:
            way = "finite"
    blocks = numbers.integers(0, 256, (rows * width, size), dtype=np.uint8)
    if way == "finite":
        make_finite(blocks, kind, rng)
    return blocks.reshape(rows, width * size)


def write(path, tensors, **split):
    writer = gguf.GGUFWriter(path, "llama", **split)
    for name, (data, kind) in tensors.items():
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Driver:
    def __init__(self, program, folder):
        self.out = folder / "values"
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, path, **selection):
        self.process.stdin.write(json.dumps({"path": str(path), "out": str(self.out), **selection}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def read(self, path, **selection):
        answer = self.ask(path, **selection)
        if "error" in answer:
            raise SystemExit(f"refused: {answer['error']}")
        values, at, tensors = np.fromfile(self.out, dtype=np.float32), 0, {}
        for tensor in answer["tensors"]:
            size = int(np.prod(tensor["shape"]))
            tensors[tensor["name"]] = tensor["type"], values[at:at + size].reshape(tensor["shape"])
            at += size
        return tensors

    def refusal(self, path):
        return self.ask(path).get("error", "accepted")


def same(got, want):
    both_nan = np.isnan(got) & np.isnan(want)
    return got.shape == want.shape and bool(np.all((got.view(np.uint32) == want.view(np.uint32)) | both_nan))


def compare(got, tensors, select, where):
    if sorted(got) != sorted(tensors):
        raise SystemExit(f"{where}: tensors {sorted(got)}, expected {sorted(tensors)}")
    for name, (data, kind) in tensors.items():
        want = select(reference(data, kind).astype(np.float32, copy=False))
        kind_read, values = got[name]
        if kind_read != kind.name or not same(values, np.ascontiguousarray(want)):
            raise SystemExit(f"{where}: {name} of {kind.name}, read as {kind_read}: values differ")


def expect(text, *parts):
    for part in parts:
        if part not in text:
            raise SystemExit(f"message {text!r} lacks {part!r}")


def check_values(driver, folder, rng, numbers):
    tensors = {f"{kind.name}.weight": (make_data(kind, rng, numbers), kind) for kind in READ}
    path = folder / "whole.gguf"
    write(path, tensors)
    compare(driver.read(path), tensors, lambda values: values, "whole")
    rows_max = min(data.shape[0] for data, _ in tensors.values())
    rows = [rng.randrange(rows_max) for _ in range(rng.randint(1, 9))]
    cols = [rng.randrange(32) for _ in range(rng.randint(1, 9))]  # every tensor has 32
    compare(driver.read(path, rows=rows), tensors, lambda values: values[rows], f"rows {rows}")
    compare(driver.read(path, cols=cols), tensors, lambda values: values[:, cols], f"columns {cols}")
    compare(driver.read(path, rows=rows, cols=cols), tensors, lambda values: values[rows][:, cols], f"{rows} x {cols}")
    check_split(driver, folder, rng, tensors)


def check_split(driver, folder, rng, tensors):
    for old in folder.glob("model-*.gguf"):
        old.unlink()
    write(folder / "model.gguf", tensors, split_max_tensors=rng.randint(1, len(tensors) - 1),
          small_first_shard=rng.random() < 0.5)
    parts = sorted(folder.glob("model-*.gguf"))
    compare(driver.read(parts[0]), tensors, lambda values: values, f"{len(parts)} parts")
    expect(driver.refusal(rng.choice(parts[1:])), "give the first", parts[0].name)
    lost = rng.choice(parts[1:])
    lost.unlink()
    expect(driver.refusal(parts[0]), lost.name, "not there")


def check_other_types(driver, folder):
    for kind in Type:
        if kind in READ:
            continue
        path = folder / "other.gguf"
        elements, size = GGML_QUANT_SIZES[kind]
        write(path, {"w": (np.zeros((2, 256 // elements * size), dtype=np.uint8), kind)})
        expect(driver.refusal(path), str(path), "tensor w", f"type {kind.name} is not supported", "Q4_K")


def main():
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 25
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}, {rounds} rounds")
    np.seterr(all="ignore")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        driver = Driver(sys.argv[1], folder)
        check_other_types(driver, folder)
        for number in range(rounds):
            rng = random.Random(f"{seed}/{number}")
            check_values(driver, folder, rng, np.random.default_rng(rng.randrange(1 << 32)))
    print(f"{len(READ)} types, each whole, selected and split, {rounds} times: equal")


if __name__ == "__main__":
    main()
