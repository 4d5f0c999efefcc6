// Errors of CUDA and cuBLAS as Status, with the vendor's own text. The only place that makes them.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace pregate::cuda {

// `what` names the call, for example "cudaMalloc of 512 bytes". OK for cudaSuccess. Out of memory
// becomes RESOURCE_EXHAUSTED, no usable card or driver UNAVAILABLE, what ends the process' use of the
// card DATA_LOSS, the rest INTERNAL.
absl::Status CudaStatus(cudaError_t error, absl::string_view what);
absl::Status CublasStatus(cublasStatus_t error, absl::string_view what);

}  // namespace pregate::cuda
