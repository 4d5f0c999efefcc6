#include "common/model/formats/rope_config.h"

#include <cmath>
#include <map>
#include <optional>
#include <string>

#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/model/formats/hf_config.h"

namespace pregate {
namespace {

using enum RopeScalingKind;

constexpr const char* kOriginalMax = "original_max_position_embeddings";

// "type" is the old spelling of "rope_type", "su" that of "longrope"; of Phi-3, the family that
// rotates in part, "yarn" with lists of factors too.
absl::StatusOr<std::string> RopeKind(const JsonObject& rope, const Architecture& architecture) {
  ASSIGN_OR_RETURN(const std::string old_key, rope.String("type", "default"));
  ASSIGN_OR_RETURN(const std::string kind, rope.String("rope_type", old_key));
  if (kind != old_key && rope.Has("type")) {
    return absl::InvalidArgumentError(absl::StrCat(rope.where(), ": rope_type \"",
                                                   kind.substr(0, 64), "\" contradicts type \"",
                                                   old_key.substr(0, 64), "\""));
  }
  const bool renamed = architecture.rotates_in_part && kind == "yarn" && rope.Has("short_factor");
  return kind == "su" || renamed ? "longrope" : kind;
}

// rope_scaling or rope_parameters, with what of the config beside it counts too.
struct RopeFields {
  const JsonObject& config;
  const JsonObject& rope;
  const Architecture& architecture;
  int max_position;

  // A family whose class has a value of its own reads it beside `rope` alone.
  absl::StatusOr<int64_t> OriginalMax() const {
    if (config.Has(kOriginalMax)) return config.Int(kOriginalMax, 1, kPositionMax);
    const int of_class = architecture.original_max_position;
    ASSIGN_OR_RETURN(const int64_t value, rope.Int(kOriginalMax, 1, kPositionMax,
                                                   of_class > 0 ? of_class : max_position));
    if (of_class == 0 || value == of_class) return value;
    return UnsupportedConfig(rope, absl::StrCat(kOriginalMax, " = ", value, " here alone (",
                                                architecture.model_type, " has it beside)"));
  }
};

absl::Status ReadLlama3(const RopeFields& fields, RopeScaling* scaling) {
  scaling->kind = kLlama3;
  ASSIGN_OR_RETURN(scaling->factor, fields.rope.Number("factor"));
  ASSIGN_OR_RETURN(scaling->low_freq_factor, fields.rope.Number("low_freq_factor"));
  ASSIGN_OR_RETURN(scaling->high_freq_factor, fields.rope.Number("high_freq_factor"));
  return absl::OkStatus();
}

// The share of the attention's temperature, as the paper suggests it.
double YarnScale(double factor, double mscale) {
  return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1;
}

absl::Status ReadYarn(const RopeFields& fields, RopeScaling* scaling) {
  const JsonObject& rope = fields.rope;
  scaling->kind = kYarn;
  ASSIGN_OR_RETURN(const double factor, rope.Number("factor"));
  ASSIGN_OR_RETURN(scaling->beta_fast, rope.Number("beta_fast", 32));
  ASSIGN_OR_RETURN(scaling->beta_slow, rope.Number("beta_slow", 1));
  ASSIGN_OR_RETURN(scaling->truncate, rope.Bool("truncate", true));
  ASSIGN_OR_RETURN(const double mscale, rope.Number("mscale", 0));
  ASSIGN_OR_RETURN(const double mscale_all, rope.Number("mscale_all_dim", 0));
  const double scale = mscale != 0 && mscale_all != 0
                           ? YarnScale(factor, mscale) / YarnScale(factor, mscale_all)
                           : YarnScale(factor, 1);
  ASSIGN_OR_RETURN(scaling->attention_factor, rope.Number("attention_factor", scale));
  scaling->factor = static_cast<float>(factor);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<float>> ReadFactors(const JsonObject& rope, const char* key) {
  ASSIGN_OR_RETURN(const std::vector<double> values, rope.Numbers(key, kHeadDimMax));
  return std::vector<float>(values.begin(), values.end());
}

absl::Status ReadLongRope(const RopeFields& fields, RopeScaling* scaling) {
  scaling->kind = kLongRope;
  ASSIGN_OR_RETURN(scaling->factors, ReadFactors(fields.rope, "short_factor"));
  ASSIGN_OR_RETURN(scaling->long_factors, ReadFactors(fields.rope, "long_factor"));
  const double stretch = double(fields.max_position) / scaling->original_max_position;
  ASSIGN_OR_RETURN(const double factor, fields.rope.Number("factor", stretch));
  const double scale =
      factor <= 1 ? 1 : std::sqrt(1 + std::log(factor) / std::log(scaling->original_max_position));
  ASSIGN_OR_RETURN(scaling->attention_factor, fields.rope.Number("attention_factor", scale));
  return absl::OkStatus();
}

absl::StatusOr<std::optional<RopeScaling>> ReadScaling(const RopeFields& fields) {
  ASSIGN_OR_RETURN(const std::string kind, RopeKind(fields.rope, fields.architecture));
  std::optional<RopeScaling> none;
  if (kind == "dynamic") {  // changes nothing up to max_position_embeddings, where contexts end
    RETURN_IF_ERROR(fields.rope.Number("factor").status());
    return none;
  }
  if (kind == "default") {
    ASSIGN_OR_RETURN(const double factor, fields.rope.Number("factor", 1));
    if (factor == 1) return none;
    return UnsupportedConfig(fields.rope,
                             absl::StrCat("rope_type \"default\" with factor ", factor));
  }
  RopeScaling scaling;
  if (kind == "linear") {
    scaling.kind = kLinear;
    ASSIGN_OR_RETURN(scaling.factor, fields.rope.Number("factor"));
    return scaling.factor == 1 ? none : std::optional(scaling);
  }
  using Read = absl::Status (*)(const RopeFields&, RopeScaling*);
  static const std::map<std::string, Read> kKinds = {
      {"llama3", ReadLlama3}, {"yarn", ReadYarn}, {"longrope", ReadLongRope}};
  const auto read = kKinds.find(kind);
  if (read == kKinds.end()) {
    return UnsupportedConfig(fields.rope, absl::StrCat("rope_type \"", kind.substr(0, 64), "\""));
  }
  ASSIGN_OR_RETURN(scaling.original_max_position, fields.OriginalMax());
  RETURN_IF_ERROR(read->second(fields, &scaling));
  return std::optional(scaling);
}

// A number that may stand in several objects.
class SharedNumber {
 public:
  explicit SharedNumber(const char* key) : key_(key) {}

  absl::Status Read(const JsonObject& object) {
    if (!object.Has(key_)) return absl::OkStatus();
    ASSIGN_OR_RETURN(const double value, object.Number(key_));
    if (value_ && *value_ != value) {
      return absl::InvalidArgumentError(
          absl::StrCat(object.where(), ": ", key_, " = ", value, ", but elsewhere ", *value_));
    }
    value_ = value;
    return absl::OkStatus();
  }
  double Or(double fallback) const { return value_.value_or(fallback); }

 private:
  const char* const key_;
  std::optional<double> value_;
};

absl::Status SetRotaryDim(const JsonObject& config, double part, const Architecture& architecture,
                          ModelSpec* spec) {
  if (part == 1) return absl::OkStatus();
  if (!architecture.rotates_in_part || part <= 0 || part > 1) {
    return UnsupportedConfig(config, absl::StrCat("partial_rotary_factor = ", part));
  }
  spec->rotary_dim = static_cast<int>(spec->head_dim * part);
  if (spec->rotary_dim > 0) return absl::OkStatus();
  return UnsupportedConfig(config, absl::StrCat("partial_rotary_factor = ", part));
}

}  // namespace

absl::Status ParseRope(const JsonObject& config, const Architecture& architecture,
                       ModelSpec* spec) {
  SharedNumber theta("rope_theta"), part("partial_rotary_factor");
  RETURN_IF_ERROR(theta.Read(config));
  RETURN_IF_ERROR(part.Read(config));
  bool seen = false;
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!config.Has(key)) continue;
    ASSIGN_OR_RETURN(const JsonObject rope, config.Object(key));
    RETURN_IF_ERROR(CheckFields(rope, {&kRopeFields}));
    RETURN_IF_ERROR(theta.Read(rope));
    RETURN_IF_ERROR(part.Read(rope));
    ASSIGN_OR_RETURN(auto scaling, ReadScaling({config, rope, architecture, spec->max_position}));
    if (seen && scaling != spec->rope_scaling) {
      return absl::InvalidArgumentError(
          absl::StrCat(config.where(), ": rope_parameters contradicts rope_scaling"));
    }
    spec->rope_scaling = std::move(scaling);
    seen = true;
  }
  spec->rope_theta = static_cast<float>(theta.Or(architecture.rope_theta));
  return SetRotaryDim(config, part.Or(1), architecture, spec);
}

