#include "common/device/cuda/upload_lane.h"

#include <utility>

#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/device/cuda/cuda_status.h"

namespace pregate::cuda {
namespace {

// While one is filled others wait for the link, which all lanes share, or are copied.
constexpr size_t kSegments = 3;
static_assert(kLoadThreadsMax * kSegments * kStagedSegmentBytes <= kStagedWeightBytesMax);

}  // namespace

absl::StatusOr<std::unique_ptr<UploadLane>> UploadLane::Create(CudaRuntime* runtime) {
  std::unique_ptr<UploadLane> lane(new UploadLane(runtime->ordinal()));
  ASSIGN_OR_RETURN(lane->memory_, runtime->AllocateHost(kSegments * kStagedSegmentBytes));
  RETURN_IF_ERROR(CudaStatus(cudaStreamCreateWithFlags(&lane->stream_, cudaStreamNonBlocking),
                             "cudaStreamCreate"));
  for (size_t i = 0; i < kSegments; ++i) {
    lane->copied_.emplace_back(/*timed=*/false, /*sleeps=*/true);
  }
  return lane;
}

UploadLane::~UploadLane() {
  if (stream_ == nullptr) return;
  cudaSetDevice(ordinal_);
  cudaStreamSynchronize(stream_);
  cudaStreamDestroy(stream_);
}

std::byte* UploadLane::Take() {
  Note(cudaSetDevice(ordinal_), "cudaSetDevice");  // in this thread
  current_ = (current_ + 1) % kSegments;
  Note(cudaEventSynchronize(copied_[current_].get()), "cudaEventSynchronize");
  return segment();
}

void UploadLane::Copy(void* dst, size_t bytes) {
  Note(cudaMemcpyAsync(dst, segment(), bytes, cudaMemcpyHostToDevice, stream_),
       "cudaMemcpyAsync of weights");
  Note(cudaEventRecord(copied_[current_].get(), stream_), "cudaEventRecord");
}

absl::Status UploadLane::Finish() {
  Note(cudaSetDevice(ordinal_), "cudaSetDevice");
  Note(cudaStreamSynchronize(stream_), "copies of weights");
  return std::exchange(status_, absl::OkStatus());
}

void UploadLane::Note(cudaError_t error, const char* what) {
  if (error != cudaSuccess) status_.Update(CudaStatus(error, what));
}

}  // namespace pregate::cuda
