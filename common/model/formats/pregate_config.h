// config.json of our own format (docs/CONTRACTS.md, "Checkpoint"): Hugging Face's keys and a
// `pregate` object.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/base/json.h"
#include "common/model/spec/spec.h"

namespace pregate {

bool IsPregateConfig(const JsonObject& config);

// The whole spec; `digest` receives the recorded model digest.
absl::StatusOr<ModelSpec> ParsePregateConfig(const JsonObject& config, std::string* digest);

// The config.json that ParsePregateConfig reads back equal.
std::string WritePregateConfig(const ModelSpec& spec, const std::string& digest);

// Router fields as the `router` object holds them; an artifact carries the same object.
absl::StatusOr<RouterSpec> ParseRouterSpec(const JsonObject& object);
nlohmann::ordered_json RouterSpecJson(const RouterSpec& router);
nlohmann::ordered_json ProvenanceJson(const Provenance& provenance);
nlohmann::ordered_json ProvenanceJson(const Provenance& provenance);

}  // namespace pregate
