// Sampling parameters as a struct and as the message that clients and plans have in common.
#pragma once

#include "common/step/sampling.h"
#include "pregate/v1/inference.pb.h"

namespace pregate {

// Fields that are not set are off. Ranges are CheckSampling's.
SamplingParams DecodeSampling(const v1::Sampling& in);
// All fields but the seed.
void EncodeSampling(const SamplingParams& sampling, v1::Sampling* out);

}  // namespace pregate
