// What a device must know of a layer to run it: its shape, which all layers of a network share, its
// weights, and memory to work in. Plain data: nothing here knows the name of an architecture.
//
//   AttentionHalf   h += r o(attention(rope(norms(qkv(norm(h))))));  k and v go into the paged KV
//   FfnHalf         h += r (S(x) + round(O(x))),  x = norm(h);  S: the part that every token runs,
//                   O: the part of the token's expert
//   Mlp             h += proj_2(activation(proj_1(norm(h))))
//   Emit            logits = head(norm(rows of h));  then a token or a score for each row
//
// r is the residual multiplier. What another architecture adds is one more optional field here,
// whose default means that there is none, with its place in ComposedDevice and a case in
// device_layer_contract_test.cc. Shapes are host values; pointers are device pointers that their
// owner keeps alive.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "common/device/arrays.h"
#include "common/device/sample_args.h"
#include "common/device/types.h"
#include "common/model/spec/spec.h"

namespace pregate {

// How a token's position enters attention: channels i and i + dims / 2 of each head of q and k are
// turned by position * inv_freq[i], for i < dims / 2; those from dims on are kept.
struct RopeShape {
  int dims = 0;                     // 0: positions do not enter
  const float* inv_freq = nullptr;  // [dims / 2]
  float scale = 1;                  // of cos and sin
};

struct AttentionShape {
  int hidden = 0;
  int num_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  float norm_eps = 0;
  float scale = 1;  // of q . k
  RopeShape rope;
  int window = 0;      // keys that a token sees, itself included; 0: all
  float residual = 1;  // of what the half adds
  ActType act = ActType::kF32;

  int q_width() const { return num_heads * head_dim; }
  int qkv_width() const { return (num_heads + 2 * num_kv_heads) * head_dim; }
};
// Of each head, RmsNorm with the half's norm_eps before RoPE. Both or none.
struct HeadNorms {
  const float* q = nullptr;  // [head_dim]
  const float* k = nullptr;  // [head_dim]
};
struct AttentionWeights {
  const float* norm = nullptr;      // [hidden]
  Matrix qkv;                       // [qkv_width, hidden]: rows of q, k, v in that order
  const float* qkv_bias = nullptr;  // [qkv_width], may be null
  HeadNorms head_norms;
  Matrix o;                       // [hidden, q_width]
  const float* o_bias = nullptr;  // [hidden], may be null
};

struct FfnShape {
  int hidden = 0;
  float norm_eps = 0;
  float residual = 1;  // of what the half adds
  ActType act = ActType::kF32;
  WireType wire = WireType::kF32;  // what O is rounded to
};
struct FfnWeights {
  const float* norm = nullptr;               // [hidden]
  UnitShape shared;                          // width 0: the layer has no shared part
  const void* const* shared_unit = nullptr;  // device array [1]
  UnitShape own;                             // of each expert; width 0: there is no own part
};

// A layer with its place in memory, for Device::LayersAtOnce.
struct LayerCall {
  AttentionShape attention;
  AttentionWeights attention_weights;
  KvLayer kv;
  FfnWeights ffn;
  const void* const* units = nullptr;  // as FfnHalf takes them
};

struct MlpShape {
  int hidden = 0;
  float norm_eps = 0;
  RouterActivation activation = RouterActivation::kSilu;
  ActType act = ActType::kF32;
};
struct MlpWeights {
  const float* norm = nullptr;         // [hidden]
  Matrix proj_1;                       // [width, hidden]
  const float* proj_1_bias = nullptr;  // [width], may be null
  Matrix proj_2;                       // [hidden, width]
  const float* proj_2_bias = nullptr;  // [hidden], may be null
};

// What turns the residual stream into logits.
struct EmitHead {
  const float* norm = nullptr;  // [hidden]
  float norm_eps = 0;
  Matrix logits;                // [vocab, hidden]
  const float* bias = nullptr;  // [vocab], may be null
  ActType act = ActType::kF32;
};

// logprobs[r] = log softmax(logits[r])[targets[r]]; greedy[r] = 1 where targets[r] is the argmax.
struct ScoreArgs {
  const int32_t* targets = nullptr;  // [max]
  float* logprobs = nullptr;         // out [max]
  uint8_t* greedy = nullptr;         // out [max]
};
struct EmitArgs {
  RowCount rows;
  const int32_t* index = nullptr;    // [max] rows of h; null: row r is h's row r
  float* logits = nullptr;           // out [max, vocab], raw; stay there for a download
  std::optional<SampleArgs> sample;  // what is made of the logits beside
  std::optional<ScoreArgs> score;
};

// What the sizes of a workspace depend on.
struct WorkspaceShape {
  AttentionShape attention;
  int mlp_width = 0;        // the widest Mlp; 0: there is none
  bool has_own = false;     // some layer has an own part
  size_t act_bytes = 0;     // Device::act_bytes of the layers' ActType
  int tokens_max = 0;       // rows of a batch
  int logits_rows_max = 0;  // rows of one Emit
  bool emit_picks = true;   // Emit is called with an index
  int vocab_size = 0;       // of the head
};

// Memory that the halves of a layer and Emit work in, sized at start. One layer after the other
// uses it. FfnBegin leaves its results in `act` and `wide` for FfnEnd; nothing else survives a call.
struct LayerWorkspace {
  void* act = nullptr;      // [max(tokens, logits rows), max(hidden, q_width, mlp_width)]
  float* wide = nullptr;    // [tokens, max(hidden, qkv_width, mlp_width)] outputs of products
  float* q = nullptr;       // [tokens, q_width]
  float* own = nullptr;     // [tokens, hidden] outputs of the experts' part
  float* picked = nullptr;  // [logits rows, hidden] rows of h that emit
  float* logits = nullptr;  // [logits rows, vocab] room for EmitArgs::logits

  static size_t Bytes(const WorkspaceShape& shape);
  // `base` holds Bytes(shape), aligned to 256 bytes, and outlives the workspace.
  static LayerWorkspace At(void* base, const WorkspaceShape& shape);
};

}  // namespace pregate
