// A model as pure arithmetic: every token depends on all tokens and routes before it, so any
// mistake in tokens, routes, positions, seeds or KV blocks changes what comes out.
#pragma once

#include <cstdint>

#include "common/base/ids.h"

namespace pregate::scheduler {

inline uint64_t MixHash(uint64_t a, uint64_t b) {
  uint64_t z = a * 0x9E3779B97F4A7C15 + b + 0x632BE59BD9B4E019;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

struct FakeModel {
  int32_t vocab_size = 48;
  int32_t num_experts = 5;  // 0: dense

  // The state after one more token: all that the model knows of a prefix.
  struct State {
    uint64_t router = 1;    // over tokens
    uint64_t backbone = 2;  // over tokens and routes
  };
  ExpertId RouteOf(const State& before, TokenId token) const {
    if (num_experts == 0) return kNoRoute;
    return static_cast<ExpertId>((MixHash(before.router, token) >> 20) % num_experts);
  }
  State After(const State& before, TokenId token, ExpertId route) const {
    return {MixHash(before.router, token), MixHash(before.backbone, MixHash(token, route))};
  }
  TokenId SampleAt(const State& state, int32_t position, uint64_t seed, int32_t prompt_len) const {
    return static_cast<TokenId>(
        (MixHash(MixHash(state.backbone, seed), MixHash(position, prompt_len)) >> 20) % vocab_size);
  }
};

}  // namespace pregate::scheduler
