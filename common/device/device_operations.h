// The operations that a half of a layer consists of. ComposedDevice makes the halves from them; a
// device that fuses a half needs none. What each one means is defined by the reference device and
// held by the contract tests.
//
// The rules of Device hold (device.h): stream order, capacities, batch invariance, types.
#pragma once

#include <cstdint>

#include "common/device/arrays.h"
#include "common/device/layer.h"
#include "common/device/types.h"
#include "common/model/spec/spec.h"

namespace pregate {

class DeviceOperations {
 public:
  // act_out = round(x / sqrt(mean(x^2) + eps) * weight)
  virtual void RmsNorm(RowCount rows, int width, const float* x, const float* weight, float eps,
                       ActType act, void* act_out) = 0;
  // out[r, :] = act_in[r, :] . w^T (+ bias, may be null); f32 accumulation in one fixed order over
  // inputs.
  virtual void Linear(RowCount rows, ActType act, const void* act_in, const Matrix& w,
                      const float* bias, float* out) = 0;
  // Norms the heads of q and k of qkv [max, qkv_width] where `norms` says so, rotates them by each
  // token's position, stores k and v into the layer's blocks in the layer's type, and writes q
  // [max, q_width].
  virtual void RotateAndStore(const TokenBatch& batch, const AttentionShape& shape,
                              const HeadNorms& norms, const float* qkv, const KvLayer& kv,
                              float* q_out) = 0;
  // Causal attention of each token over its sequence's positions 0..position, the last
  // shape.window of them where that is given (all stored before this call). act_out
  // [max, q_width], rounded to shape.act.
  virtual void Attention(const TokenBatch& batch, const AttentionShape& shape, const float* q,
                         const KvLayer& kv, void* act_out) = 0;
  // h += scale * (shared + round_to(wire, own)) in that order, each result rounded to f32. A null
  // `shared` is zeros; `own` may be null.
  virtual void AddFfn(RowCount rows, int width, const float* shared, const float* own,
                      WireType wire, float scale, float* h) = 0;
  // h += scale * y, the product rounded to f32.
  virtual void AddResidual(RowCount rows, int width, const float* y, float scale, float* h) = 0;
  // out[r, :] = x[index[r], :]
  virtual void GatherRows(RowCount rows, int width, const float* x, const int32_t* index,
                          float* out) = 0;
  // act_out = round(activation(x))
  virtual void Activate(RowCount rows, int width, RouterActivation activation, const float* x,
                        ActType act, void* act_out) = 0;
  virtual void SampleTokens(RowCount rows, int vocab_size, const float* logits,
                            const SampleArgs& args) = 0;
  virtual void ScoreTokens(RowCount rows, int vocab_size, const float* logits,
                           const ScoreArgs& args) = 0;

 protected:
  ~DeviceOperations() = default;
};

}  // namespace pregate
