// config.json as Hugging Face writes it for Llama. Refuses by name what would compute another
// function.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/model/json.h"
#include "common/model/spec.h"

namespace pregate {

// The dense part of the spec. Unimplemented for other architectures, biases, activations, kinds of
// RoPE.
absl::StatusOr<ModelSpec> ParseLlamaConfig(const JsonObject& config);

// The string under `key`: "silu" or "relu".
absl::StatusOr<RouterActivation> ParseRouterActivation(const JsonObject& object,
                                                       const std::string& key);

// Unimplemented: "WHERE: WHAT is not supported".
absl::Status UnsupportedConfig(const JsonObject& config, const std::string& what);

}  // namespace pregate
