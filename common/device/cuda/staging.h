// Pinned memory between the host's pageable buffers and the card, so that copies neither wait nor
// keep the caller's memory.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "common/device/cuda/device_runtime.h"

namespace pregate::cuda {

// A ring of segments; a segment is used again once its copies are done. Waits (counted) only when
// all segments are under way.
class UploadRing {
 public:
  static absl::StatusOr<std::unique_ptr<UploadRing>> Create(CudaRuntime* runtime);

  void Upload(void* dst, const void* host_src, size_t bytes);
  // After the stream was waited for: everything is free again.
  void Reset();

 private:
  explicit UploadRing(CudaRuntime* runtime) : runtime_(*runtime) {}
  void NextSegment();

  CudaRuntime& runtime_;
  DeviceBuffer memory_;
  std::vector<Event> done_;    // [segments]
  std::vector<bool> pending_;  // [segments] done_ was recorded and not yet seen
  size_t segment_ = 0, used_ = 0;
};

// Copies land here; Deliver, after the stream was waited for, brings them to the caller's memory.
class DownloadBuffer {
 public:
  static absl::StatusOr<std::unique_ptr<DownloadBuffer>> Create(CudaRuntime* runtime);

  // Waits (counted) when the buffer is full.
  void Download(void* host_dst, const void* src, size_t bytes);
  void Deliver();

 private:
  struct Pending {
    void* host_dst;
    const void* staged;
    size_t bytes;
  };
  explicit DownloadBuffer(CudaRuntime* runtime) : runtime_(*runtime) {}

  CudaRuntime& runtime_;
  DeviceBuffer memory_;
  size_t used_ = 0;
  std::vector<Pending> pending_;
};

}  // namespace pregate::cuda
