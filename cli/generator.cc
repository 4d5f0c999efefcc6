#include "cli/generator.h"

namespace pregate::cli {

void TokenTimer::Add(size_t num_tokens) {
  if (num_tokens == 0) return;
  last_ = absl::Now();
  if (num_tokens_ == 0) {
    first_ = last_;
    num_first_ = num_tokens;
  }
  num_tokens_ += num_tokens;
}

void TokenTimer::Report(GenerateOutcome* outcome) const {
  if (num_tokens_ == 0) return;
  outcome->ttft_s = absl::ToDoubleSeconds(first_ - start_);
  const double decode_s = absl::ToDoubleSeconds(last_ - first_);
  outcome->tokens_per_s = num_tokens_ > num_first_ && decode_s > 0
                              ? static_cast<double>(num_tokens_ - num_first_) / decode_s
                              : static_cast<double>(num_tokens_) / outcome->ttft_s;
}

}  // namespace pregate::cli
