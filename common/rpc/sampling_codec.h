// Sampling parameters as a struct and as the message that clients and plans have in common.
#pragma once

#include <vector>

#include "absl/types/span.h"
#include "common/step/sampling.h"
#include "pregate/v1/inference.pb.h"

namespace pregate {

// Fields that are not set are off. Ranges are CheckSampling's.
SamplingParams DecodeSampling(const v1::Sampling& in);
// All fields but the seed and the biases.
void EncodeSampling(const SamplingParams& sampling, v1::Sampling* out);

// Ascending by token.
std::vector<LogitBias> DecodeLogitBias(const v1::Sampling& in);
void EncodeLogitBias(absl::Span<const LogitBias> biases, v1::Sampling* out);

}  // namespace pregate
