"""Checkpoints in the authors' layout, of shapes that no golden case has, against a plain reference in PyTorch.

Writes random models (fused and split, several expert counts, tied embeddings, router depths, RoPE bases, odd sizes),
computes dense, router and MoE logits from the equations of Llama and of the paper's router, and compares with `pregate logits`
on the files directly and after `pregate import`. Needs torch and safetensors.
usage: authors_layout.py --pregate build/release/bin/pregate [--seed S]
"""
import json
import math
import pathlib
import tempfile

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from pregate_cli import Report, parse_seeded_args, run, write_json

# name, hidden, heads, kv heads, layers, vocabulary, FFN width, experts, shared, own, fused, tied, rope_theta,
# router: layers, width, heads, activation, normalizer
CASES = [
    ("fused, 7 experts, multi-head", 64, 4, 4, 2, 512, 160, 7, 40, 24, True, False, 1e4, 1, 32, 4, "silu", 1.0),
    ("tied, two router layers, RoPE base 5e5", 64, 8, 2, 3, 300, 160, 4, 32, 48, False, True, 5e5, 2, 32, 2, "silu", 4.0),
    ("odd sizes", 60, 5, 1, 3, 389, 157, 3, 23, 17, False, False, 1e4, 1, 12, 3, "relu", 2.0),
    ("odd sizes, fused", 36, 3, 3, 2, 97, 51, 5, 7, 9, True, True, 2e4, 3, 20, 2, "relu", 1.5),
    ("nothing shared", 48, 3, 1, 2, 131, 80, 4, 0, 20, False, False, 1e4, 1, 16, 1, "silu", 1.0),
    ("one expert", 32, 2, 2, 1, 64, 40, 1, 8, 8, False, False, 1e4, 2, 8, 2, "silu", 1.0),
]
NAMES = ("hidden heads kv_heads layers vocab width experts shared own fused tied theta "
         "router_layers router_hidden router_heads activation normalizer").split()
LENGTHS = [1, 2, 17, 150]


def rms_norm(x, weight, eps):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def rope(x, theta):
    """x [heads, tokens, head_dim]; halves rotated against each other."""
    half = x.shape[-1] // 2
    angles = torch.outer(torch.arange(x.shape[1]).float(), theta ** (-torch.arange(half).float() / half))
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], -1)


