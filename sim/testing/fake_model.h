// A model as pure arithmetic: every token depends on all tokens and routes before it, so any
// mistake in tokens, routes, positions, seeds or KV blocks changes what comes out.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "common/base/ids.h"
#include "sim/mix.h"

namespace pregate::scheduler {

struct FakeModel {
  int32_t vocab_size = 48;
  int32_t num_experts = 5;  // 0: dense
  int32_t repeating = 0;    // percent of samples that are what stood kPeriod tokens before
  uint64_t weights = 0;     // other weights draw other tokens

  // The state after one more token: all that the model knows of a prefix.
  struct State {
    uint64_t router = 1;    // over tokens
    uint64_t backbone = 2;  // over tokens and routes
    bool operator==(const State&) const = default;
  };
  ExpertId RouteOf(const State& before, TokenId token) const {
    if (num_experts == 0) return kNoRoute;
    return static_cast<ExpertId>((sim::Mix(before.router, token) >> 20) % num_experts);
  }
  State After(const State& before, TokenId token, ExpertId route) const {
    return {sim::Mix(before.router, token), sim::Mix(before.backbone, sim::Mix(token, route))};
  }
  TokenId SampleAt(const State& state, int32_t position, uint64_t seed) const {
    seed += weights;
    const uint64_t drawn = sim::Mix(sim::Mix(state.backbone, seed), position) >> 20;
    const bool repeats = static_cast<int32_t>(drawn / vocab_size % 100) < repeating;
    return repeats ? Repeated(position, seed) : static_cast<TokenId>(drawn % vocab_size);
  }
  // The same where some tokens may not be: the next one that may.
  TokenId SampleAt(const State& state, int32_t position, uint64_t seed,
                   const std::vector<TokenId>& banned) const {
    TokenId token = SampleAt(state, position, seed);
    while (std::find(banned.begin(), banned.end(), token) != banned.end()) {
      token = (token + 1) % vocab_size;
    }
    return token;
  }
  float LogprobOf(const State& state, TokenId token) const {
    return -0.01f * static_cast<float>(sim::Mix(state.backbone, token) % 1000);
  }
  static constexpr int32_t kPeriod = 7;
  TokenId Repeated(int32_t position, uint64_t seed) const {
    return static_cast<TokenId>((sim::Mix(seed, position % kPeriod) >> 20) % vocab_size);
  }
};

}  // namespace pregate::scheduler
