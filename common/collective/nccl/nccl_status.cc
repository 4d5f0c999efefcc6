#include "common/collective/nccl/nccl_status.h"

#include "absl/strings/str_cat.h"

namespace pregate {
namespace {

absl::StatusCode CodeOf(ncclResult_t result) {
  switch (result) {
    case ncclRemoteError:
    case ncclSystemError:
      return absl::StatusCode::kUnavailable;
    case ncclInvalidArgument:
    case ncclInvalidUsage:
      return absl::StatusCode::kInvalidArgument;
    default:
      return absl::StatusCode::kInternal;
  }
}

}  // namespace

absl::Status NcclStatus(ncclResult_t result, ncclComm_t comm, const char* doing) {
  if (result == ncclSuccess || result == ncclInProgress) return absl::OkStatus();
  return absl::Status(CodeOf(result),
                      absl::StrCat("nccl: ", doing, ": ", ncclGetErrorString(result), ": ",
                                   ncclGetLastError(comm)));
}

absl::Status CudaStatus(cudaError_t result, const char* doing) {
  if (result == cudaSuccess) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("cuda: ", doing, ": ", cudaGetErrorString(result)));
}

}  // namespace pregate
