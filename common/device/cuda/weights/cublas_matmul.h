// Dense products by cuBLASLt: out[r, o] = sum_i x[r, i] * w[o, i], f32 sums and results, bf16 or
// plain f32 inputs (no TF32).
//
// A row's bits may not depend on how many rows there are. Measured on an H100 (cuBLASLt 13.1,
// bench/ gpu/matmul_probe): in bf16 every algorithm that neither splits the inputs nor wants a
// workspace gives the same bits, whatever its tile and whatever the number of rows, while those
// that split differ from it and from each other. So bf16 takes the library's first choice among the
// former for each power of two of rows. f32 keeps ONE algorithm for all. linear_bits_test.cc holds
// both.
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
  // All `rows` of x [rows, inputs] and out [rows, outputs] are read and written. REQUIRES:
  // Takes(w).
  void Run(int rows, const void* x, const Matrix& w, float* out);

 private:
  struct Plan;
  explicit CublasMatmul(CudaRuntime* runtime);
  absl::StatusOr<const Plan*> PlanFor(const Matrix& w, int rows);

  CudaRuntime& runtime_;
  cublasLtHandle_t handle_ = nullptr;
  // By outputs, inputs, bf16, bucket of rows.
  std::map<std::tuple<int, int, bool, int>, std::unique_ptr<Plan>> plans_;
};

}  // namespace pregate::cuda
