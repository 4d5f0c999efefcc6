#include "common/model/formats/hf_config.h"

#include "common/base/limits.h"
#include "common/base/mapped_file.h"
#include "common/base/status.h"
#include "common/model/formats/model_fields.h"

namespace pregate {

absl::Status UnsupportedConfig(const JsonObject& config, const std::string& what) {
  return absl::UnimplementedError(absl::StrCat(config.where(), ": ", what, " is not supported"));
}

namespace {

constexpr int64_t kNoTokenId = -1;  // "none" in configs

absl::Status CheckArchitecture(const JsonObject& config) {
  ASSIGN_OR_RETURN(const std::string type, config.String("model_type", ""));
  if (type != "llama" && type != "pregate") {
    return UnsupportedConfig(config,
                             absl::StrCat("model_type \"", type.substr(0, 64), "\" (llama is)"));
  }
  ASSIGN_OR_RETURN(const std::string activation, config.String("hidden_act", "silu"));
  if (activation != "silu" && activation != "swish") {
    return UnsupportedConfig(config, absl::StrCat("hidden_act \"", activation.substr(0, 64), "\""));
  }
  return absl::OkStatus();
}

// A config may be relabelled; what made the weights is often still here.
absl::Status CheckArchitectures(const JsonObject& config) {
  if (!config.Has("architectures")) return absl::OkStatus();
  ASSIGN_OR_RETURN(const auto names, config.Strings("architectures", kArchitecturesMax));
  for (const std::string& name : names) {
    bool known = false;
    for (const char* llama : {"LlamaForCausalLM", "LLaMAForCausalLM", "PregateForCausalLM"}) {
      known |= name == llama;
    }
    if (known) continue;
    return UnsupportedConfig(
        config, absl::StrCat("architectures: \"", name.substr(0, 64), "\" (LlamaForCausalLM is)"));
  }
  return absl::OkStatus();
}

// Attention is full: a window that no position can leave changes nothing.
absl::Status CheckSlidingWindow(const JsonObject& config, int max_position) {
  if (config.Has("layer_types")) {
    ASSIGN_OR_RETURN(const auto types, config.Strings("layer_types", kLayersMax));
    for (const std::string& type : types) {
      if (type == "full_attention") continue;
      return UnsupportedConfig(config, absl::StrCat("layer_types: \"", type.substr(0, 64), "\""));
    }
  }
  ASSIGN_OR_RETURN(const bool used, config.Bool("use_sliding_window", true));
  if (!used || !config.Has("sliding_window")) {
    return used && config.Has("use_sliding_window")
               ? UnsupportedConfig(config, "use_sliding_window = true")
               : absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const int64_t window, config.Int("sliding_window", INT64_MIN, INT64_MAX));
  if (window >= max_position) return absl::OkStatus();
  return UnsupportedConfig(config, absl::StrCat("sliding_window = ", window,
                                                " below max_position_embeddings = ", max_position));
}

absl::StatusOr<std::string> RopeKind(const JsonObject& rope) {
  ASSIGN_OR_RETURN(const std::string old_key, rope.String("type", "default"));
  ASSIGN_OR_RETURN(const std::string kind, rope.String("rope_type", old_key));
  if (kind == old_key || !rope.Has("type")) return kind;
  return absl::InvalidArgumentError(absl::StrCat(rope.where(), ": rope_type \"", kind.substr(0, 64),
                                                 "\" contradicts type \"", old_key.substr(0, 64),
                                                 "\""));
}

// `rope` is rope_scaling, or rope_parameters of newer configs.
absl::StatusOr<std::optional<RopeScaling>> ParseRopeScaling(const JsonObject& rope) {
  RETURN_IF_ERROR(CheckFields(rope, {&kRopeFields}));
  ASSIGN_OR_RETURN(const std::string kind, RopeKind(rope));
  if (kind == "default" || kind == "linear") {
    ASSIGN_OR_RETURN(const double factor, rope.Number("factor", 1));
    if (factor == 1) return std::optional<RopeScaling>();
    return UnsupportedConfig(rope, absl::StrCat("rope_type \"", kind, "\" with factor ", factor));
  }
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

// Both spellings may be there, and rope_theta in three places: they must not contradict.
absl::Status ParseRope(const JsonObject& config, ModelSpec* spec) {
  std::optional<double> theta;
  const auto read_theta = [&theta](const JsonObject& object) -> absl::Status {
    if (!object.Has("rope_theta")) return absl::OkStatus();
    ASSIGN_OR_RETURN(const double value, object.Number("rope_theta"));
    if (theta && *theta != value) {
      return absl::InvalidArgumentError(
          absl::StrCat(object.where(), ": rope_theta = ", value, ", but elsewhere ", *theta));
    }
    theta = value;
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(read_theta(config));
  bool seen = false;
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!config.Has(key)) continue;
    ASSIGN_OR_RETURN(const JsonObject rope, config.Object(key));
    RETURN_IF_ERROR(read_theta(rope));
    ASSIGN_OR_RETURN(auto scaling, ParseRopeScaling(rope));
    if (seen && scaling != spec->rope_scaling) {
      return absl::InvalidArgumentError(
          absl::StrCat(config.where(), ": rope_parameters contradicts rope_scaling"));
    }
    spec->rope_scaling = std::move(scaling);
    seen = true;
  }
  spec->rope_theta = static_cast<float>(theta.value_or(10000));
  return absl::OkStatus();
}

absl::Status ParseSpecialTokens(const JsonObject& config, ModelSpec* spec) {
  if (config.Has("bos_token_id")) {
    ASSIGN_OR_RETURN(const int64_t bos, config.Int("bos_token_id", kNoTokenId, kVocabSizeMax));
    if (bos != kNoTokenId) spec->bos_token = static_cast<TokenId>(bos);
  }
  return ParseEosTokens(config, spec);
}

}  // namespace

absl::Status ParseEosTokens(const JsonObject& config, ModelSpec* spec) {
  if (!config.Has("eos_token_id")) return absl::OkStatus();
  ASSIGN_OR_RETURN(const auto ids,
                   config.Ints("eos_token_id", kNoTokenId, kVocabSizeMax, kEosTokensMax));
  spec->eos_tokens.clear();
  for (const int64_t id : ids) {
    if (id != kNoTokenId) spec->eos_tokens.push_back(static_cast<TokenId>(id));
  }
  return absl::OkStatus();
}

absl::Status ReadGenerationConfig(const std::string& dir, ModelSpec* spec) {
  const std::string path = dir + "/generation_config.json";
  const auto text = ReadSmallFile(path, kConfigBytesMax);
  if (absl::IsNotFound(text.status())) return absl::OkStatus();
  RETURN_IF_ERROR(text.status());
  ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(*text, path));
  ASSIGN_OR_RETURN(const JsonObject config, JsonObject::From(json, path));
  RETURN_IF_ERROR(CheckFields(config, {&kGenerationConfigFields}));
  return ParseEosTokens(config, spec);
}

absl::StatusOr<ModelSpec> ParseLlamaConfig(const JsonObject& config) {
  RETURN_IF_ERROR(CheckArchitecture(config));
  RETURN_IF_ERROR(CheckArchitectures(config));
  if (config.Has("N_cluster")) {
    RETURN_IF_ERROR(
        CheckFields(config, {&kConfigFields, &kGenerationConfigFields, &kAuthorsConfigFields}));
  } else {
    RETURN_IF_ERROR(CheckFields(config, {&kConfigFields, &kGenerationConfigFields}));
  }
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
  RETURN_IF_ERROR(CheckSlidingWindow(config, spec.max_position));
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
