#include "common/rpc/sampling_codec.h"

namespace pregate {

SamplingParams DecodeSampling(const v1::Sampling& in) {
  SamplingParams sampling;  // whose defaults are "off"
  if (in.has_temperature()) sampling.temperature = in.temperature();
  if (in.has_top_k()) sampling.top_k = in.top_k();
  if (in.has_top_p()) sampling.top_p = in.top_p();
  if (in.has_min_p()) sampling.min_p = in.min_p();
  if (in.has_repetition_penalty()) sampling.repetition_penalty = in.repetition_penalty();
  return sampling;
}

void EncodeSampling(const SamplingParams& sampling, v1::Sampling* out) {
  out->set_temperature(sampling.temperature);
  out->set_top_k(sampling.top_k);
  out->set_top_p(sampling.top_p);
  out->set_min_p(sampling.min_p);
  out->set_repetition_penalty(sampling.repetition_penalty);
}

}  // namespace pregate
