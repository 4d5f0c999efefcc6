#include "common/model/formats/hf_config.h"

#include <algorithm>
#include <charconv>

#include "absl/strings/str_join.h"
#include "common/base/limits.h"
#include "common/base/mapped_file.h"
#include "common/base/status.h"
#include "common/model/formats/architectures.h"
#include "common/model/formats/model_fields.h"
#include "common/model/formats/rope_config.h"

namespace pregate {

absl::Status UnsupportedConfig(const JsonObject& config, const std::string& what) {
  return absl::UnimplementedError(absl::StrCat(config.where(), ": ", what, " is not supported"));
}

namespace {

constexpr int64_t kNoTokenId = -1;  // "none" in configs

std::string KnownArchitectures() {
  std::vector<std::string> names;
  for (const Architecture& a : Architectures()) names.push_back(a.model_type);
  return absl::StrJoin(names, ", ");
}

absl::StatusOr<const Architecture*> ArchitectureOf(const JsonObject& config,
                                                   const std::string& model_type) {
  const Architecture* architecture = FindArchitecture(model_type);
  if (architecture != nullptr) return architecture;
  return UnsupportedConfig(config, absl::StrCat("model_type \"", model_type.substr(0, 64), "\" (",
                                                KnownArchitectures(), " are)"));
}

absl::Status CheckActivation(const JsonObject& config) {
  ASSIGN_OR_RETURN(const std::string activation, config.String("hidden_act", "silu"));
  if (activation == "silu" || activation == "swish") return absl::OkStatus();
  return UnsupportedConfig(config, absl::StrCat("hidden_act \"", activation.substr(0, 64), "\""));
}

// A config may be relabelled; what made the weights is often still here.
absl::Status CheckArchitectures(const JsonObject& config, const Architecture& architecture) {
  if (!config.Has("architectures")) return absl::OkStatus();
  ASSIGN_OR_RETURN(const auto names, config.Strings("architectures", kArchitecturesMax));
  const std::string model_type = architecture.model_type;
  for (const std::string& name : names) {
    if (name == architecture.causal_lm || name == "PregateForCausalLM") continue;
    if (name == "LLaMAForCausalLM" && model_type == "llama") continue;
    return UnsupportedConfig(config,
                             absl::StrCat("architectures: \"", name.substr(0, 64), "\" (",
                                          architecture.causal_lm, " is that of ", model_type, ")"));
  }
  return absl::OkStatus();
}

// Absence leaves it to the family; a null is as many as heads.
absl::StatusOr<int64_t> KvHeads(const JsonObject& config, const Architecture& architecture,
                                int num_heads) {
  const bool absent = !config.json().contains("num_key_value_heads");
  if (absent && architecture.kv_heads > 0) return architecture.kv_heads;
  return config.Int("num_key_value_heads", 1, kHeadsMax, num_heads);
}

absl::StatusOr<int64_t> HeadDim(const JsonObject& config, const Architecture& architecture,
                                const ModelSpec& spec) {
  if (config.Has("head_dim")) return config.Int("head_dim", 1, kHeadDimMax);
  if (architecture.head_dim > 0) return architecture.head_dim;
  if (spec.hidden % spec.num_heads == 0) return spec.hidden / spec.num_heads;
  return absl::InvalidArgumentError(
      absl::StrCat(config.where(), ": hidden_size = ", spec.hidden,
                   " is no multiple of num_attention_heads = ", spec.num_heads));
}

absl::Status ReadShapes(const JsonObject& config, const Architecture& architecture,
                        ModelSpec* spec) {
  ASSIGN_OR_RETURN(spec->vocab_size, config.Int("vocab_size", 1, kVocabSizeMax));
  ASSIGN_OR_RETURN(spec->hidden, config.Int("hidden_size", 1, kHiddenMax));
  ASSIGN_OR_RETURN(spec->intermediate, config.Int("intermediate_size", 1, kFfnWidthMax));
  ASSIGN_OR_RETURN(spec->num_layers, config.Int("num_hidden_layers", 1, kLayersMax));
  ASSIGN_OR_RETURN(spec->num_heads, config.Int("num_attention_heads", 1, kHeadsMax));
  ASSIGN_OR_RETURN(spec->num_kv_heads, KvHeads(config, architecture, spec->num_heads));
  ASSIGN_OR_RETURN(spec->head_dim, HeadDim(config, architecture, *spec));
  ASSIGN_OR_RETURN(spec->max_position, config.Int("max_position_embeddings", 1, kPositionMax,
                                                  architecture.max_position));
  return absl::OkStatus();
}

absl::Status ReadBiases(const JsonObject& config, const Architecture& architecture,
                        ModelSpec* spec) {
  spec->qk_norm = architecture.qk_norm;
  spec->qkv_bias = architecture.bias == Architecture::Bias::kQkv;
  if (architecture.bias != Architecture::Bias::kByField) return absl::OkStatus();
  ASSIGN_OR_RETURN(spec->qkv_bias, config.Bool("attention_bias", false));
  spec->o_bias = spec->qkv_bias;
  return absl::OkStatus();
}

absl::Status ReadMultipliers(const JsonObject& config, ModelSpec* spec) {
  ASSIGN_OR_RETURN(spec->embedding_multiplier, config.Number("embedding_multiplier", 1));
  ASSIGN_OR_RETURN(spec->residual_multiplier, config.Number("residual_multiplier", 1));
  ASSIGN_OR_RETURN(spec->attention_multiplier, config.Number("attention_multiplier", 1));
  ASSIGN_OR_RETURN(spec->logits_divisor, config.Number("logits_scaling", 1));
  return absl::OkStatus();
}

// 1: the layer has positions.
absl::Status ReadNoRopeLayers(const JsonObject& config, ModelSpec* spec) {
  spec->no_rope.assign(spec->num_layers, false);
  if (!config.Has("no_rope_layers")) {
    ASSIGN_OR_RETURN(const int64_t interval,
                     config.Int("no_rope_layer_interval", 1, kLayersMax + 1, 4));
    for (int l = 0; l < spec->num_layers; ++l) spec->no_rope[l] = (l + 1) % interval == 0;
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const auto has_rope, config.Ints("no_rope_layers", 0, 1, kLayersMax));
  if (has_rope.size() < spec->no_rope.size()) {
    return absl::InvalidArgumentError(absl::StrCat(config.where(), ": no_rope_layers has ",
                                                   has_rope.size(), " entries, the model has ",
                                                   spec->num_layers, " layers"));
  }
  for (int l = 0; l < spec->num_layers; ++l) spec->no_rope[l] = has_rope[l] == 0;
  return absl::OkStatus();
}

constexpr const char* kSliding = "sliding_attention";
constexpr const char* kFull = "full_attention";

// Which layers have a window, where the config names each.
absl::StatusOr<std::vector<bool>> ReadLayerTypes(const JsonObject& config) {
  ASSIGN_OR_RETURN(const auto types, config.Strings("layer_types", kLayersMax));
  std::vector<bool> sliding;
  for (const std::string& type : types) {
    if (type != kSliding && type != kFull) {
      return UnsupportedConfig(config, absl::StrCat("layer_types: \"", type.substr(0, 64), "\""));
    }
    sliding.push_back(type == kSliding);
  }
  return sliding;
}

// Families without windows may carry the fields, as long as they switch nothing on.
absl::Status CheckNoWindows(const JsonObject& config, const Architecture& architecture,
                            int max_position) {
  const auto refuse = [&](const std::string& what) {
    return UnsupportedConfig(config, absl::StrCat(what, " of ", architecture.model_type));
  };
  if (config.Has("layer_types")) {
    ASSIGN_OR_RETURN(const std::vector<bool> sliding, ReadLayerTypes(config));
    for (const bool windowed : sliding) {
      if (windowed) return refuse(absl::StrCat("layer_types: \"", kSliding, "\""));
    }
  }
  ASSIGN_OR_RETURN(const bool used, config.Bool("use_sliding_window", true));
  if (!used) return absl::OkStatus();
  if (!config.Has("sliding_window")) {
    return config.Has("use_sliding_window") ? refuse("use_sliding_window = true")
                                            : absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const int64_t window, config.Int("sliding_window", INT64_MIN, INT64_MAX));
  if (window >= max_position) return absl::OkStatus();
  return refuse(
      absl::StrCat("sliding_window = ", window, " below max_position_embeddings = ", max_position));
}

absl::StatusOr<std::vector<bool>> WindowedLayers(const JsonObject& config,
                                                 const Architecture& architecture,
                                                 const ModelSpec& spec) {
  if (architecture.window == Architecture::Window::kEveryLayer) {
    return std::vector<bool>(spec.num_layers, true);
  }
  if (config.Has("layer_types")) {
    ASSIGN_OR_RETURN(std::vector<bool> sliding, ReadLayerTypes(config));
    if (static_cast<int>(sliding.size()) == spec.num_layers) return sliding;
    return absl::InvalidArgumentError(absl::StrCat(config.where(), ": layer_types has ",
                                                   sliding.size(), " entries, the model has ",
                                                   spec.num_layers, " layers"));
  }
  if (architecture.no_rope_layers) return spec.no_rope;
  ASSIGN_OR_RETURN(const int64_t first, config.Int("max_window_layers", 0, kLayersMax, 28));
  std::vector<bool> sliding(spec.num_layers);
  for (int l = 0; l < spec.num_layers; ++l) sliding[l] = l >= first;
  return sliding;
}

// 0: there is none. A null says so, absence leaves it to the family.
absl::StatusOr<int64_t> WindowTokens(const JsonObject& config, const Architecture& architecture) {
  if (architecture.window == Architecture::Window::kSwitched) {
    ASSIGN_OR_RETURN(const bool used, config.Bool("use_sliding_window", false));
    if (!used) return 0;
  }
  if (!config.json().contains("sliding_window")) return architecture.window_tokens;
  if (!config.Has("sliding_window")) return 0;
  return config.Int("sliding_window", 1, INT64_MAX);
}

// A window that no position can leave is none.
absl::Status ReadWindows(const JsonObject& config, const Architecture& architecture,
                         ModelSpec* spec) {
  if (architecture.window == Architecture::Window::kNone) {
    return CheckNoWindows(config, architecture, spec->max_position);
  }
  ASSIGN_OR_RETURN(const std::vector<bool> windowed, WindowedLayers(config, architecture, *spec));
  ASSIGN_OR_RETURN(const int64_t window, WindowTokens(config, architecture));
  const bool any = std::find(windowed.begin(), windowed.end(), true) != windowed.end();
  if (any && window == 0 && config.Has("layer_types")) {
    return UnsupportedConfig(
        config, absl::StrCat("layer_types: \"", kSliding,
                             "\" without use_sliding_window = true and a sliding_window"));
  }
  if (!any || window == 0 || window >= spec->max_position) return absl::OkStatus();
  for (const bool sliding : windowed) {
    spec->windows.push_back(sliding ? static_cast<int>(window) : 0);
  }
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

absl::StatusOr<ModelSpec> ParseDenseConfig(const JsonObject& config) {
  ASSIGN_OR_RETURN(const std::string model_type, config.String("model_type", ""));
  return ParseDenseConfig(config, model_type);
}

absl::StatusOr<ModelSpec> ParseDenseConfig(const JsonObject& config,
                                           const std::string& model_type) {
  ASSIGN_OR_RETURN(const Architecture* architecture, ArchitectureOf(config, model_type));
  RETURN_IF_ERROR(CheckActivation(config));
  RETURN_IF_ERROR(CheckArchitectures(config, *architecture));
  std::vector<const FieldTable*> tables = {&architecture->fields, &kConfigFields,
                                           &kGenerationConfigFields};
  if (config.Has("N_cluster")) tables.push_back(&kAuthorsConfigFields);
  RETURN_IF_ERROR(CheckFields(config, tables));
  ModelSpec spec;
  spec.architecture = architecture->model_type;
  RETURN_IF_ERROR(ReadShapes(config, *architecture, &spec));
  ASSIGN_OR_RETURN(spec.rms_eps, config.Number("rms_norm_eps", architecture->rms_eps));
  ASSIGN_OR_RETURN(spec.tie_embeddings,
                   config.Bool("tie_word_embeddings", architecture->tie_embeddings));
  RETURN_IF_ERROR(ParseRope(config, *architecture, &spec));
  RETURN_IF_ERROR(ReadBiases(config, *architecture, &spec));
  if (architecture->multipliers) RETURN_IF_ERROR(ReadMultipliers(config, &spec));
  if (architecture->no_rope_layers) RETURN_IF_ERROR(ReadNoRopeLayers(config, &spec));
  RETURN_IF_ERROR(ReadWindows(config, *architecture, &spec));
  RETURN_IF_ERROR(ParseSpecialTokens(config, &spec));
  return spec;
}

namespace {

void AddWindowsJson(const ModelSpec& spec, const Architecture& architecture,
                    nlohmann::ordered_json* config) {
  using Window = Architecture::Window;
  if (architecture.window == Window::kNone) return;
  const int window =
      spec.windows.empty() ? 0 : *std::max_element(spec.windows.begin(), spec.windows.end());
  (*config)["sliding_window"] = window > 0 ? nlohmann::ordered_json(window) : nullptr;
  if (architecture.window == Window::kEveryLayer) return;
  (*config)["use_sliding_window"] = window > 0;
  if (window == 0) return;
  for (int l = 0; l < spec.num_layers; ++l) {
    (*config)["layer_types"].push_back(spec.window(l) > 0 ? kSliding : kFull);
  }
}

void AddTraitsJson(const ModelSpec& spec, const Architecture& architecture,
                   nlohmann::ordered_json* config) {
  if (architecture.bias == Architecture::Bias::kByField) {
    (*config)["attention_bias"] = spec.qkv_bias;
  }
  for (int l = 0; architecture.no_rope_layers && l < spec.num_layers; ++l) {
    (*config)["no_rope_layers"].push_back(spec.has_rope(l) ? 1 : 0);
  }
  if (!architecture.multipliers) return;
  (*config)["embedding_multiplier"] = ShortestDouble(spec.embedding_multiplier);
  (*config)["residual_multiplier"] = ShortestDouble(spec.residual_multiplier);
  (*config)["attention_multiplier"] = ShortestDouble(spec.attention_scale());
  (*config)["logits_scaling"] = ShortestDouble(spec.logits_divisor);
}

}  // namespace

nlohmann::ordered_json DenseConfigJson(const ModelSpec& spec) {
  const Architecture* architecture = FindArchitecture(spec.architecture);
  PREGATE_CHECK(architecture != nullptr, "architecture ", spec.architecture);
  nlohmann::ordered_json out = {{"architectures", {architecture->causal_lm}},
                                {"model_type", architecture->model_type},
                                {"hidden_act", "silu"},
                                {"vocab_size", spec.vocab_size},
                                {"hidden_size", spec.hidden},
                                {"intermediate_size", spec.intermediate},
                                {"num_hidden_layers", spec.num_layers},
                                {"num_attention_heads", spec.num_heads},
                                {"num_key_value_heads", spec.num_kv_heads},
                                {"head_dim", spec.head_dim},
                                {"max_position_embeddings", spec.max_position},
                                {"rms_norm_eps", ShortestDouble(spec.rms_eps)}};
  AddRopeJson(spec, &out);
  out["tie_word_embeddings"] = spec.tie_embeddings;
  AddTraitsJson(spec, *architecture, &out);
  AddWindowsJson(spec, *architecture, &out);
  if (spec.bos_token) out["bos_token_id"] = *spec.bos_token;
  if (!spec.eos_tokens.empty()) out["eos_token_id"] = spec.eos_tokens;
  return out;
}

double ShortestDouble(float value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  double shortest = 0;
  std::from_chars(text, end, shortest);
  return static_cast<float>(shortest) == value ? shortest : value;
}

absl::StatusOr<RouterActivation> ParseRouterActivation(const JsonObject& object,
                                                       const std::string& key) {
  ASSIGN_OR_RETURN(const std::string name, object.String(key));
  if (name == "silu" || name == "swish") return RouterActivation::kSilu;
  if (name == "relu") return RouterActivation::kRelu;
  return UnsupportedConfig(object, absl::StrCat(key, " \"", name.substr(0, 64), "\""));
}

}  // namespace pregate
