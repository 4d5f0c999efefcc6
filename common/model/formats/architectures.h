// The families of dense decoders that are read, and what they differ in. Adding one whose formulas
// ModelSpec has is an entry here and a case of tests/compare/architectures.py.
#pragma once

#include <string_view>

#include "absl/types/span.h"
#include "common/model/formats/model_fields.h"

namespace pregate {

struct Architecture {
  const char* model_type;  // config.json's, and ModelSpec::architecture
  const char* causal_lm;   // what config.json's architectures names
  const char* gguf;        // general.architecture of its GGUF files
  FieldTable fields;       // of config.json, read for this family alone
  FieldTable gguf_fields;  // of GGUF metadata, likewise

  // What transformers' class of the config takes where config.json does not say.
  double rms_eps = 1e-6;
  double rope_theta = 10000;
  int max_position = 2048;
  int original_max_position = 0;  // of scaled RoPE; 0: max_position
  int kv_heads = 0;               // 0: as many as heads
  int head_dim = 0;               // 0: hidden / heads
  int window_tokens = 0;          // 0: none
  bool tie_embeddings = false;

  enum class Bias {
    kNone,
    kByField,  // attention_bias: of q, k, v and o
    kQkv,      // of q, k and v, always
  } bias = Bias::kNone;
  bool qk_norm = false;
  enum class Window {
    kNone,
    kEveryLayer,  // sliding_window, where it is given
    kSwitched,    // where use_sliding_window is on: by layer_types, else from layer
                  // max_window_layers on
  } window = Window::kNone;
  bool no_rope_layers = false;    // some layers have no positions
  bool multipliers = false;       // of embedding, residual, attention and logits
  bool fused = false;             // qkv_proj and gate_up_proj hold several matrices
  bool rotates_in_part = false;   // partial_rotary_factor
  bool gguf_interleaved = false;  // GGUF's rows of q and k are permuted for interleaved RoPE
};

absl::Span<const Architecture> Architectures();
// Null where there is none of this name.
const Architecture* FindArchitecture(std::string_view model_type);
// Of GGUF's general.architecture; the first where several families share the name.
const Architecture* FindGgufArchitecture(std::string_view name);

}  // namespace pregate
