#include "common/device/any/any_device.h"

#include "common/base/status.h"
#include "common/device/cpu/cpu_device.h"
#ifdef PREGATE_CUDA
#include "common/device/cuda/cuda_device.h"
#endif

namespace pregate {
namespace {

absl::StatusOr<std::unique_ptr<Device>> MakeCuda() {
#ifdef PREGATE_CUDA
  ASSIGN_OR_RETURN(std::unique_ptr<Device> device, MakeCudaDevice({}));
  return device;
#else
  return absl::FailedPreconditionError(
      "device cuda: this program was built without it (-DPREGATE_CUDA=ON needs nvcc)");
#endif
}

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> MakeDevice(const std::string& name, int threads) {
  if (name == "cpu") return MakeCpuDevice({.threads = threads});
  if (name == "cuda") return MakeCuda();
  return absl::InvalidArgumentError(absl::StrCat("device '", name, "' is neither cpu nor cuda"));
}

}  // namespace pregate
