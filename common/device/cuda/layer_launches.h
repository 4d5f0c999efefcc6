// Device::LayersAtOnce for any rows and layers: launches, of which each takes over what it can of the
// next operation. The halves of a layer make the same of more of them.
#pragma once

#include "absl/types/span.h"
#include "common/device/composed_device.h"
#include "common/device/cuda/device_runtime.h"
#include "common/device/cuda/weights/products.h"

namespace pregate::cuda {

// Not thread-safe. What it is made with outlives it.
class LayerLaunches {
 public:
  LayerLaunches(CudaRuntime* runtime, Products* products, DeviceOperations* operations)
      : runtime_(*runtime), products_(*products), operations_(*operations) {}

  // See Device::LayersAtOnce.
  void Run(const TokenBatch& batch, absl::Span<const LayerCall> layers, const FfnShape& ffn,
           const ExpertGroups& groups, const LayerWorkspace& workspace, float* h);

 private:
  Stream& stream_in_use() {
    runtime_.Use();
    return runtime_.stream();
  }
  // From workspace.act, which holds the normed rows.
  void StoreHeads(const TokenBatch& batch, const LayerCall& layer, const LayerWorkspace& workspace);
  // h += what attention left in workspace.act; then the norm before the feed-forward half.
  void AddOutput(RowCount rows, const LayerCall& layer, const FfnShape& ffn,
                 const LayerWorkspace& workspace, float* h);

  CudaRuntime& runtime_;
  Products& products_;
  DeviceOperations& operations_;
};

}  // namespace pregate::cuda
