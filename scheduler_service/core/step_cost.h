// What a decode step costs by the number of its tokens, learnt while serving.
#pragma once

#include <cstdint>

namespace pregate::scheduler {

// A line through what was measured, older steps fading (half of their weight after about 70). Where
// the number of tokens has not varied, the slope is a guess that is worth trying. Not thread-safe.
class StepCost {
 public:
  // REQUIRES: tokens > 0.
  void Observe(int32_t tokens, double microseconds);

  // Microseconds of a step of `tokens` tokens: positive, grows with them. Before anything was
  // observed only ratios mean something.
  double Of(double tokens) const { return fixed_ + per_token_ * tokens; }
  double per_token() const { return per_token_; }

 private:
  double weight_ = 0, tokens_ = 0, time_ = 0;  // sums
  double tokens_tokens_ = 0, tokens_time_ = 0;
  double fixed_ = 0.8, per_token_ = 0.2;
};

}  // namespace pregate::scheduler
