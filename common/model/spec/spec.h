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

// Llama-3's frequency scaling: wavelengths above original/low are divided by `factor`, those below
// original/high are kept, between them the two are blended linearly. Where `factors` is given
// (GGUF's form of the same), it alone counts.
struct RopeScaling {
  float factor = 1;
  float low_freq_factor = 1;
  float high_freq_factor = 4;
  int original_max_position = 8192;
  std::vector<float> factors;  // [head_dim / 2] frequency i is divided by factors[i]; or empty

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

// A Llama-family decoder, dense (num_experts = 0) or refactored.
struct ModelSpec {
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
  bool tie_embeddings = false;
  std::optional<TokenId> bos_token;
  std::vector<TokenId> eos_tokens;

  int num_experts = 0;
  std::vector<int> shared_width;  // [num_layers] neurons that every expert has
  std::vector<int> own_width;     // [num_layers] further neurons of each expert
  std::optional<RouterSpec> router;
  Provenance provenance;

  bool is_moe() const { return num_experts > 0; }
  // Width of the always-resident FFN part of layer l: all of it for a dense model.
  int shared_ffn_width(int l) const { return is_moe() ? shared_width[l] : intermediate; }
};

// Refuses what the engine cannot run, naming field and value; checks every bound before a caller
// allocates from the spec (limits in common/base/limits.h).
absl::Status ValidateSpec(const ModelSpec& spec);

// cos/sin angles' inverse frequencies, [head_dim / 2], with rope_scaling applied.
std::vector<float> RopeInverseFrequencies(int head_dim, float theta,
                                          const std::optional<RopeScaling>& scaling);

}  // namespace pregate
