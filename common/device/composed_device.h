// A device whose halves of a layer are made of operations, one after the other.
#pragma once

#include "common/device/device.h"
#include "common/device/device_operations.h"

namespace pregate {

// A derived class may override a half that it can run in one piece; the contract tests compare both
// with the reference.
class ComposedDevice : public Device, public DeviceOperations {
 public:
  void AttentionHalf(const TokenBatch& batch, const AttentionShape& shape,
                     const AttentionWeights& weights, const KvLayer& kv,
                     const LayerWorkspace& workspace, float* h) override;
  void StoreKv(const TokenBatch& batch, const AttentionShape& shape,
               const AttentionWeights& weights, const KvLayer& kv, const LayerWorkspace& workspace,
               const float* h) override;
  void FfnBegin(RowCount rows, const FfnShape& shape, const FfnWeights& weights,
                const LayerWorkspace& workspace, const float* h) override;
  void FfnEnd(RowCount rows, const FfnShape& shape, const FfnWeights& weights,
              const LayerWorkspace& workspace, float* h) override;
  void Mlp(RowCount rows, const MlpShape& shape, const MlpWeights& weights,
           const LayerWorkspace& workspace, float* h) override;
  void Emit(const EmitHead& head, const EmitArgs& args, const LayerWorkspace& workspace,
            const float* h) override;
};

}  // namespace pregate
