// How a thread beside the device's brings bytes to the card: pinned segments in turn, each copied on
// a stream of the lane's own, so that neither lanes nor the operations wait for one another.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "common/device/cuda/device_runtime.h"
#include "common/device/staged_writer.h"

namespace pregate::cuda {

// Made and destroyed by the device's thread; between that it belongs to one thread at a time, and
// leaves the runtime, which is not thread-safe, alone.
class UploadLane final : public Staging {
 public:
  static absl::StatusOr<std::unique_ptr<UploadLane>> Create(CudaRuntime* runtime);
  ~UploadLane() override;

  std::byte* Take() override;
  void Copy(void* dst, size_t bytes) override;
  absl::Status Finish() override;

 private:
  explicit UploadLane(int ordinal) : ordinal_(ordinal) {}
  std::byte* segment() const { return memory_.as<std::byte>() + current_ * kStagedSegmentBytes; }
  void Note(cudaError_t error, const char* what);

  const int ordinal_;
  DeviceBuffer memory_;
  cudaStream_t stream_ = nullptr;
  std::vector<Event> copied_;  // [segments] the last copy from it, if there was one, is done
  size_t current_ = 0;
  absl::Status status_;
};

}  // namespace pregate::cuda
