// RoPE as config.json says it: rope_theta, rope_scaling or rope_parameters, partial_rotary_factor.
#pragma once

#include "absl/status/status.h"
#include "common/base/json.h"
#include "common/model/formats/architectures.h"
#include "common/model/spec/spec.h"

namespace pregate {

// Sets spec->rope_*, rotary_dim. Both spellings may be there, and some fields in several places:
// InvalidArgument where they contradict. Unimplemented names a kind that is not known. REQUIRES:
// the spec's shapes and max_position are set.
absl::Status ParseRope(const JsonObject& config, const Architecture& architecture, ModelSpec* spec);

// Adds the fields that ParseRope reads back equal. Factors of a GGUF file have no form of Hugging
// Face's: they are left out.
void AddRopeJson(const ModelSpec& spec, nlohmann::ordered_json* config);

}  // namespace pregate
