// Matrix products over packed weights, and rows of a packed table: what turns the inside of an image
// (image.h) into arguments of kernels.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "common/device/cuda/device_runtime.h"
#include "common/device/cuda/kernels.h"
#include "common/device/cuda/scratch.h"
#include "common/device/cuda/weights/cublas_matmul.h"
#include "common/device/device.h"

namespace pregate::cuda {

// What Device::ExpertFfn takes, but for its rows.
struct FfnPart {
  ExpertGroups groups;
  const void* const* units;
  UnitShape shape;
  float* out;
};

// Not thread-safe. The runtime outlives it. REQUIRES everywhere: act has the element type of the
// weights.
class Products {
 public:
  static absl::StatusOr<std::unique_ptr<Products>> Create(CudaRuntime* runtime);

  // See Device::Embed and DeviceOperations::Linear.
  void Embed(RowCount rows, const int32_t* token_ids, const Matrix& table, float scale, float* out);
  void Linear(RowCount rows, ActType act, const void* act_in, const Matrix& w, const float* bias,
              float* out);
  // See Device::ExpertFfn. `also` (may be null) runs beside the first part.
  void Ffn(RowCount rows, ActType act, const void* act_in, const FfnPart& first,
           const FfnPart* also);
  // Device::FfnHalf between norm and sum: workspace.act to workspace.wide and .own.
  void FfnParts(RowCount rows, ActType act, const FfnWeights& weights, const ExpertGroups& groups,
                const void* const* units, const LayerWorkspace& workspace);
  // out = act_in · w^T, as kernels take it.
  GroupedMatmul DenseProduct(RowCount rows, const void* act_in, const Matrix& w, float* out) const;

 private:
  struct FfnProducts;

  explicit Products(CudaRuntime* runtime) : runtime_(*runtime), mid_(runtime) {}
  Stream& stream_in_use() {
    runtime_.Use();
    return runtime_.stream();
  }
  static FfnProducts Describe(RowCount rows, const void* act_in, const FfnPart& part, void* mid);

  CudaRuntime& runtime_;
  std::unique_ptr<CublasMatmul> dense_;
  Scratch mid_;  // Ffn: [rows max, width padded] of each part, between its two products
};

}  // namespace pregate::cuda
