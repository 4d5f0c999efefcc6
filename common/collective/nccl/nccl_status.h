// What NCCL and the CUDA runtime say, as Status (docs/CONTRACTS.md, "Limits and conduct").
#pragma once

#include <cuda_runtime_api.h>
#include <nccl.h>

#include "absl/status/status.h"

namespace pregate {

// OK for success and for ncclInProgress, which the caller polls. UNAVAILABLE for a peer's or the
// network's failure, INVALID_ARGUMENT, else INTERNAL; with NCCL's text and its last error.
// `comm` may be null.
absl::Status NcclStatus(ncclResult_t result, ncclComm_t comm, const char* doing);

absl::Status CudaStatus(cudaError_t result, const char* doing);

}  // namespace pregate
