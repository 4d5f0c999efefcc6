// The CUDA device: cuBLASLt for dense products, one kernel a file for the rest (kernels.h), bf16 or
// f32 weights, f32 sums, one stream.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "common/device/composed_device.h"

namespace pregate {

struct CudaDeviceOptions {
  int ordinal = 0;  // as CUDA numbers the cards
  // False: steps of few rows are a few launches a layer as well, with the same bits, which a trace can
  // tell apart (docs/adr/0015, 0016).
  bool step_kernel = true;
};

// Since the device was made.
struct CudaCounts {
  int64_t allocations = 0;       // of device or pinned memory
  int64_t synchronizations = 0;  // waits of the host for the card
  int64_t launches = 0;          // kernels and library products
  bool operator==(const CudaCounts&) const = default;
};

// `act` buffers hold elements of the operation's ActType. Between two calls of Synchronize, up to
// 64 MiB of uploads and 16 MiB of downloads go through pinned memory without waiting.
class CudaDevice : public ComposedDevice {
 public:
  virtual CudaCounts counts() const = 0;
  virtual void* stream() const = 0;  // a cudaStream_t
  virtual int ordinal() const = 0;   // of the card
};

// UNAVAILABLE, with CUDA's text, where there is no card or no driver.
absl::StatusOr<std::unique_ptr<CudaDevice>> MakeCudaDevice(const CudaDeviceOptions& options);

}  // namespace pregate
