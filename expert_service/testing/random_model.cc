#include "expert_service/testing/random_model.h"

#include <cmath>
#include <random>
#include <utility>

#include "common/model/spec/tensor_names.h"

namespace pregate {

ModelSpec TinySpec(int num_experts) {
  ModelSpec spec;
  spec.vocab_size = 131;
  spec.hidden = 32;
  spec.intermediate = 45;
  spec.num_layers = 2;
  spec.num_heads = 4;
  spec.num_kv_heads = 2;
  spec.head_dim = 8;
  spec.max_position = 128;
  spec.tie_embeddings = true;
  spec.num_experts = num_experts;
  if (num_experts > 0) {
    spec.shared_width = {13, 21};
    spec.own_width = {17, 9};
    spec.router = RouterSpec();
    spec.router->hidden = 16;
    spec.router->intermediate = 24;
  }
  return spec;
}

ModelSpec WithTraits(ModelSpec spec) {
  spec.qkv_bias = spec.o_bias = spec.qk_norm = true;
  spec.rotary_dim = spec.head_dim / 2;
  spec.windows.assign(spec.num_layers, 0);
  spec.windows[0] = 9;
  spec.no_rope.assign(spec.num_layers, false);
  spec.no_rope[1] = true;
  spec.embedding_multiplier = 3.5f;
  spec.residual_multiplier = 0.4f;
  spec.attention_multiplier = 0.3f;
  spec.logits_divisor = 1.5f;
  spec.rope_scaling = {.kind = RopeScalingKind::kYarn,
                       .factor = 4,
                       .attention_factor = 1.1f,
                       .original_max_position = 32};
  return spec;
}

ModelSpec WithEvenWidths(ModelSpec spec) {
  spec.head_dim = 16;
  spec.intermediate = 48;
  if (spec.is_moe()) {
    spec.shared_width = {16, 32};
    spec.own_width = {32, 16};
  }
  return spec;
}

std::unique_ptr<InMemoryCheckpoint> MakeRandomModel(const ModelSpec& spec, uint32_t seed) {
  std::unique_ptr<InMemoryCheckpoint> checkpoint =
      spec.router ? MakeRandomRouter(spec, seed) : std::make_unique<InMemoryCheckpoint>(spec);
  std::mt19937 random(seed + 1);
  for (const CanonicalTensor& tensor : CanonicalTensors(spec)) {
    if (tensor.part == TensorPart::kRouter) continue;
    const bool is_norm = tensor.part == TensorPart::kNorm;
    const float inputs = static_cast<float>(tensor.shape.back());
    std::normal_distribution<float> normal(is_norm ? 1 : 0,
                                           is_norm ? 0.1f : 1.5f / std::sqrt(inputs));
    std::vector<float> values(tensor.num_elements());
    for (float& value : values) value = normal(random);
    checkpoint->tensors[tensor.name] = std::move(values);
  }
  return checkpoint;
}

std::vector<TokenId> RandomTokens(int count, int vocab_size, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<TokenId> tokens(count);
  for (TokenId& token : tokens) token = static_cast<TokenId>(random() % vocab_size);
  return tokens;
}

}  // namespace pregate