namespace {

nlohmann::ordered_json ScalingJson(const RopeScaling& s) {
  nlohmann::ordered_json out;
  switch (s.kind) {
    case kFactors:
      return nullptr;
    case kLinear:
      return {{"rope_type", "linear"}, {"factor", ShortestDouble(s.factor)}};
    case kLlama3:
      return {{"rope_type", "llama3"},
              {"factor", ShortestDouble(s.factor)},
              {"low_freq_factor", ShortestDouble(s.low_freq_factor)},
              {"high_freq_factor", ShortestDouble(s.high_freq_factor)},
              {kOriginalMax, s.original_max_position}};
    case kYarn:
      return {{"rope_type", "yarn"},
              {"factor", ShortestDouble(s.factor)},
              {"beta_fast", ShortestDouble(s.beta_fast)},
              {"beta_slow", ShortestDouble(s.beta_slow)},
              {"truncate", s.truncate},
              {"attention_factor", ShortestDouble(s.attention_factor)},
              {kOriginalMax, s.original_max_position}};
    case kLongRope: {
      const auto shortest = [](const std::vector<float>& values) {
        std::vector<double> out;
        for (const float x : values) out.push_back(ShortestDouble(x));
        return out;
      };
      return {{"rope_type", "longrope"},
              {"short_factor", shortest(s.factors)},
              {"long_factor", shortest(s.long_factors)},
              {"attention_factor", ShortestDouble(s.attention_factor)},
              {kOriginalMax, s.original_max_position}};
    }
  }
  return nullptr;
}

// int(head_dim * factor) is rotary_dim again, though the quotient was rounded.
double RotaryFactor(int rotary_dim, int head_dim) {
  double factor = static_cast<double>(rotary_dim) / head_dim;
  while (static_cast<int>(head_dim * factor) < rotary_dim) factor = std::nextafter(factor, 2);
  return factor;
}

}  // namespace

void AddRopeJson(const ModelSpec& spec, nlohmann::ordered_json* config) {
  (*config)["rope_theta"] = ShortestDouble(spec.rope_theta);
  (*config)["rope_scaling"] = spec.rope_scaling ? ScalingJson(*spec.rope_scaling) : nullptr;
  if (spec.rope_scaling && spec.rope_scaling->kind == kLongRope) {
    (*config)[kOriginalMax] = spec.rope_scaling->original_max_position;  // where Phi-3 reads it
  }
  if (spec.rotary_dim > 0) {
    (*config)["partial_rotary_factor"] = RotaryFactor(spec.rotary_dim, spec.head_dim);
  }
}

}  // namespace pregate
