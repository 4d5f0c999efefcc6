#include "common/collective/any/device_collectives.h"

#ifdef PREGATE_CUDA
#include "common/collective/nccl/nccl_factory.h"
#include "common/device/cuda/cuda_device.h"
#endif

namespace pregate {

std::unique_ptr<CollectiveFactory> MakeDeviceCollectives(Device* device,
                                                         [[maybe_unused]] bool windows) {
#ifdef PREGATE_CUDA
  if (const auto* cuda = dynamic_cast<CudaDevice*>(device)) {
    return MakeNcclFactory({.device = cuda->ordinal(),
                            .stream = static_cast<cudaStream_t>(cuda->stream()),
                            .windows = windows});
  }
#endif
  return nullptr;
}

}  // namespace pregate
