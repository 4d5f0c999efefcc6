// How a next token is drawn: Gumbel-max over filtered logits, with Philox as the source
// (docs/CONTRACTS.md, "Sampling").
#pragma once

#include <cstdint>

#include "common/base/ids.h"

// What a kernel may call too.
#ifdef __CUDACC__
#define PREGATE_HOST_DEVICE __host__ __device__
#else
#define PREGATE_HOST_DEVICE
#endif

namespace pregate {

// Order: the row's mask and bans leave tokens out, bias, repetition penalty, frequency and presence
// penalty, temperature, top-k, top-p, min-p; then Gumbel-max. temperature 0 is greedy: the lowest id
// among the largest logits after the penalties.
struct SamplingParams {
  float temperature = 0;
  int32_t top_k = 0;             // 0 = off
  float top_p = 1;               // 1 = off
  float min_p = 0;               // 0 = off
  float repetition_penalty = 1;  // over prompt and generated tokens; 1 = off
  // Over generated tokens: logit - (frequency x times generated + presence); 0 = off.
  float frequency_penalty = 0;
  float presence_penalty = 0;

  PREGATE_HOST_DEVICE bool counts_tokens() const {
    return frequency_penalty != 0 || presence_penalty != 0;
  }
  // Whether a token's logit depends on the tokens before it by more than the model.
  bool depends_on_tokens() const { return repetition_penalty != 1 || counts_tokens(); }
  bool operator==(const SamplingParams&) const = default;
};

// Added to a token's logit.
struct LogitBias {
  TokenId token = 0;
  float bias = 0;
  bool operator==(const LogitBias&) const = default;
};

struct PhiloxBlock {
  uint32_t lane[4];
};

// Philox4x32-10 (Salmon et al., SC 2011). Counter = (absolute position, vocabulary id / 4), key =
// seed.
PREGATE_HOST_DEVICE inline PhiloxBlock Philox(uint64_t seed, uint64_t position,
                                              uint64_t vocab_block) {
  uint32_t c[4] = {static_cast<uint32_t>(vocab_block), static_cast<uint32_t>(vocab_block >> 32),
                   static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32)};
  uint32_t k[2] = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * c[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57} * c[2];
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k[0];
    const uint32_t n2 = static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k[1];
    c[0] = n0;
    c[1] = static_cast<uint32_t>(p1);
    c[2] = n2;
    c[3] = static_cast<uint32_t>(p0);
    k[0] += 0x9E3779B9;
    k[1] += 0xBB67AE85;
  }
  return {{c[0], c[1], c[2], c[3]}};
}

// Uniform in (0, 1), never 0 or 1: 23 bits, centred. (With 24 the addition of a half would round.)
PREGATE_HOST_DEVICE inline float UniformOpen(uint32_t bits) {
  return (static_cast<float>(bits >> 9) + 0.5f) * (1.0f / 8388608.0f);
}

}  // namespace pregate
