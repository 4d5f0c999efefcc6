#include "scheduler_service/core/step_cost.h"

#include <algorithm>

namespace pregate::scheduler {
namespace {

constexpr double kFading = 0.99;
// The guess: one more token adds this share of the mean time a token.
constexpr double kGuessedShare = 0.2;
// What the guess weighs beside the measured spread, in tokens squared.
constexpr double kGuessWeight = 2;
// However flat the line looks, a token is not for nothing.
constexpr double kShareMin = 0.002;

}  // namespace

void StepCost::Observe(int32_t tokens, double microseconds) {
  const double n = tokens, t = std::max(microseconds, 1.0);
  for (double* sum : {&weight_, &tokens_, &time_, &tokens_tokens_, &tokens_time_}) *sum *= kFading;
  weight_ += 1;
  tokens_ += n;
  time_ += t;
  tokens_tokens_ += n * n;
  tokens_time_ += n * t;
  const double mean_n = tokens_ / weight_, mean_t = time_ / weight_;
  const double spread = std::max(tokens_tokens_ - tokens_ * mean_n, 0.0);
  const double together = tokens_time_ - time_ * mean_n;
  const double guess = kGuessedShare * mean_t / mean_n;
  const double slope = (together + kGuessWeight * guess) / (spread + kGuessWeight);
  per_token_ = std::clamp(slope, kShareMin * mean_t / mean_n, mean_t / mean_n);
  fixed_ = mean_t - per_token_ * mean_n;
}

}  // namespace pregate::scheduler
