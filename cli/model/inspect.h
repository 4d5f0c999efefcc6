// What a checkpoint is, for people and scripts.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace pregate {

// layout, digest, spec (shapes, experts' widths, router), params {total, active, router}: active is
// what one token uses, params_by_part, bytes_by_part and bytes_total as stored,
// bytes_expert_unit_max, stored_types {type: tensors}, provenance, tokenizer (whether one can
// be used) with tokenizer_kind, or tokenizer_error where one is there and cannot. With `verify`,
// re-reads everything: DataLoss names the first tensor whose content differs from the manifest;
// FailedPrecondition for layouts without a manifest.
absl::StatusOr<nlohmann::ordered_json> InspectCheckpoint(const std::string& path, bool verify);

}  // namespace pregate
