"""Random Llama checkpoints written by Hugging Face transformers itself, in shapes and types that SmolLM2 has not.

Sharded files, F16 and BF16, Llama-3 RoPE scaling, a head width of its own, untied and tied embeddings: logits of
`pregate logits` against transformers' in float32. Needs torch, transformers and safetensors.
usage: hf_llama.py --pregate build/release/bin/pregate [--seed S]
"""
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from random_models import distance, logits_of, run_cases

BASE = dict(vocab_size=320, hidden_size=64, intermediate_size=144, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=512, rms_norm_eps=1e-5, rope_theta=1e4, tie_word_embeddings=False)
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}
CASES = [
    ("one file, F32", {}, torch.float32, "1GB"),
    ("sharded, BF16", {}, torch.bfloat16, "100KB"),
    ("sharded, F16, tied", {"tie_word_embeddings": True}, torch.float16, "100KB"),
    ("Llama-3 RoPE scaling", {"rope_scaling": LLAMA3, "rope_theta": 5e5}, torch.float32, "1GB"),
    ("head width 24, one KV head", {"head_dim": 24, "num_key_value_heads": 1}, torch.float32, "1GB"),
    ("odd sizes", {"vocab_size": 251, "hidden_size": 60, "num_attention_heads": 6, "num_key_value_heads": 3,
                   "intermediate_size": 77}, torch.float32, "1GB"),
]
LENGTHS = [1, 5, 33, 300]


@torch.no_grad()
def check(args, report, name, changes, dtype, shard_size, scratch):
    config = LlamaConfig(**{**BASE, **changes})
    model = LlamaForCausalLM(config).to(dtype).eval()
    for parameter in model.parameters():  # what transformers starts with is nearly zero, so nearly linear
        parameter.copy_(torch.randn(parameter.shape) / parameter.shape[-1] ** 0.5 + (parameter.dim() == 1))
    model.save_pretrained(scratch / "model", max_shard_size=shard_size)
    shards = len(list((scratch / "model").glob("*.safetensors")))
    model = LlamaForCausalLM.from_pretrained(scratch / "model", dtype=torch.float32).eval()
    lists = [torch.randint(0, config.vocab_size, (1, n)) for n in LENGTHS]
    expected = [model(ids).logits[0].double() for ids in lists]
    error = distance(logits_of(args.pregate, scratch / "model", lists, scratch), expected)
    report.check(error <= args.tolerance and (shards > 1) == name.startswith("sharded"),
                 f"{name}: {shards} files, worst relative error {error:.1e}")


if __name__ == "__main__":
    run_cases(__doc__, CASES, check)
