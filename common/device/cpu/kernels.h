// The per-target kernels, each dispatched at run time to the best instruction set of this
// processor. Those that know how weights are packed: weights/kernels.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "common/device/cpu/arithmetic.h"
#include "common/device/types.h"
#include "common/model/spec/spec.h"

namespace pregate::cpu {

// "fma" for every target that fuses multiply-adds: they compute equal bits. Others are their own
// class.
std::string NumericsClass();
std::string TargetName();

// --- elementwise.cc: one row ---
void RmsNormRow(const float* x, const float* weight, int width, float eps, ActType act, float* out);
void ActivateRow(RouterActivation activation, const float* x, int64_t width, ActType act,
                 float* out);
// h += scale * (shared + round(own)); a null `shared` is zeros, `own` may be null.
void AddFfnRow(const float* shared, const float* own, int64_t width, WireType wire, float scale,
               float* h);

// --- attention_kernel.cc ---
// One layer's keys and values: [block][kv head] -> keys [head_dim][16], then values
// [16][padded_dim].
struct KvView {
  const char* data = nullptr;
  KvType type = KvType::kF32;
  int num_kv_heads = 0;
  int head_dim = 0;
  int64_t padded_dim() const { return RoundUp(head_dim, 16); }
  int64_t key_elements() const { return int64_t{head_dim} * 16; }
  int64_t head_elements() const { return key_elements() + 16 * padded_dim(); }
};
// Queries of one sequence and one kv head; keys of block i are table[i]'s. A row sees the keys of
// positions [first_key, end_key).
struct QueryTile {
  const float* const* queries = nullptr;  // [num_rows] pointers to [head_dim]
  const int32_t* first_key = nullptr;     // [num_rows] ascending
  const int32_t* end_key = nullptr;       // [num_rows] position + 1, ascending
  int num_rows = 0;
  const int32_t* table = nullptr;
  int kv_head = 0;
  float scale = 1;
};
// A query's softmax over some of its keys: the largest score, 16 partial sums of exp(score -
// largest), and the values weighted by them. In floats: [16] (the first is used), [16],
// [padded_dim].
inline constexpr int kStateMax = 0, kStateSums = 16, kStateValues = 32;
inline int64_t StateFloats(int64_t padded_dim) { return kStateValues + padded_dim; }
inline constexpr int kSpanBlocks = 4;  // blocks whose keys are weighed together
// Floats of scratch that AttendBlocks wants.
int64_t AttendScratchFloats(int num_rows, const KvView& kv);
// Starts states[num_rows] afresh and takes in the keys of blocks [begin, end); a state whose row
// sees none of them says so, and MergeState takes it for what it is.
void AttendBlocks(const KvView& kv, const QueryTile& tile, int begin, int end, float* states,
                  float* scratch);
// Takes `part`, whose keys come next, into `state`.
void MergeState(const float* part, int64_t padded_dim, float* state);
void FinishState(const float* state, int head_dim, ActType act, float* out);

// --- vocab_kernel.cc: one row of logits ---
bool AllFinite(const float* x, int64_t n);
// Lowest index among the largest.
int64_t ArgMaxRow(const float* x, int64_t n);
// sum of exp(x[i] - top)
double SumExp(const float* x, int64_t n, float top);
// out[i] = exp(x[i] - top)
void ExpRow(const float* x, int64_t n, float top, float* out);
// out[i] = x[i] / temperature
void DivideRow(const float* x, int64_t n, float temperature, float* out);
// Among ids with x > cut, or x == cut and id <= cut_id: the one whose x + Gumbel noise is largest,
// ties to the lowest id. `start` is any id that passes: a likely one makes the search short.
int64_t GumbelArgMax(const float* x, int64_t n, float cut, int64_t cut_id, int64_t start,
                     uint64_t seed, uint64_t position);

}  // namespace pregate::cpu
