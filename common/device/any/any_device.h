// A device chosen by name at run time.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/device/device.h"

namespace pregate {

// "cpu" (with `threads` of them, 0: one a hardware thread) or "cuda" (the first card).
// FAILED_PRECONDITION for "cuda" in a build without it, UNAVAILABLE without a card.
absl::StatusOr<std::unique_ptr<Device>> MakeDevice(const std::string& name, int threads);

}  // namespace pregate
