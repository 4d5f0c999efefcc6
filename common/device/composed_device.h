// A device whose halves of a layer are made of operations, one after the other.
#pragma once

#include <array>

#include "common/device/device.h"
#include "common/device/device_operations.h"
#include "common/device/steady_time.h"

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
  // Of a device whose operations run on the spot.
  void BeginMoments() override { NoteMoment(0); }
  void NoteMoment(int moment) override { moments_[moment] = SteadyNow(); }
  absl::Time MomentOf(int moment) override { return moments_[moment]; }
  bool has_clock() const override { return false; }

 protected:
  // Memory() of a device that computes in the host's.
  static absl::StatusOr<DeviceMemory> HostMemory();

 private:
  std::array<absl::Time, kMomentsMax> moments_;
};

}  // namespace pregate
