// Device memory that operations work in, one after the other.
#pragma once

#include <limits>
#include <utility>

#include "common/base/status.h"
#include "common/device/cuda/device_runtime.h"

namespace pregate::cuda {

// Grows to the largest size ever asked for. Not thread-safe; the runtime outlives it.
class Scratch {
 public:
  explicit Scratch(CudaRuntime* runtime) : runtime_(*runtime) {}

  // At least `bytes`, zeroed whenever it grew; null, with the error noted, when there is no memory.
  void* Get(size_t bytes) {
    runtime_.Note(Grow(bytes));
    return memory_.bytes() >= bytes ? memory_.as<void>() : nullptr;
  }
  // The same for whoever can do without: no error is noted, and what there was no memory for is not
  // asked for again.
  void* TryGet(size_t bytes) {
    if (bytes >= refused_bytes_) return nullptr;
    if (Grow(bytes).ok()) return memory_.as<void>();
    refused_bytes_ = bytes;
    return nullptr;
  }

 private:
  absl::Status Grow(size_t bytes) {
    if (memory_.as<void>() != nullptr && memory_.bytes() >= bytes) return absl::OkStatus();
    ASSIGN_OR_RETURN(DeviceBuffer grown, runtime_.Allocate(bytes));
    memory_ = std::move(grown);  // Allocate has waited for what used the old one
    return absl::OkStatus();
  }

  CudaRuntime& runtime_;
  DeviceBuffer memory_;
  size_t refused_bytes_ = std::numeric_limits<size_t>::max();
};

}  // namespace pregate::cuda
