#include "common/rpc/sampling_codec.h"

#include <algorithm>

namespace pregate {

SamplingParams DecodeSampling(const v1::Sampling& in) {
  SamplingParams sampling;  // whose defaults are "off"
  if (in.has_temperature()) sampling.temperature = in.temperature();
  if (in.has_top_k()) sampling.top_k = in.top_k();
  if (in.has_top_p()) sampling.top_p = in.top_p();
  if (in.has_min_p()) sampling.min_p = in.min_p();
  if (in.has_repetition_penalty()) sampling.repetition_penalty = in.repetition_penalty();
  if (in.has_frequency_penalty()) sampling.frequency_penalty = in.frequency_penalty();
  if (in.has_presence_penalty()) sampling.presence_penalty = in.presence_penalty();
  return sampling;
}

void EncodeSampling(const SamplingParams& sampling, v1::Sampling* out) {
  out->set_temperature(sampling.temperature);
  out->set_top_k(sampling.top_k);
  out->set_top_p(sampling.top_p);
  out->set_min_p(sampling.min_p);
  out->set_repetition_penalty(sampling.repetition_penalty);
  out->set_frequency_penalty(sampling.frequency_penalty);
  out->set_presence_penalty(sampling.presence_penalty);
}

std::vector<LogitBias> DecodeLogitBias(const v1::Sampling& in) {
  std::vector<LogitBias> biases;
  for (const auto& [token, bias] : in.logit_bias()) biases.push_back({token, bias});
  std::sort(biases.begin(), biases.end(),
            [](const LogitBias& a, const LogitBias& b) { return a.token < b.token; });
  return biases;
}

void EncodeLogitBias(absl::Span<const LogitBias> biases, v1::Sampling* out) {
  for (const LogitBias& entry : biases) (*out->mutable_logit_bias())[entry.token] = entry.bias;
}

}  // namespace pregate
