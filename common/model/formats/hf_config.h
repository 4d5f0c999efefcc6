// config.json as Hugging Face writes it for Llama. Refuses by name what would compute another
// function.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/base/json.h"
#include "common/model/spec/spec.h"

namespace pregate {

// The dense part of the spec. Unimplemented, by name, for other architectures, activations, kinds
// of RoPE, windows, and every field that model_fields.h does not know as read or harmless.
absl::StatusOr<ModelSpec> ParseLlamaConfig(const JsonObject& config);

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
