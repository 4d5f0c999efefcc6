// Device memory that operations work in, one after the other.
#pragma once

#include <utility>

#include "common/device/cuda/device_runtime.h"

namespace pregate::cuda {

// Grows to the largest size ever asked for. Not thread-safe; the runtime outlives it.
class Scratch {
 public:
  explicit Scratch(CudaRuntime* runtime) : runtime_(*runtime) {}

  // At least `bytes`, zeroed whenever it grew; null, with the error noted, when there is no memory.
  void* Get(size_t bytes) {
    if (memory_.as<void>() != nullptr && memory_.bytes() >= bytes) return memory_.as<void>();
    absl::StatusOr<DeviceBuffer> grown = runtime_.Allocate(bytes);
    if (!grown.ok()) {
      runtime_.Note(grown.status());
      return nullptr;
    }
    memory_ = *std::move(grown);  // Allocate has waited for what used the old one
    return memory_.as<void>();
  }

 private:
  CudaRuntime& runtime_;
  DeviceBuffer memory_;
};

}  // namespace pregate::cuda
