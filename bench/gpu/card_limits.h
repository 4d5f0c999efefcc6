// What the card at hand can do: the ceilings under which every step's time stands.
#pragma once

#include "absl/status/statusor.h"
#include "common/device/cuda/cuda_device.h"

namespace pregate {

struct CardLimits {
  double copy_tb_per_s = 0;  // device to device, bytes read plus bytes written
  double read_tb_per_s = 0;  // by a kernel that only reads (read_memory.cu), as decode mostly does
  double bf16_tflop_per_s = 0;  // a square product of kSquare, random data, through Linear
};

// Takes about 9 GiB of the card's memory for its duration.
absl::StatusOr<CardLimits> MeasureCard(CudaDevice& device);

}  // namespace pregate
