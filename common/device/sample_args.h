// What a device draws tokens from (common/step/sampling.h): state of sequences by slot, and rows.
// Plain enough for kernels.
#pragma once

#include <cstdint>

#include "common/step/sampling.h"

namespace pregate {

// What is added to a token's logit: early_bias at positions below early_until, bias from there on.
// Minus infinity: the token is not drawn.
struct TokenBias {
  TokenId token = 0;
  float early_bias = 0;
  float bias = 0;
};
struct TokenBiases {
  static constexpr int kMax = 1280;  // a request's logit_bias and bans (common/base/limits.h)
  int32_t num = 0;
  int32_t early_until = 0;
  TokenBias of[kMax];  // ascending by token
};

// What a sequence's tokens leave for the penalties, by slot. w = ceil(vocab / 32).
struct TokenHistory {
  uint32_t* seen = nullptr;  // [slots, w] bitmask of the tokens in prompt and generation
  // [slots] position from which tokens are counted; INT32_MAX: never.
  const int32_t* counted_from = nullptr;
  uint16_t* counts = nullptr;  // [slots, 32 w] how often each was counted, 65535 for more
};
inline int64_t SeenWords(int64_t vocab_size) { return (vocab_size + 31) / 32; }

// One token a row is drawn (common/step/sampling.h).
struct SampleArgs {
  const SamplingParams* params = nullptr;  // [slots]
  const uint64_t* seeds = nullptr;         // [slots]
  TokenHistory history;
  const TokenBiases* biases = nullptr;  // [slots]
  const uint32_t* allowed = nullptr;    // [slots, w] masks of the rows that are masked
  const int32_t* seq_slots = nullptr;   // [max]
  const int32_t* positions = nullptr;   // [max] of the token to be drawn
  const int32_t* masked = nullptr;  // [max] not 0: only tokens of the slot's mask, banned or not
  // out [max]: 1 where a raw logit is NaN or infinite (the token is then 0), else 0.
  uint8_t* not_finite = nullptr;
  int32_t* tokens = nullptr;  // out [max]
};

}  // namespace pregate
