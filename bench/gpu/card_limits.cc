#include "bench/gpu/card_limits.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "bench/gpu/read_memory.h"
#include "common/base/status.h"
#include "common/device/cuda/cuda_status.h"
#include "common/device/rounding.h"

namespace pregate {
namespace {

constexpr int kSquare = 8192;
constexpr size_t kCopyBytes = size_t{4} << 30;  // and those that are read

// Milliseconds of one `run`, the median of nine.
absl::StatusOr<double> MedianMs(CudaDevice& device, const std::function<void()>& run) {
  constexpr int kRepeats = 9;
  const auto stream = static_cast<cudaStream_t>(device.stream());
  cudaEvent_t events[kRepeats + 1];
  for (cudaEvent_t& e : events) {
    RETURN_IF_ERROR(cuda::CudaStatus(cudaEventCreate(&e), "cudaEventCreate"));
  }
  for (int i = 0; i < 3; ++i) run();
  cudaEventRecord(events[0], stream);
  for (int i = 0; i < kRepeats; ++i) {
    run();
    cudaEventRecord(events[i + 1], stream);
  }
  RETURN_IF_ERROR(device.Synchronize());
  std::vector<float> ms(kRepeats);
  for (int i = 0; i < kRepeats; ++i) cudaEventElapsedTime(&ms[i], events[i], events[i + 1]);
  for (cudaEvent_t e : events) cudaEventDestroy(e);
  std::nth_element(ms.begin(), ms.begin() + kRepeats / 2, ms.end());
  return ms[kRepeats / 2];
}

absl::StatusOr<double> CopyTbPerS(CudaDevice& device) {
  ASSIGN_OR_RETURN(const DeviceBuffer from, device.Allocate(kCopyBytes));
  ASSIGN_OR_RETURN(const DeviceBuffer to, device.Allocate(kCopyBytes));
  ASSIGN_OR_RETURN(const double ms, MedianMs(device, [&] {
                     cudaMemcpyAsync(to.as<void>(), from.as<void>(), kCopyBytes,
                                     cudaMemcpyDeviceToDevice,
                                     static_cast<cudaStream_t>(device.stream()));
                   }));
  return 2.0 * kCopyBytes / ms / 1e9;
}

absl::StatusOr<double> ReadTbPerS(CudaDevice& device) {
  ASSIGN_OR_RETURN(const DeviceBuffer from, device.Allocate(kCopyBytes));
  ASSIGN_OR_RETURN(const DeviceBuffer never, device.Allocate(sizeof(uint32_t)));
  int multiprocessors = 0;
  RETURN_IF_ERROR(cuda::CudaStatus(
      cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device.ordinal()),
      "cudaDeviceGetAttribute"));
  cudaError_t error = cudaSuccess;
  ASSIGN_OR_RETURN(const double ms, MedianMs(device, [&] {
                     const cudaError_t one =
                         ReadMemory(static_cast<cudaStream_t>(device.stream()), multiprocessors,
                                    from.as<void>(), kCopyBytes, never.as<uint32_t>());
                     if (error == cudaSuccess) error = one;
                   }));
  RETURN_IF_ERROR(cuda::CudaStatus(error, "reading memory"));
  return kCopyBytes / ms / 1e9;
}

absl::StatusOr<double> Bf16TflopPerS(CudaDevice& device) {
  std::vector<uint16_t> values(size_t{kSquare} * kSquare);
  uint64_t state = 1;
  for (uint16_t& v : values) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    v = Bf16Bits(static_cast<float>(static_cast<int64_t>(state)) * 0x1p-63f);
  }
  ASSIGN_OR_RETURN(const DeviceBuffer x, device.Allocate(values.size() * 2));
  ASSIGN_OR_RETURN(const DeviceBuffer w, device.Allocate(values.size() * 2));
  ASSIGN_OR_RETURN(const DeviceBuffer out, device.Allocate(values.size() * 4));
  ASSIGN_OR_RETURN(const DeviceBuffer num, device.Allocate(sizeof(int32_t)));
  const int32_t rows = kSquare;
  device.Upload(num.as<void>(), &rows, sizeof(rows));
  device.Upload(x.as<void>(), values.data(), values.size() * 2);
  device.Upload(w.as<void>(), values.data(), values.size() * 2);
  const Matrix matrix = {w.as<void>(), kSquare, kSquare, WeightFormat::kBF16};
  ASSIGN_OR_RETURN(const double ms, MedianMs(device, [&] {
                     device.Linear({num.as<int32_t>(), kSquare}, ActType::kBF16, x.as<void>(),
                                   matrix, nullptr, out.as<float>());
                   }));
  return 2.0 * kSquare * kSquare * kSquare / ms / 1e9;
}

}  // namespace

absl::StatusOr<CardLimits> MeasureCard(CudaDevice& device) {
  CardLimits limits;
  ASSIGN_OR_RETURN(limits.copy_tb_per_s, CopyTbPerS(device));
  ASSIGN_OR_RETURN(limits.read_tb_per_s, ReadTbPerS(device));
  ASSIGN_OR_RETURN(limits.bf16_tflop_per_s, Bf16TflopPerS(device));
  return limits;
}

}  // namespace pregate
