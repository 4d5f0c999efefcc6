// Feed-forward parts of a checkpoint as unit images.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/device/device.h"
#include "common/model/formats/checkpoint.h"
#include "expert_service/engine/unit_image.h"

namespace pregate {

// The tensors {gate,up,down}_proj.weight below `prefix`, packed for the device.
absl::StatusOr<UnitImage> ReadUnit(const Checkpoint& checkpoint, const Device& device,
                                   const std::string& prefix, const UnitShape& shape);

}  // namespace pregate
