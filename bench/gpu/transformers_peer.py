"""Times what PyTorch gives at the active shape: a dense Llama as wide as shared part and one expert together, random bf16 weights.

Two peers: "plain", a Llama in a page of PyTorch (SDPA over a static cache, layers by torch.compile, a step in one CUDA graph), and
"transformers" with its static cache, once in a CUDA graph without compilation and once by torch.compile's reduce-overhead, which
makes graphs of its own. One JSON object a line, each as soon as it is known, so a time limit keeps what came before. The first
line says which versions there are, and why transformers is left out where it is.

usage: transformers_peer.py [--device cuda] [--shape llama2-7b] [--context 590] [--batches 1,32,8,128] [--prefill 4096] [--limit-s 80]
"""
import argparse
import gc
import importlib
import json
import os
import time

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# hidden, intermediate, layers, heads, key heads, vocabulary: as `pregate synth` has them.
SHAPES = {"llama2-7b": (4096, 11008, 32, 32, 32, 32000), "smollm2-135m": (576, 1536, 30, 9, 3, 49152),
          "tiny": (64, 160, 3, 4, 2, 512)}
EPS, THETA = 1e-5, 10000.0
ROOM = 66  # tokens of a sequence beyond its context


def active_width(intermediate, shared, own):
    """Neurons that one token meets; each part is rounded for itself, as in `pregate synth`."""
    return round(shared * intermediate) + round(own * intermediate)


