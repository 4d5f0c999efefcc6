// Dense products by cuBLASLt: out[r, o] = sum_i x[r, i] * w[o, i], bf16 inputs, f32 sums and results.
//
// A row's bits may not depend on how many rows there are. Measured on an H100 (cuBLASLt 13.1,
// bench/ gpu/matmul_probe): every algorithm that neither splits the inputs nor wants a workspace gives
// the same bits, whatever its tile and whatever the number of rows, while those that split differ from
// it and from each other. So the library's first choice among the former is taken for each power of
// two of rows. linear_bits_test.cc holds this. (In f32 its algorithms differ: simt_matmul.cu.)
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

  // Whether this takes the matrix: bf16, and cuBLASLt wants rows that start at multiples of 16 bytes.
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
  // By outputs, inputs, bucket of rows.
  std::map<std::tuple<int, int, int>, std::unique_ptr<Plan>> plans_;
};

}  // namespace pregate::cuda
