#include "common/model/spec/traits.h"

namespace pregate {

std::vector<Trait> TraitsOf(const ModelSpec& spec) {
  std::vector<Trait> traits;
  const auto add_unless = [&traits](const char* name, auto value, auto of_llama) {
    if (value != of_llama) traits.push_back({name, value});
  };
  add_unless("rotary_dim", spec.rotary_dim, 0);
  add_unless("qkv_bias", spec.qkv_bias, false);
  add_unless("o_bias", spec.o_bias, false);
  add_unless("qk_norm", spec.qk_norm, false);
  add_unless("embedding_multiplier", spec.embedding_multiplier, 1.0f);
  add_unless("residual_multiplier", spec.residual_multiplier, 1.0f);
  add_unless("attention_multiplier", spec.attention_multiplier, 0.0f);
  add_unless("logits_divisor", spec.logits_divisor, 1.0f);
  for (const int window : spec.windows) traits.push_back({"window", window, true});
  for (const bool no_rope : spec.no_rope) traits.push_back({"no_rope", no_rope, true});
  return traits;
}

}  // namespace pregate
