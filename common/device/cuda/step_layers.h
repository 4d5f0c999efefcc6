// Device::LayersAtOnce by the step kernel (step_kernel.h): what it takes, and its scratch.
#pragma once

#include <vector>

#include "absl/types/span.h"
#include "common/device/cuda/device_runtime.h"
#include "common/device/cuda/scratch.h"
#include "common/device/cuda/staging.h"
#include "common/device/cuda/step_kernel.h"
#include "common/device/device.h"

namespace pregate::cuda {

// Not thread-safe. What it is made with outlives it.
class StepLayers {
 public:
  // `tile_sums`: the attention's scratch.
  StepLayers(CudaRuntime* runtime, UploadRing* uploads, Scratch* tile_sums)
      : runtime_(*runtime),
        uploads_(*uploads),
        tile_sums_(*tile_sums),
        table_(runtime),
        mid_(runtime),
        barrier_(runtime) {}

  // See Device::LayersAtOnce.
  bool Run(const TokenBatch& batch, absl::Span<const LayerCall> layers, const FfnShape& ffn,
           const ExpertGroups& groups, const LayerWorkspace& workspace, float* h);

 private:
  // Null where they cannot be brought to the card now.
  const StepLayer* PutLayers(absl::Span<const LayerCall> layers);
  bool IsCapturing() const;

  CudaRuntime& runtime_;
  UploadRing& uploads_;
  Scratch& tile_sums_;
  Scratch table_;    // [layers] StepLayer
  Scratch mid_;      // [rows max, shared + own]
  Scratch barrier_;  // BarrierCounts
  std::vector<StepLayer> staged_, uploaded_;
};

}  // namespace pregate::cuda
