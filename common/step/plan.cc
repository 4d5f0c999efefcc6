#include "common/step/plan.h"

#include "absl/strings/str_cat.h"
#include "common/base/limits.h"
#include "common/base/request_limits.h"
#include "common/base/status.h"

namespace pregate {
namespace {

// Written so that NaN fails too.
absl::Status CheckBetween(absl::string_view field, float value, float min, float max) {
  if (value >= min && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, " is ", value, ", must be ", min, "..", max));
}

}  // namespace

absl::Status CheckSampling(const SamplingParams& sampling) {
  RETURN_IF_ERROR(CheckBetween("temperature", sampling.temperature, 0, 1e6f));
  RETURN_IF_ERROR(CheckBetween("top_p", sampling.top_p, 0, 1));
  RETURN_IF_ERROR(CheckBetween("min_p", sampling.min_p, 0, 1));
  RETURN_IF_ERROR(CheckBetween("repetition_penalty", sampling.repetition_penalty, 1e-3f, 1e3f));
  RETURN_IF_ERROR(CheckBetween("frequency_penalty", sampling.frequency_penalty, -2, 2));
  RETURN_IF_ERROR(CheckBetween("presence_penalty", sampling.presence_penalty, -2, 2));
  if (sampling.top_k >= 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("top_k is ", sampling.top_k, ", must not be negative"));
}

absl::Status CheckLogitBias(absl::Span<const LogitBias> biases, int32_t vocab_size) {
  if (biases.size() > static_cast<size_t>(kLogitBiasMax)) {
    return absl::InvalidArgumentError(
        absl::StrCat("logit_bias has ", biases.size(), " tokens, at most ", kLogitBiasMax));
  }
  for (const LogitBias& entry : biases) {
    if (entry.token < 0 || entry.token >= vocab_size) {
      return absl::InvalidArgumentError(
          absl::StrCat("logit_bias names token ", entry.token, ", must be 0..", vocab_size - 1));
    }
    RETURN_IF_ERROR(
        CheckBetween(absl::StrCat("logit_bias[", entry.token, "]"), entry.bias, -100, 100));
  }
  return absl::OkStatus();
}

}  // namespace pregate
