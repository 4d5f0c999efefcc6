#include "common/device/cuda/staging.h"

#include <algorithm>
#include <cstring>

#include "common/base/status.h"

namespace pregate::cuda {
namespace {

constexpr size_t kSegmentBytes = size_t{4} << 20;
constexpr size_t kSegments = 16;
constexpr size_t kDownloadBytes = size_t{16} << 20;
constexpr size_t kAlignment = 64;

size_t RoundUp(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

absl::StatusOr<std::unique_ptr<UploadRing>> UploadRing::Create(CudaRuntime* runtime) {
  std::unique_ptr<UploadRing> ring(new UploadRing(runtime));
  ASSIGN_OR_RETURN(ring->memory_, runtime->AllocateHost(kSegments * kSegmentBytes));
  for (size_t i = 0; i < kSegments; ++i) ring->done_.emplace_back(/*timed=*/false);
  ring->pending_.resize(kSegments);
  return ring;
}

void UploadRing::Upload(void* dst, const void* host_src, size_t bytes) {
  while (bytes > 0) {
    if (used_ == kSegmentBytes) NextSegment();
    const size_t part = std::min(bytes, kSegmentBytes - used_);
    char* staged = memory_.as<char>() + segment_ * kSegmentBytes + used_;
    std::memcpy(staged, host_src, part);
    runtime_.Note(cudaMemcpyAsync(dst, staged, part, cudaMemcpyHostToDevice, runtime_.handle()),
                  "cudaMemcpyAsync to the device");
    used_ = std::min(kSegmentBytes, used_ + RoundUp(part));
    dst = static_cast<char*>(dst) + part;
    host_src = static_cast<const char*>(host_src) + part;
    bytes -= part;
  }
}

void UploadRing::NextSegment() {
  runtime_.Note(cudaEventRecord(done_[segment_].get(), runtime_.handle()), "cudaEventRecord");
  pending_[segment_] = true;
  segment_ = (segment_ + 1) % kSegments;
  used_ = 0;
  if (pending_[segment_] && !done_[segment_].Passed()) runtime_.WaitFor(done_[segment_].get());
  pending_[segment_] = false;
}

void UploadRing::Reset() {
  segment_ = used_ = 0;
  std::fill(pending_.begin(), pending_.end(), false);
}

absl::StatusOr<std::unique_ptr<DownloadBuffer>> DownloadBuffer::Create(CudaRuntime* runtime) {
  std::unique_ptr<DownloadBuffer> buffer(new DownloadBuffer(runtime));
  ASSIGN_OR_RETURN(buffer->memory_, runtime->AllocateHost(kDownloadBytes));
  return buffer;
}

void DownloadBuffer::Download(void* host_dst, const void* src, size_t bytes) {
  while (bytes > 0) {
    if (used_ == kDownloadBytes) {
      runtime_.Note(runtime_.Synchronize());
      Deliver();
    }
    const size_t part = std::min(bytes, kDownloadBytes - used_);
    char* staged = memory_.as<char>() + used_;
    runtime_.Note(cudaMemcpyAsync(staged, src, part, cudaMemcpyDeviceToHost, runtime_.handle()),
                  "cudaMemcpyAsync to the host");
    pending_.push_back({host_dst, staged, part});
    used_ = std::min(kDownloadBytes, used_ + RoundUp(part));
    host_dst = static_cast<char*>(host_dst) + part;
    src = static_cast<const char*>(src) + part;
    bytes -= part;
  }
}

void DownloadBuffer::Deliver() {
  for (const Pending& p : pending_) std::memcpy(p.host_dst, p.staged, p.bytes);
  pending_.clear();
  used_ = 0;
}

}  // namespace pregate::cuda
