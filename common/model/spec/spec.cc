#include "common/model/spec/spec.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "common/base/limits.h"
#include "common/base/status.h"

namespace pregate {

const char* DTypeName(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "f32";
    case DType::kF16:
      return "f16";
    case DType::kBF16:
      return "bf16";
  }
  return "?";
}

absl::StatusOr<DType> ParseDType(std::string_view name) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    if (name == DTypeName(dtype)) return dtype;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("dtype \"", std::string(name.substr(0, 32)), "\" is none of f32, f16, bf16"));
}

size_t DTypeBytes(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

namespace {

absl::Status CheckRange(const char* field, int64_t value, int64_t min, int64_t max) {
  if (value >= min && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("model: ", field, " = ", value, " is outside [", min, ", ", max, "]"));
}

absl::Status CheckPositive(const char* field, float value) {
  if (std::isfinite(value) && value > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("model: ", field, " = ", value, " is not a positive finite number"));
}

absl::Status CheckMultiple(const char* field, int value, const char* of_field, int of) {
  if (value % of == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("model: ", field, " = ", value, " is no multiple of ", of_field, " = ", of));
}

absl::Status ValidateRopeScaling(const RopeScaling& scaling, int head_dim) {
  if (!scaling.factors.empty()) {
    RETURN_IF_ERROR(CheckRange("rope_scaling.factors", static_cast<int64_t>(scaling.factors.size()),
                               head_dim / 2, head_dim / 2));
    for (const float factor : scaling.factors) {
      RETURN_IF_ERROR(CheckPositive("rope_scaling.factors", factor));
    }
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(CheckPositive("rope_scaling.factor", scaling.factor));
  RETURN_IF_ERROR(CheckPositive("rope_scaling.low_freq_factor", scaling.low_freq_factor));
  RETURN_IF_ERROR(CheckPositive("rope_scaling.high_freq_factor", scaling.high_freq_factor));
  if (scaling.high_freq_factor <= scaling.low_freq_factor) {
    return absl::InvalidArgumentError(
        absl::StrCat("model: rope_scaling.high_freq_factor = ", scaling.high_freq_factor,
                     " is not above low_freq_factor = ", scaling.low_freq_factor));
  }
  return CheckRange("rope_scaling.original_max_position", scaling.original_max_position, 1,
                    kPositionMax);
}

absl::Status ValidateAttention(const ModelSpec& spec) {
  RETURN_IF_ERROR(CheckRange("num_heads", spec.num_heads, 1, kHeadsMax));
  RETURN_IF_ERROR(CheckRange("num_kv_heads", spec.num_kv_heads, 1, kHeadsMax));
  RETURN_IF_ERROR(CheckMultiple("num_heads", spec.num_heads, "num_kv_heads", spec.num_kv_heads));
  RETURN_IF_ERROR(CheckRange("head_dim", spec.head_dim, 2, kHeadDimMax));
  RETURN_IF_ERROR(CheckMultiple("head_dim", spec.head_dim, "two, for RoPE,", 2));
  RETURN_IF_ERROR(CheckRange("max_position", spec.max_position, 1, kPositionMax));
  RETURN_IF_ERROR(CheckPositive("rope_theta", spec.rope_theta));
  if (spec.rope_scaling) return ValidateRopeScaling(*spec.rope_scaling, spec.head_dim);
  return absl::OkStatus();
}

absl::Status ValidateTokens(const ModelSpec& spec) {
  RETURN_IF_ERROR(
      CheckRange("eos_tokens", static_cast<int64_t>(spec.eos_tokens.size()), 0, kEosTokensMax));
  if (spec.bos_token) {
    RETURN_IF_ERROR(CheckRange("bos_token", *spec.bos_token, 0, spec.vocab_size - 1));
  }
  for (const TokenId id : spec.eos_tokens) {
    RETURN_IF_ERROR(CheckRange("eos_tokens", id, 0, spec.vocab_size - 1));
  }
  return absl::OkStatus();
}

absl::Status ValidateRouter(const RouterSpec& router) {
  RETURN_IF_ERROR(CheckRange("router.num_layers", router.num_layers, 1, kRouterLayersMax));
  RETURN_IF_ERROR(CheckRange("router.num_heads", router.num_heads, 1, kHeadsMax));
  RETURN_IF_ERROR(CheckRange("router.hidden", router.hidden, 2, kRouterHiddenMax));
  RETURN_IF_ERROR(
      CheckMultiple("router.hidden", router.hidden, "router.num_heads", router.num_heads));
  RETURN_IF_ERROR(CheckMultiple("router.head_dim", router.head_dim(), "two, for RoPE,", 2));
  RETURN_IF_ERROR(CheckRange("router.intermediate", router.intermediate, 1, kRouterHiddenMax));
  RETURN_IF_ERROR(CheckPositive("router.rms_eps", router.rms_eps));
  RETURN_IF_ERROR(CheckPositive("router.rope_theta", router.rope_theta));
  return CheckPositive("router.normalizer", router.normalizer);
}

absl::Status ValidateExperts(const ModelSpec& spec) {
  RETURN_IF_ERROR(CheckRange("num_experts", spec.num_experts, 0, kExpertsMax));
  if (!spec.is_moe()) {
    if (spec.router || !spec.shared_width.empty() || !spec.own_width.empty()) {
      return absl::InvalidArgumentError(
          "model: num_experts = 0, yet there are experts' widths or a router");
    }
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(CheckRange("shared_width entries", static_cast<int64_t>(spec.shared_width.size()),
                             spec.num_layers, spec.num_layers));
  RETURN_IF_ERROR(CheckRange("own_width entries", static_cast<int64_t>(spec.own_width.size()),
                             spec.num_layers, spec.num_layers));
  RETURN_IF_ERROR(CheckRange("num_layers x num_experts x 3",
                             int64_t{3} * spec.num_layers * spec.num_experts, 1, kTensorsMax));
  for (int l = 0; l < spec.num_layers; ++l) {
    RETURN_IF_ERROR(CheckRange("shared_width", spec.shared_width[l], 0, kFfnWidthMax));
    RETURN_IF_ERROR(CheckRange("own_width", spec.own_width[l], 1, kFfnWidthMax));
  }
  if (!spec.router) {
    return absl::InvalidArgumentError(
        absl::StrCat("model: num_experts = ", spec.num_experts, ", yet there is no router"));
  }
  return ValidateRouter(*spec.router);
}

}  // namespace

absl::Status ValidateSpec(const ModelSpec& spec) {
  RETURN_IF_ERROR(CheckRange("vocab_size", spec.vocab_size, 1, kVocabSizeMax));
  RETURN_IF_ERROR(CheckRange("hidden", spec.hidden, 1, kHiddenMax));
  RETURN_IF_ERROR(CheckRange("intermediate", spec.intermediate, 1, kFfnWidthMax));
  RETURN_IF_ERROR(CheckRange("num_layers", spec.num_layers, 1, kLayersMax));
  RETURN_IF_ERROR(CheckPositive("rms_eps", spec.rms_eps));
  RETURN_IF_ERROR(ValidateAttention(spec));
  RETURN_IF_ERROR(ValidateTokens(spec));
  return ValidateExperts(spec);
}

namespace {

float ScaledFrequency(float plain, int i, const RopeScaling& scaling) {
  if (!scaling.factors.empty()) return plain / scaling.factors[i];
  // The number of turns that this frequency makes over the original context decides.
  const float turns =
      static_cast<float>(scaling.original_max_position) * plain / (2 * std::numbers::pi_v<float>);
  const float low = scaling.low_freq_factor, high = scaling.high_freq_factor;
  const float keep = std::clamp((turns - low) / (high - low), 0.0f, 1.0f);
  return keep * plain + (1 - keep) * plain / scaling.factor;
}

}  // namespace

std::vector<float> RopeInverseFrequencies(int head_dim, float theta,
                                          const std::optional<RopeScaling>& scaling) {
  std::vector<float> inv_freq(head_dim / 2);
  for (int i = 0; i < head_dim / 2; ++i) {
    // Rounded to f32 where PyTorch rounds: the angle at a late position magnifies every last bit.
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(head_dim);
    const float plain = 1.0f / static_cast<float>(std::pow(static_cast<double>(theta), exponent));
    inv_freq[i] = scaling ? ScaledFrequency(plain, i, *scaling) : plain;
  }
  return inv_freq;
}

}  // namespace pregate
