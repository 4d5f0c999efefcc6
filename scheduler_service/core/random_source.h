// Randomness is injected: the engine draws from a source that its maker seeds, the simulator too.
#pragma once

#include <cstdint>

namespace pregate::scheduler {

class RandomSource {
 public:
  virtual ~RandomSource() = default;
  virtual uint64_t Next() = 0;
};

// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): 64 uniform bits a call, any seed is good. Draws
// seeds, not secrets.
class SplitMix64 final : public RandomSource {
 public:
  explicit SplitMix64(uint64_t seed) : state_(seed) {}
  uint64_t Next() override {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }

 private:
  uint64_t state_;
};

}  // namespace pregate::scheduler
