#include "common/model/hf_config.h"

#include "common/base/status.h"
#include "common/model/limits.h"

namespace pregate {

absl::Status UnsupportedConfig(const JsonObject& config, const std::string& what) {
  return absl::UnimplementedError(absl::StrCat(config.where(), ": ", what, " is not supported"));
}

namespace {

absl::Status CheckArchitecture(const JsonObject& config) {
  ASSIGN_OR_RETURN(const std::string type, config.String("model_type", ""));
  if (type != "llama" && type != "pregate") {
    return UnsupportedConfig(config,
                             absl::StrCat("model_type \"", type.substr(0, 64), "\" (llama is)"));
  }
  for (const char* key : {"attention_bias", "mlp_bias"}) {
    ASSIGN_OR_RETURN(const bool bias, config.Bool(key, false));
    if (bias) return UnsupportedConfig(config, absl::StrCat(key, " = true"));
  }
  ASSIGN_OR_RETURN(const std::string activation, config.String("hidden_act", "silu"));
  if (activation != "silu" && activation != "swish") {
    return UnsupportedConfig(config, absl::StrCat("hidden_act \"", activation.substr(0, 64), "\""));
  }
  if (config.Has("quantization_config")) return UnsupportedConfig(config, "quantization_config");
  return absl::OkStatus();
}

// `rope` is rope_scaling, or rope_parameters of newer configs.
absl::StatusOr<std::optional<RopeScaling>> ParseRopeScaling(const JsonObject& rope) {
  ASSIGN_OR_RETURN(const std::string old_key, rope.String("type", "default"));
  ASSIGN_OR_RETURN(const std::string kind, rope.String("rope_type", old_key));
  if (kind == "default") return std::optional<RopeScaling>();
  if (kind != "llama3") {
    return UnsupportedConfig(rope, absl::StrCat("rope_type \"", kind.substr(0, 64), "\""));
  }
  RopeScaling scaling;
  ASSIGN_OR_RETURN(scaling.factor, rope.Number("factor"));
  ASSIGN_OR_RETURN(scaling.low_freq_factor, rope.Number("low_freq_factor"));
  ASSIGN_OR_RETURN(scaling.high_freq_factor, rope.Number("high_freq_factor"));
  ASSIGN_OR_RETURN(scaling.original_max_position,
                   rope.Int("original_max_position_embeddings", 1, kPositionMax));
  return std::optional<RopeScaling>(scaling);
}

absl::Status ParseRope(const JsonObject& config, ModelSpec* spec) {
  ASSIGN_OR_RETURN(spec->rope_theta, config.Number("rope_theta", 10000));
  if (config.Has("rope_scaling")) {
    ASSIGN_OR_RETURN(const JsonObject rope, config.Object("rope_scaling"));
    ASSIGN_OR_RETURN(spec->rope_scaling, ParseRopeScaling(rope));
  }
  if (config.Has("rope_parameters")) {
    ASSIGN_OR_RETURN(const JsonObject rope, config.Object("rope_parameters"));
    ASSIGN_OR_RETURN(spec->rope_theta, rope.Number("rope_theta", spec->rope_theta));
    ASSIGN_OR_RETURN(spec->rope_scaling, ParseRopeScaling(rope));
    ASSIGN_OR_RETURN(const double partial, rope.Number("partial_rotary_factor", 1));
    if (partial != 1) return UnsupportedConfig(rope, "partial_rotary_factor other than 1");
  }
  return absl::OkStatus();
}

absl::Status ParseSpecialTokens(const JsonObject& config, ModelSpec* spec) {
  if (config.Has("bos_token_id")) {
    ASSIGN_OR_RETURN(spec->bos_token, config.Int("bos_token_id", 0, kVocabSizeMax));
  }
  if (config.Has("eos_token_id")) {
    ASSIGN_OR_RETURN(const auto ids, config.Ints("eos_token_id", 0, kVocabSizeMax, kEosTokensMax));
    spec->eos_tokens.assign(ids.begin(), ids.end());
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelSpec> ParseLlamaConfig(const JsonObject& config) {
  RETURN_IF_ERROR(CheckArchitecture(config));
  ModelSpec spec;
  ASSIGN_OR_RETURN(spec.vocab_size, config.Int("vocab_size", 1, kVocabSizeMax));
  ASSIGN_OR_RETURN(spec.hidden, config.Int("hidden_size", 1, kHiddenMax));
  ASSIGN_OR_RETURN(spec.intermediate, config.Int("intermediate_size", 1, kFfnWidthMax));
  ASSIGN_OR_RETURN(spec.num_layers, config.Int("num_hidden_layers", 1, kLayersMax));
  ASSIGN_OR_RETURN(spec.num_heads, config.Int("num_attention_heads", 1, kHeadsMax));
  ASSIGN_OR_RETURN(spec.num_kv_heads,
                   config.Int("num_key_value_heads", 1, kHeadsMax, spec.num_heads));
  if (!config.Has("head_dim") && spec.hidden % spec.num_heads != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(config.where(), ": hidden_size = ", spec.hidden,
                     " is no multiple of num_attention_heads = ", spec.num_heads));
  }
  ASSIGN_OR_RETURN(spec.head_dim,
                   config.Int("head_dim", 1, kHeadDimMax, spec.hidden / spec.num_heads));
  ASSIGN_OR_RETURN(spec.max_position, config.Int("max_position_embeddings", 1, kPositionMax, 2048));
  ASSIGN_OR_RETURN(spec.rms_eps, config.Number("rms_norm_eps", 1e-6));
  ASSIGN_OR_RETURN(spec.tie_embeddings, config.Bool("tie_word_embeddings", false));
  RETURN_IF_ERROR(ParseRope(config, &spec));
  RETURN_IF_ERROR(ParseSpecialTokens(config, &spec));
  return spec;
}

absl::StatusOr<RouterActivation> ParseRouterActivation(const JsonObject& object,
                                                       const std::string& key) {
  ASSIGN_OR_RETURN(const std::string name, object.String(key));
  if (name == "silu" || name == "swish") return RouterActivation::kSilu;
  if (name == "relu") return RouterActivation::kRelu;
  return UnsupportedConfig(object, absl::StrCat(key, " \"", name.substr(0, 64), "\""));
}

}  // namespace pregate
