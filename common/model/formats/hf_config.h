// config.json as Hugging Face writes it for the families of architectures.h. Refuses by name what
// would compute another function.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/base/json.h"
#include "common/model/spec/spec.h"

namespace pregate {

// The dense part of the spec. `model_type`: the family, where config.json's own says "pregate".
// Unimplemented, by name, for other architectures, activations, kinds of RoPE, and every field that
// model_fields.h does not know as read or harmless.
absl::StatusOr<ModelSpec> ParseDenseConfig(const JsonObject& config);
absl::StatusOr<ModelSpec> ParseDenseConfig(const JsonObject& config, const std::string& model_type);

// The fields that ParseDenseConfig reads back equal, and that Hugging Face's reader of the spec's
// architecture takes. REQUIRES: the spec came from ParseDenseConfig or a GGUF file.
nlohmann::ordered_json DenseConfigJson(const ModelSpec& spec);

// The double with the fewest digits that reads back as `value`: 1e-05, not 9.999999747378752e-06.
double ShortestDouble(float value);

// eos_token_id, a number or a list, replaces the spec's where it is there.
absl::Status ParseEosTokens(const JsonObject& config, ModelSpec* spec);
// generation_config.json, whose end ids go before config.json's. OK where there is none.
absl::Status ReadGenerationConfig(const std::string& dir, ModelSpec* spec);

// The string under `key`: "silu" or "relu".
absl::StatusOr<RouterActivation> ParseRouterActivation(const JsonObject& object,
                                                       const std::string& key);

// Unimplemented: "WHERE: WHAT is not supported".
absl::Status UnsupportedConfig(const JsonObject& config, const std::string& what);

}  // namespace pregate