def attention(x, linear, heads, kv_heads, theta, scale):
    """Causal; `linear(name, x)` projects."""
    tokens = x.shape[0]
    split = lambda name, n: linear(name, x).view(tokens, n, -1).transpose(0, 1)
    q, k, v = rope(split("q_proj", heads), theta), rope(split("k_proj", kv_heads), theta), split("v_proj", kv_heads)
    k, v = (t.repeat_interleave(heads // kv_heads, 0) for t in (k, v))
    scores = q @ k.transpose(1, 2) / scale + torch.full((tokens, tokens), -math.inf).triu(1)
    return linear("o_proj", (scores.softmax(-1) @ v).transpose(0, 1).reshape(tokens, -1))


def router_logits(c, t, ids):
    p = "cluster_predictor."
    act = getattr(F, c["activation"])
    x = t[p + "embed.weight"][ids]
    for i in range(c["router_layers"]):
        linear = lambda name, y: F.linear(y, t[f"{p}{name}_{i}.weight"], t[f"{p}{name}_{i}.bias"])
        h = rms_norm(x, t[f"{p}input_layernorm_{i}.weight"], 1e-6)
        x = x + attention(h, linear, c["router_heads"], c["router_heads"], c["theta"], c["normalizer"])
        h = rms_norm(x, t[f"{p}post_attention_layernorm_{i}.weight"], 1e-6)
        x = x + linear("proj_2", act(linear("proj_1", h)))
    x = rms_norm(x, t[p + "out_layernorm.weight"], 1e-6)
    return F.linear(x, t[p + "proj_out.weight"], t[p + "proj_out.bias"])


def logits(c, t, ids, mlp):
    """`mlp(layer, x)` is the dense FFN or the experts'."""
    x = t["model.embed_tokens.weight"][ids]
    for i in range(c["layers"]):
        p = f"model.layers.{i}."
        linear = lambda name, y: F.linear(y, t[f"{p}self_attn.{name}.weight"])
        h = rms_norm(x, t[p + "input_layernorm.weight"], 1e-5)
        x = x + attention(h, linear, c["heads"], c["kv_heads"], c["theta"], math.sqrt(c["hidden"] // c["heads"]))
        x = x + mlp(i, rms_norm(x, t[p + "post_attention_layernorm.weight"], 1e-5))
    head = t["model.embed_tokens.weight" if c["tied"] else "lm_head.weight"]
    return F.linear(rms_norm(x, t["model.norm.weight"], 1e-5), head)


def make_weights(c, generator):
    randn = lambda *shape: torch.randn(*shape, generator=generator) / math.sqrt(shape[-1])
    norm = lambda d: 1 + 0.1 * torch.randn(d, generator=generator)
    h, d = c["hidden"], c["hidden"] // c["heads"]
    t = {"model.embed_tokens.weight": randn(c["vocab"], h) * 3, "model.norm.weight": norm(h)}
    if not c["tied"]:
        t["lm_head.weight"] = randn(c["vocab"], h)
    neurons = []  # by layer: shared, then each expert's own; ascending
    for i in range(c["layers"]):
        p = f"model.layers.{i}."
        for name, rows in (("q", c["heads"] * d), ("k", c["kv_heads"] * d), ("v", c["kv_heads"] * d), ("o", h)):
            t[f"{p}self_attn.{name}_proj.weight"] = randn(rows, c["heads"] * d if name == "o" else h)
        for name in ("input_layernorm", "post_attention_layernorm"):
            t[f"{p}{name}.weight"] = norm(h)
        for name in ("gate", "up"):
            t[f"{p}mlp.{name}_proj.weight"] = randn(c["width"], h)
        t[p + "mlp.down_proj.weight"] = randn(h, c["width"])
        order = torch.randperm(c["width"], generator=generator)
        shared, rest = order[:c["shared"]], order[c["shared"]:]
        own = [rest[torch.randperm(len(rest), generator=generator)[:c["own"]]].sort().values for _ in range(c["experts"])]
        neurons.append((shared.sort().values, own))
    p, w = "cluster_predictor.", c["router_hidden"]
    t[p + "embed.weight"] = randn(c["vocab"], w) * 3
    t[p + "out_layernorm.weight"] = norm(w)
    t[p + "proj_out.weight"], t[p + "proj_out.bias"] = randn(c["experts"], w), randn(c["experts"])
    for i in range(c["router_layers"]):
        for name in ("input_layernorm", "post_attention_layernorm"):
            t[f"{p}{name}_{i}.weight"] = norm(w)
        for name in ("q_proj", "k_proj", "v_proj", "o_proj", "proj_1", "proj_2"):
            t[f"{p}{name}_{i}.weight"], t[f"{p}{name}_{i}.bias"] = randn(w, w), randn(w)
    return t, neurons


def write_model(c, weights, neurons, dense_dir, moe_dir):
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": c["hidden"],
              "max_position_embeddings": 512, "tie_word_embeddings": c["tied"], "bos_token_id": 1, "eos_token_id": 2,
              "vocab_size": c["vocab"], "intermediate_size": c["width"], "num_hidden_layers": c["layers"],
              "num_attention_heads": c["heads"], "num_key_value_heads": c["kv_heads"], "rope_theta": c["theta"],
              "rms_norm_eps": 1e-5, "rope_scaling": None, "attention_bias": False}
    theirs = {"N_cluster": c["experts"], "residual_dim": c["shared"], "intermediate_size_expert": c["shared"] + c["own"],
              "fuse_residual": c["fused"], "add_cluster_predictor": True, "hidden_act_predictor": c["activation"],
              "normalizer": c["normalizer"], "embedding_dim": c["router_hidden"], "inter_dim": c["router_hidden"],
              "n_layer": c["router_layers"], "n_head": c["router_heads"], "nonautoregressive": False}
    dense = {n: w for n, w in weights.items() if not n.startswith("cluster_predictor.")}
    moe = {n: w for n, w in weights.items() if ".mlp." not in n}
    for i, (shared, own) in enumerate(neurons):
        p = f"model.layers.{i}."
        parts = {str(e): torch.cat([shared, o]).sort().values if c["fused"] else o for e, o in enumerate(own)}
        if not c["fused"]:
            parts["residual"] = shared
        for suffix, rows in parts.items():
            for name in ("gate", "up"):
                moe[f"{p}moe.{name}_proj_{suffix}.weight"] = weights[f"{p}mlp.{name}_proj.weight"][rows].clone()
            moe[f"{p}moe.down_proj_{suffix}.weight"] = weights[p + "mlp.down_proj.weight"][:, rows].clone()
    for folder, tensors, extra in ((dense_dir, dense, {}), (moe_dir, moe, theirs)):
        folder.mkdir(parents=True)
        write_json(folder / "config.json", {**config, **extra})
        save_file({n: w.contiguous() for n, w in tensors.items()}, folder / "model.safetensors")


def ffn(weights, layer, x, neurons=slice(None)):
    p = f"model.layers.{layer}.mlp."
    gate, up = (F.linear(x, weights[f"{p}{n}_proj.weight"][neurons]) for n in ("gate", "up"))
    return F.linear(F.silu(gate) * up, weights[p + "down_proj.weight"][:, neurons])


def expected(c, weights, neurons, ids):
    routes_logits = router_logits(c, weights, ids)
    routes = routes_logits.argmax(-1)

    def experts(layer, x):
        shared, own = neurons[layer]
        return torch.stack([ffn(weights, layer, row[None], torch.cat([shared, own[r]]))[0] for row, r in zip(x, routes)])
    return {"dense": logits(c, weights, ids, lambda layer, x: ffn(weights, layer, x)),
            "moe": logits(c, weights, ids, experts), "router": routes_logits, "routes": routes}


def check(args, report, name, c, generator, scratch):
    weights, neurons = make_weights(c, generator)
    dense_dir, moe_dir = scratch / "dense", scratch / "moe"
    write_model(c, weights, neurons, dense_dir, moe_dir)
    run(args.pregate, "import", "--from", "authors", "--in", moe_dir, "--out", scratch / "imported")
    lists = [torch.randint(0, c["vocab"], (n,), generator=generator) for n in LENGTHS]
    tokens = write_json(scratch / "tokens.json", [ids.tolist() for ids in lists])
    got = {}
    for model in ("dense", "moe", "imported"):
        run(args.pregate, "logits", "--model", scratch / model, "--tokens", tokens, "--out", scratch / "out.safetensors")
        got[model] = load_file(scratch / "out.safetensors")
    worst = 0.0
    routes_equal = True
    for k, ids in enumerate(lists):
        want = expected(c, weights, neurons, ids)
        pairs = [(got["dense"][f"{k}.logits"], want["dense"])]
        for model in ("moe", "imported"):
            pairs += [(got[model][f"{k}.logits"], want["moe"]), (got[model][f"{k}.router_logits"], want["router"])]
            routes_equal &= torch.equal(got[model][f"{k}.expert_ids"].long(), want["routes"])
        worst = max([worst] + [((a.double() - b.double()).norm() / b.double().norm()).item() for a, b in pairs])
    report.check(worst <= args.tolerance and routes_equal,
                 f"{name}: worst relative error {worst:.1e}, expert ids {'equal' if routes_equal else 'DIFFER'}")


@torch.no_grad()
def main():
    args = parse_seeded_args(__doc__)
    generator = torch.Generator().manual_seed(args.seed)
    report = Report()
    for name, *values in CASES:
        with tempfile.TemporaryDirectory() as scratch:
            check(args, report, name, dict(zip(NAMES, values)), generator, pathlib.Path(scratch))
    report.exit()


if __name__ == "__main__":
    main()
