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

absl::Status ValidateFactors(const char* field, const std::vector<float>& factors, int half) {
  RETURN_IF_ERROR(CheckRange(field, static_cast<int64_t>(factors.size()), half, half));
  for (const float factor : factors) RETURN_IF_ERROR(CheckPositive(field, factor));
  return absl::OkStatus();
}

absl::Status CheckAbove(const char* field, float value, const char* of_field, float of) {
  if (value > of) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("model: ", field, " = ", value, " is not above ", of_field, " = ", of));
}

// Of each kind, what it reads.
absl::Status ValidateRopeScaling(const RopeScaling& scaling, int half) {
  using enum RopeScalingKind;
  const RopeScalingKind kind = scaling.kind;
  RETURN_IF_ERROR(CheckPositive("rope_scaling.attention_factor", scaling.attention_factor));
  if (kind == kFactors || kind == kLongRope) {
    RETURN_IF_ERROR(ValidateFactors("rope_scaling.factors", scaling.factors, half));
  } else {
    RETURN_IF_ERROR(CheckPositive("rope_scaling.factor", scaling.factor));
  }
  if (kind == kLongRope) {
    RETURN_IF_ERROR(ValidateFactors("rope_scaling.long_factors", scaling.long_factors, half));
  }
  if (kind == kLlama3) {
    RETURN_IF_ERROR(CheckPositive("rope_scaling.low_freq_factor", scaling.low_freq_factor));
    RETURN_IF_ERROR(CheckPositive("rope_scaling.high_freq_factor", scaling.high_freq_factor));
    RETURN_IF_ERROR(CheckAbove("rope_scaling.high_freq_factor", scaling.high_freq_factor,
                               "low_freq_factor", scaling.low_freq_factor));
  }
  if (kind == kYarn) {
    RETURN_IF_ERROR(CheckPositive("rope_scaling.beta_slow", scaling.beta_slow));
    RETURN_IF_ERROR(CheckPositive("rope_scaling.beta_fast", scaling.beta_fast));
    RETURN_IF_ERROR(
        CheckAbove("rope_scaling.beta_fast", scaling.beta_fast, "beta_slow", scaling.beta_slow));
  }
  if (kind == kFactors || kind == kLinear) return absl::OkStatus();
  return CheckRange("rope_scaling.original_max_position", scaling.original_max_position, 1,
                    kPositionMax);
}

absl::Status ValidateMultipliers(const ModelSpec& spec) {
  RETURN_IF_ERROR(CheckPositive("embedding_multiplier", spec.embedding_multiplier));
  RETURN_IF_ERROR(CheckPositive("residual_multiplier", spec.residual_multiplier));
  RETURN_IF_ERROR(CheckPositive("logits_divisor", spec.logits_divisor));
  return CheckPositive("attention_multiplier", spec.attention_scale());
}

// Lists of what differs from layer to layer are empty or whole.
absl::Status ValidateLayers(const ModelSpec& spec) {
  for (const auto& [field, size] : {std::pair{"windows entries", spec.windows.size()},
                                    std::pair{"no_rope entries", spec.no_rope.size()}}) {
    if (size == 0) continue;
    RETURN_IF_ERROR(
        CheckRange(field, static_cast<int64_t>(size), spec.num_layers, spec.num_layers));
  }
  for (const int window : spec.windows) {
    RETURN_IF_ERROR(CheckRange("windows", window, 0, kPositionMax));
  }
  return absl::OkStatus();
}

absl::Status ValidateAttention(const ModelSpec& spec) {
  RETURN_IF_ERROR(CheckRange("num_heads", spec.num_heads, 1, kHeadsMax));
  RETURN_IF_ERROR(CheckRange("num_kv_heads", spec.num_kv_heads, 1, kHeadsMax));
  RETURN_IF_ERROR(CheckMultiple("num_heads", spec.num_heads, "num_kv_heads", spec.num_kv_heads));
  RETURN_IF_ERROR(CheckRange("head_dim", spec.head_dim, 2, kHeadDimMax));
  RETURN_IF_ERROR(CheckRange("rotary_dim", spec.rotary_dim, 0, spec.head_dim));
  RETURN_IF_ERROR(CheckMultiple(spec.rotary_dim > 0 ? "rotary_dim" : "head_dim", spec.rope_dims(),
                                "two, for RoPE,", 2));
  RETURN_IF_ERROR(CheckRange("max_position", spec.max_position, 1, kPositionMax));
  RETURN_IF_ERROR(CheckPositive("rope_theta", spec.rope_theta));
  if (spec.rope_scaling) return ValidateRopeScaling(*spec.rope_scaling, spec.rope_dims() / 2);
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
  RETURN_IF_ERROR(ValidateMultipliers(spec));
  RETURN_IF_ERROR(ValidateLayers(spec));
  RETURN_IF_ERROR(ValidateTokens(spec));
  return ValidateExperts(spec);
}

