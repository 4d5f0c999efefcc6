// Synthetic routes: a Markov chain over experts. A token keeps its predecessor's expert with
// probability `locality` (the paper measured 0.71), else it goes to any other, each as likely.
#pragma once

#include <cstdint>

#include "common/base/ids.h"
#include "sim/mix.h"

namespace pregate::sim {

struct RouteChain {
  static constexpr int32_t kVocab = 1 << 22;  // ids are drawn evenly, so an id is a random number

  uint64_t seed = 0;
  double locality = 0.71;
  int32_t num_experts = 1;

  // `before`: the route of the token before, kNoRoute for the first.
  ExpertId Next(ExpertId before, TokenId token) const {
    const uint64_t draw = Mix(seed, token);
    if (before == kNoRoute) return static_cast<ExpertId>(draw % num_experts);
    const double unit = static_cast<double>(draw >> 11) * 0x1p-53;
    if (unit < locality || num_experts == 1) return before;
    return static_cast<ExpertId>((before + 1 + Mix(draw, 1) % (num_experts - 1)) % num_experts);
  }
};

inline TokenId DrawToken(uint64_t seed, uint64_t position) {
  return static_cast<TokenId>(Mix(seed, position) % RouteChain::kVocab);
}

}  // namespace pregate::sim