def shape_of(name, shared, own):
    hidden, intermediate, layers, heads, kv_heads, vocabulary = SHAPES[name]
    return {"hidden": hidden, "intermediate": active_width(intermediate, shared, own), "layers": layers, "heads": heads,
            "kv_heads": kv_heads, "head_dim": hidden // heads, "vocabulary": vocabulary}


def step_bytes(shape, batch, context):
    """What a decode step must read: all weights but the embedding's rows, keys and values; bf16."""
    width, kv_width = shape["heads"] * shape["head_dim"], shape["kv_heads"] * shape["head_dim"]
    layer = shape["hidden"] * (2 * width + 2 * kv_width + 3 * shape["intermediate"])
    weights = shape["layers"] * layer + shape["vocabulary"] * shape["hidden"]
    return 2 * (weights + 2 * batch * context * shape["layers"] * kv_width)


def say(**row):
    print(json.dumps(row), flush=True)


def version_of(name):
    """(version or None, why not)."""
    try:
        return importlib.import_module(name).__version__, None
    except Exception as error:  # a broken install raises anything
        return None, f"{type(error).__name__}: {error}"[:200]


class Timer:
    def __init__(self, torch, device):
        self.torch, self.cuda = torch, device == "cuda"

    def wait(self):
        if self.cuda:
            self.torch.cuda.synchronize()

    def ms(self, run, runs, rounds):
        """Median over rounds of the mean of `runs` runs one after the other."""
        means = []
        for _ in range(rounds):
            self.wait()
            start = time.perf_counter()
            for _ in range(runs):
                run()
            self.wait()
            means.append((time.perf_counter() - start) * 1e3 / runs)
        return sorted(means)[rounds // 2]


class Plain:
    """The model in plain PyTorch: RMSNorm, rope on halves, SDPA, SwiGLU."""

    def __init__(self, torch, shape, device, compiled):
        self.torch, self.shape, self.device = torch, shape, device
        hidden, head_dim = shape["hidden"], shape["head_dim"]
        q_width, kv_width = shape["heads"] * head_dim, shape["kv_heads"] * head_dim

        def weight(outputs, inputs):
            return torch.randn(outputs, inputs, device=device, dtype=torch.bfloat16) * inputs**-0.5

        def norm():
            return torch.ones(hidden, device=device, dtype=torch.bfloat16)

        self.embedding = weight(shape["vocabulary"], hidden)
        self.layers = [{"norm": norm(), "qkv": weight(q_width + 2 * kv_width, hidden), "o": weight(hidden, q_width),
                        "ffn_norm": norm(), "gate_up": weight(2 * shape["intermediate"], hidden),
                        "down": weight(hidden, shape["intermediate"])} for _ in range(shape["layers"])]
        self.norm, self.head = norm(), weight(shape["vocabulary"], hidden)
        self.inv_freq = THETA ** (-torch.arange(0, head_dim, 2, device=device, dtype=torch.float32) / head_dim)
        self.layer = torch.compile(self.layer_eager, dynamic=False) if compiled else self.layer_eager

    def rms_norm(self, x, weight):
        wide = x.float()
        return (wide * self.torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + EPS)).to(x.dtype) * weight

    def rotate(self, x, cos, sin):
        first, second = x.float().chunk(2, -1)
        return self.torch.cat((first * cos - second * sin, second * cos + first * sin), -1).to(x.dtype)

    def layer_eager(self, x, w, cos, sin, keys, values, positions, mask):
        """x [batch, tokens, hidden]. With a mask the tokens attend to the whole cache, else causally to each other."""
        linear, heads = self.torch.nn.functional.linear, self.shape["heads"]
        kv_heads, head_dim = self.shape["kv_heads"], self.shape["head_dim"]
        batch, tokens = x.shape[:2]
        q, k, v = linear(self.rms_norm(x, w["norm"]), w["qkv"]).view(batch, tokens, -1, head_dim).split(
            [heads, kv_heads, kv_heads], 2)
        q = self.rotate(q.transpose(1, 2), cos, sin)
        k, v = self.rotate(k.transpose(1, 2), cos, sin), v.transpose(1, 2)
        keys.index_copy_(2, positions, k)
        values.index_copy_(2, positions, v)
        if mask is not None:
            k, v = keys, values
        if kv_heads != heads:
            k, v = (t.repeat_interleave(heads // kv_heads, 1) for t in (k, v))
        out = self.torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        x = x + linear(out.transpose(1, 2).reshape(batch, tokens, -1), w["o"])
        gate, up = linear(self.rms_norm(x, w["ffn_norm"]), w["gate_up"]).chunk(2, -1)
        return x + linear(self.torch.nn.functional.silu(gate) * up, w["down"])

    def cache(self, batch, tokens):
        shape = (batch, self.shape["kv_heads"], tokens, self.shape["head_dim"])
        return [[self.torch.zeros(shape, device=self.device, dtype=self.torch.bfloat16) for _ in "kv"] for _ in self.layers]

    def forward(self, tokens, cache, positions, mask):
        """The next token of each sequence."""
        angles = positions.float()[:, None] * self.inv_freq
        cos, sin = angles.cos(), angles.sin()
        x = self.torch.nn.functional.embedding(tokens, self.embedding)
        for w, (keys, values) in zip(self.layers, cache):
            x = self.layer(x, w, cos, sin, keys, values, positions, mask)
        return self.torch.nn.functional.linear(self.rms_norm(x[:, -1:], self.norm), self.head).argmax(-1)

    def decoder(self, batch, context):
        """A function that makes one step, and one that begins anew at the context's end."""
        torch, room = self.torch, context + ROOM
        cache = self.cache(batch, room)
        tokens = torch.zeros(batch, 1, device=self.device, dtype=torch.int64)
        position = torch.full((1,), context, device=self.device, dtype=torch.int64)
        all_positions = torch.arange(room, device=self.device)

        def step():
            mask = (all_positions <= position).view(1, 1, 1, room)
            tokens.copy_(self.forward(tokens, cache, position, mask))
            position.add_(1)

        return step, lambda: position.fill_(context)

    def prefill(self, length):
        torch = self.torch
        cache, positions = self.cache(1, length), torch.arange(length, device=self.device)
        tokens = torch.randint(self.shape["vocabulary"], (1, length), device=self.device)
        return lambda: self.forward(tokens, cache, positions, None)


class Transformers:
    """LlamaForCausalLM with its static cache."""

    def __init__(self, torch, shape, device, compiled):
        import transformers

        self.torch, self.shape, self.device, self.transformers = torch, shape, device, transformers
        config = transformers.LlamaConfig(
            vocab_size=shape["vocabulary"], hidden_size=shape["hidden"], intermediate_size=shape["intermediate"],
            num_hidden_layers=shape["layers"], num_attention_heads=shape["heads"], num_key_value_heads=shape["kv_heads"],
            max_position_embeddings=4096, rms_norm_eps=EPS, attn_implementation="sdpa")
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)
        try:
            with torch.device(device):
                self.model = transformers.LlamaForCausalLM(config).eval()
        finally:
            torch.set_default_dtype(before)
        if next(self.model.parameters()).dtype != torch.bfloat16:
            raise RuntimeError("the weights are not bf16")
        self.forward = torch.compile(self.next_tokens, mode="reduce-overhead") if compiled else self.next_tokens

    def next_tokens(self, tokens, cache):
        return self.model(tokens, past_key_values=cache, use_cache=True, logits_to_keep=1).logits.argmax(-1)

    def static_cache(self, length):
        return self.transformers.StaticCache(config=self.model.config, max_cache_len=length)

    def decoder(self, batch, context):
        cache = self.static_cache(context + ROOM)
        tokens = self.torch.zeros(batch, 1, device=self.device, dtype=self.torch.int64)
        self.next_tokens(tokens, cache)  # makes the cache's tensors
        lengths = [layer.cumulative_length for layer in cache.layers]

        def begin():
            for length in lengths:
                length.fill_(context)

        return lambda: tokens.copy_(self.forward(tokens, cache)), begin

    def prefill(self, length):
        tokens = self.torch.randint(self.shape["vocabulary"], (1, length), device=self.device)
        return lambda: self.next_tokens(tokens, self.static_cache(length))


def as_graph(torch, step, begin):
    """The step as one CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    begin()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


class Run:
    def __init__(self, torch, options, begin):
        self.torch, self.options = torch, options
        self.timer = Timer(torch, options.device)
        self.deadline = begin + options.limit_s

    def left(self):
        return self.deadline - time.monotonic()

    def row(self, peer, how, measure, **what):
        """One line: what `measure` returns, or why there is nothing. Gives memory back."""
        start = time.monotonic()
        try:
            if self.left() <= 0:
                raise TimeoutError("no time was left")
            with self.torch.no_grad():
                row = measure()
        except Exception as error:
            row = {"error": f"{type(error).__name__}: {error}"[:300]}
        say(peer=peer, how=how, **what, **row, took_s=round(time.monotonic() - start, 1))
        gc.collect()
        if self.options.device == "cuda":
            self.torch.cuda.empty_cache()

    def decode(self, model, batch, graph):
        options = self.options
        step, begin = model.decoder(batch, options.context)
        begin()
        step()
        if graph:
            step = as_graph(self.torch, step, begin)
        for _ in range(3):
            step()

        def run():
            begin()
            for _ in range(options.steps):
                step()

        ms = self.timer.ms(run, 1, 3) / options.steps
        return {"step_ms_median": round(ms, 4), "tokens_per_s": round(batch * 1e3 / ms, 1),
                "step_gb": round(step_bytes(model.shape, batch, options.context) / 1e9, 3)}

    def prefill(self, model):
        prefill = model.prefill(self.options.prefill)
        for _ in range(2):
            prefill()
        ms = self.timer.ms(prefill, 1, 5)
        return {"ms_median": round(ms, 3), "tokens_per_s": round(self.options.prefill * 1e3 / ms, 1)}

    def peer(self, name, how, make, graph, prefills):
        """One model: its decode steps and its prefill."""
        options, model = self.options, None
        try:
            model = make()
        except Exception as error:
            return say(peer=name, how=how, error=f"{type(error).__name__}: {error}"[:300])
        for batch in options.batches:
            self.row(name, how, lambda: self.decode(model, batch, graph), batch=batch, context=options.context)
        if prefills:
            self.row(name, how, lambda: self.prefill(model), prefill=options.prefill)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--shape", choices=SHAPES, default="llama2-7b")
    parser.add_argument("--shared", type=float, default=0.25, help="of the FFN's width")
    parser.add_argument("--own", type=float, default=0.25, help="of the FFN's width")
    parser.add_argument("--context", type=int, default=590)
    parser.add_argument("--batches", type=lambda text: [int(n) for n in text.split(",")], default=[1, 32, 8, 128])
    parser.add_argument("--prefill", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=40, choices=range(1, ROOM - 4))
    parser.add_argument("--limit-s", type=float, default=80, help="no measurement begins later")
    parser.add_argument("--peers", default="plain,transformers")
    parser.add_argument("--compile", choices=("on", "off"), default="on")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def main():
    options = arguments()
    begin = time.monotonic()
    torch_version, why_not = version_of("torch")
    if torch_version is None:
        say(torch=None, why_not=why_not)
        return
    import torch

    transformers_version, why_not = version_of("transformers") if "transformers" in options.peers else (None, "not asked for")
    torch.manual_seed(options.seed)
    shape = shape_of(options.shape, options.shared, options.own)
    cuda, compiled = options.device == "cuda", options.compile == "on"
    say(card=torch.cuda.get_device_name() if cuda else "cpu", torch=torch_version, transformers=transformers_version,
        transformers_why_not=why_not, dtype="bf16", seed=options.seed, import_s=round(time.monotonic() - begin, 1), shape=shape)
    run = Run(torch, options, begin)
    graph_words = ", a step in one CUDA graph" if cuda else ""
    if "plain" in options.peers:
        run.peer("plain", ("layers by torch.compile" if compiled else "not compiled") + graph_words,
                 lambda: Plain(torch, shape, options.device, compiled), cuda, True)
    if transformers_version is None:
        return
    run.peer("transformers", "static cache, not compiled" + graph_words,
             lambda: Transformers(torch, shape, options.device, False), cuda, True)
    if compiled:
        run.peer("transformers", "static cache, torch.compile reduce-overhead",
                 lambda: Transformers(torch, shape, options.device, True), False, False)


if __name__ == "__main__":
    main()
