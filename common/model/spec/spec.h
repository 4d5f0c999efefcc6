// What a model is, independent of the file it came from: shapes, RoPE, experts, router, provenance.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/ids.h"

namespace pregate {

enum class DType { kF32, kF16, kBF16 };
const char* DTypeName(DType dtype);  // "f32", "f16", "bf16"
absl::StatusOr<DType> ParseDType(std::string_view name);
size_t DTypeBytes(DType dtype);

// How the frequencies of RoPE are stretched for contexts beyond those of training. w: wavelength in
// positions, L: original_max_position.
enum class RopeScalingKind {
  kFactors,   // frequency i is divided by factors[i] (GGUF's form of llama3)
  kLinear,    // all are divided by factor
  kLlama3,    // w > L / low_freq_factor: divided by factor; w < L / high_freq_factor: kept; between
              // them blended linearly in L / w
  kYarn,      // the same between the frequencies that make beta_slow and beta_fast turns over L,
              // blended linearly in i (Peng et al. 2023, https://arxiv.org/abs/2309.00071)
  kLongRope,  // divided by factors[i], or by long_factors[i] where contexts may be longer than L
};
struct RopeScaling {
  RopeScalingKind kind = RopeScalingKind::kLlama3;
  float factor = 1;
  float low_freq_factor = 1;
  float high_freq_factor = 4;
  float beta_fast = 32;
  float beta_slow = 1;
  bool truncate = true;        // kYarn: the two ends are whole i
  float attention_factor = 1;  // kYarn, kLongRope: cos and sin are multiplied by it
  int original_max_position = 8192;
  std::vector<float> factors, long_factors;  // [rope_dims / 2] or empty

  bool operator==(const RopeScaling&) const = default;
};

enum class RouterActivation { kSilu, kRelu };

// The paper's router (docs/PAPER.md, "2. Router"). Tensors `router.*`; see checkpoint.h for names.
struct RouterSpec {
  int num_layers = 1;
  int num_heads = 4;
  int hidden = 512;        // width of embedding and attention
  int intermediate = 512;  // width between proj_1 and proj_2
  float rms_eps = 1e-6f;
  float rope_theta = 10000;
  float normalizer = 1;  // attention logits are divided by this
  RouterActivation activation = RouterActivation::kSilu;
  int head_dim() const { return hidden / num_heads; }
};

// Where an MoE came from: free text, kept in the checkpoint, shown by `inspect`.
struct Provenance {
  std::string source, source_digest, method, data, commit;
};

// A decoder of Llama's family, dense (num_experts = 0) or refactored. What families differ in is
// data: formats/architectures.h says how each one's config spells it.
struct ModelSpec {
  std::string architecture = "llama";  // config.json's model_type of the dense model
  int vocab_size = 0;
  int hidden = 0;
  int intermediate = 0;  // the dense FFN width that the experts were cut from
  int num_layers = 0;
  int num_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  int max_position = 0;
  float rms_eps = 1e-5f;
  float rope_theta = 10000;
  std::optional<RopeScaling> rope_scaling;
  int rotary_dim = 0;  // channels of a head that RoPE turns, from the first; 0: all
  bool tie_embeddings = false;
  bool qkv_bias = false;
  bool o_bias = false;
  bool qk_norm = false;            // q and k of each head are normed before RoPE
  float embedding_multiplier = 1;  // of what the layers begin with
  float residual_multiplier = 1;   // of what each half of a layer adds
  float attention_multiplier = 0;  // of q . k; 0: 1 / sqrt(head_dim)
  float logits_divisor = 1;
  std::vector<int> windows;   // [num_layers] keys that a token sees, itself included; 0: all;
                              // or empty: all in every layer
  std::vector<bool> no_rope;  // [num_layers] the layer has no positions; or empty: none is so
  std::optional<TokenId> bos_token;
  std::vector<TokenId> eos_tokens;

  int num_experts = 0;
  std::vector<int> shared_width;  // [num_layers] neurons that every expert has
  std::vector<int> own_width;     // [num_layers] further neurons of each expert
  std::optional<RouterSpec> router;
  Provenance provenance;

  bool is_moe() const { return num_experts > 0; }
  int q_width() const { return num_heads * head_dim; }
  int kv_width() const { return num_kv_heads * head_dim; }
  int rope_dims() const { return rotary_dim > 0 ? rotary_dim : head_dim; }
  int window(int l) const { return windows.empty() ? 0 : windows[l]; }
  bool has_rope(int l) const { return no_rope.empty() || !no_rope[l]; }
  float attention_scale() const;
  // Width of the always-resident FFN part of layer l: all of it for a dense model.
  int shared_ffn_width(int l) const { return is_moe() ? shared_width[l] : intermediate; }
};

// Refuses what the engine cannot run, naming field and value; checks every bound before a caller
// allocates from the spec (limits in common/base/limits.h).
absl::Status ValidateSpec(const ModelSpec& spec);

// What turns q and k: channels i and i + half of a head by position * inv_freq[i], times scale.
struct RopeFrequencies {
  std::vector<float> inv_freq;  // [half]
  float scale = 1;              // of cos and sin
};
RopeFrequencies PlainRope(int dims, float theta);
// The model's, for contexts of up to context_tokens.
RopeFrequencies RopeOf(const ModelSpec& spec, int context_tokens);

}  // namespace pregate