float ModelSpec::attention_scale() const {
  if (attention_multiplier != 0) return attention_multiplier;
  return 1.0f / std::sqrt(static_cast<float>(head_dim));
}

namespace {

// theta^(2 i / dims), rounded to f32 where PyTorch rounds: the angle at a late position magnifies
// every last bit.
float RopePower(int i, int dims, float theta) {
  const float exponent = static_cast<float>(2 * i) / static_cast<float>(dims);
  return static_cast<float>(std::pow(static_cast<double>(theta), exponent));
}

// The number of turns that a frequency makes over the original context decides.
float Llama3Frequency(float plain, const RopeScaling& scaling) {
  const float turns =
      static_cast<float>(scaling.original_max_position) * plain / (2 * std::numbers::pi_v<float>);
  const float low = scaling.low_freq_factor, high = scaling.high_freq_factor;
  const float keep = std::clamp((turns - low) / (high - low), 0.0f, 1.0f);
  return keep * plain + (1 - keep) * plain / scaling.factor;
}

// Which i makes so many turns over the original context.
double YarnIndex(float turns, const RopeScaling& scaling, int dims, float theta) {
  return dims * std::log(scaling.original_max_position / (turns * 2 * std::numbers::pi)) /
         (2 * std::log(static_cast<double>(theta)));
}

// The formulas, their rounding and their clamps are Hugging Face's.
void StretchByYarn(const RopeScaling& scaling, float theta, std::vector<float>& inv_freq) {
  const int half = static_cast<int>(inv_freq.size()), dims = 2 * half;
  double low = YarnIndex(scaling.beta_fast, scaling, dims, theta);
  double high = YarnIndex(scaling.beta_slow, scaling, dims, theta);
  if (scaling.truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0);
  high = std::min(high, dims - 1.0);
  if (low == high) high += 0.001;
  for (int i = 0; i < half; ++i) {
    const auto ramp = static_cast<float>((i - low) / (high - low));
    const float keep = 1 - std::clamp(ramp, 0.0f, 1.0f);
    const float stretched = 1.0f / (scaling.factor * RopePower(i, dims, theta));
    inv_freq[i] = stretched * (1 - keep) + inv_freq[i] * keep;
  }
}

void Stretch(const RopeScaling& scaling, float theta, bool long_context,
             std::vector<float>& inv_freq) {
  using enum RopeScalingKind;
  if (scaling.kind == kYarn) return StretchByYarn(scaling, theta, inv_freq);
  const std::vector<float>& factors = long_context ? scaling.long_factors : scaling.factors;
  const int dims = 2 * static_cast<int>(inv_freq.size());
  for (int i = 0; i < dims / 2; ++i) {
    float& f = inv_freq[i];
    if (scaling.kind == kLlama3) f = Llama3Frequency(f, scaling);
    if (scaling.kind == kLinear) f /= scaling.factor;
    if (scaling.kind == kFactors) f /= scaling.factors[i];
    if (scaling.kind == kLongRope) f = 1.0f / (factors[i] * RopePower(i, dims, theta));
  }
}

}  // namespace

RopeFrequencies PlainRope(int dims, float theta) {
  RopeFrequencies rope;
  for (int i = 0; i < dims / 2; ++i) rope.inv_freq.push_back(1.0f / RopePower(i, dims, theta));
  return rope;
}

RopeFrequencies RopeOf(const ModelSpec& spec, int context_tokens) {
  RopeFrequencies rope = PlainRope(spec.rope_dims(), spec.rope_theta);
  if (!spec.rope_scaling) return rope;
  const bool long_context = context_tokens > spec.rope_scaling->original_max_position;
  Stretch(*spec.rope_scaling, spec.rope_theta, long_context, rope.inv_freq);
  rope.scale = spec.rope_scaling->attention_factor;
  return rope;
}

}  // namespace pregate
