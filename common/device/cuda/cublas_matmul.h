// Dense products by cuBLASLt: out[r, o] = sum_i x[r, i] * w[o, i], f32 sums and results, bf16 or
// plain f32 inputs (no TF32).
//
// A row's bits may not depend on how many rows there are, so ONE algorithm serves every row count
// of a shape: no split of the inputs, no workspace, chosen once for kPinnedRows rows. A contract
// test compares the bits of row counts with each other.
#pragma once

#include <cublasLt.h>

#include <map>
#include <memory>
#include <tuple>

#include "absl/status/statusor.h"
#include "common/device/cuda/device_runtime.h"
#include "common/device/device.h"

namespace pregate::cuda {

// Not thread-safe.
class CublasMatmul {
 public:
  static absl::StatusOr<std::unique_ptr<CublasMatmul>> Create(CudaRuntime* runtime);
  ~CublasMatmul();

  // Whether cuBLASLt takes the shape: it wants rows that start at multiples of 16 bytes.
  static bool Takes(const Matrix& w);
  // All `rows` of x [rows, inputs] and out [rows, outputs] are read and written. REQUIRES: Takes(w).
  void Run(int rows, const void* x, const Matrix& w, float* out);

 private:
  struct Plan;
  explicit CublasMatmul(CudaRuntime* runtime);
  absl::StatusOr<const Plan*> PlanFor(const Matrix& w);

  CudaRuntime& runtime_;
  cublasLtHandle_t handle_ = nullptr;
  std::map<std::tuple<int, int, bool>, std::unique_ptr<Plan>> plans_;  // outputs, inputs, bf16
};

}  // namespace pregate::cuda
