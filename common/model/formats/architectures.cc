#include "common/model/formats/architectures.h"

namespace pregate {
namespace {

constexpr Fields kBias[] = {{"attention_bias", FieldUse::kRead, "", "biases of q, k, v and o"}};
constexpr Fields kSmolLm3[] = {
    {"attention_bias", FieldUse::kRead, "", "biases of q, k, v and o"},
    {"no_rope_layers no_rope_layer_interval", FieldUse::kRead, "", "layers without positions"}};
constexpr Fields kPhi3[] = {{"partial_rotary_factor", FieldUse::kRead, "", "rotated in part"}};
constexpr Fields kGranite[] = {
    {"attention_bias", FieldUse::kRead, "", "biases of q, k, v and o"},
    {"embedding_multiplier residual_multiplier attention_multiplier logits_scaling",
     FieldUse::kRead, "", "multipliers; logits are divided by theirs"}};
constexpr Fields kGraniteGguf[] = {
    {"ARCH.embedding_scale ARCH.residual_scale ARCH.attention.scale ARCH.logit_scale",
     FieldUse::kRead, "", "multipliers; logits are divided by theirs; 0 is none"}};

using Bias = Architecture::Bias;
using Window = Architecture::Window;

constexpr Architecture kArchitectures[] = {
    {.model_type = "llama",
     .causal_lm = "LlamaForCausalLM",
     .gguf = "llama",
     .fields = {"config.json of llama, further", kBias},
     .bias = Bias::kByField,
     .gguf_interleaved = true},
    {.model_type = "mistral",
     .causal_lm = "MistralForCausalLM",
     .gguf = "llama",
     .max_position = 131072,
     .kv_heads = 8,
     .window_tokens = 4096,
     .window = Window::kEveryLayer,
     .gguf_interleaved = true},
    {.model_type = "qwen2",
     .causal_lm = "Qwen2ForCausalLM",
     .gguf = "qwen2",
     .max_position = 32768,
     .kv_heads = 32,
     .window_tokens = 4096,
     .bias = Bias::kQkv,
     .window = Window::kSwitched},
    {.model_type = "qwen3",
     .causal_lm = "Qwen3ForCausalLM",
     .gguf = "qwen3",
     .fields = {"config.json of qwen3, further", kBias},
     .max_position = 32768,
     .kv_heads = 32,
     .head_dim = 128,
     .window_tokens = 4096,
     .bias = Bias::kByField,
     .qk_norm = true,
     .window = Window::kSwitched},
    {.model_type = "smollm3",
     .causal_lm = "SmolLM3ForCausalLM",
     .gguf = "smollm3",
     .fields = {"config.json of smollm3, further", kSmolLm3},
     .rope_theta = 2000000,
     .max_position = 32768,
     .kv_heads = 4,
     .tie_embeddings = true,
     .bias = Bias::kByField,
     .window = Window::kSwitched,
     .no_rope_layers = true,
     .gguf_interleaved = true},
    {.model_type = "phi3",
     .causal_lm = "Phi3ForCausalLM",
     .gguf = "phi3",
     .fields = {"config.json of phi3, further", kPhi3},
     .rms_eps = 1e-5,
     .max_position = 4096,
     .original_max_position = 4096,
     .window = Window::kEveryLayer,
     .fused = true,
     .rotates_in_part = true},
    {.model_type = "granite",
     .causal_lm = "GraniteForCausalLM",
     .gguf = "granite",
     .fields = {"config.json of granite, further", kGranite},
     .gguf_fields = {"GGUF metadata of granite, further", kGraniteGguf},
     .bias = Bias::kByField,
     .multipliers = true,
     .gguf_interleaved = true},
};

}  // namespace

absl::Span<const Architecture> Architectures() { return kArchitectures; }

const Architecture* FindArchitecture(std::string_view model_type) {
  for (const Architecture& a : kArchitectures) {
    if (a.model_type == model_type) return &a;
  }
  return nullptr;
}

const Architecture* FindGgufArchitecture(std::string_view name) {
  for (const Architecture& a : kArchitectures) {
    if (a.gguf == name) return &a;
  }
  return nullptr;
}

}  // namespace pregate
