// Whole files and pipes as strings, for inputs named on the command line.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace pregate::cli {

// All bytes of the file, a byte-order mark before them included. Errors name option and path;
// INVALID_ARGUMENT for what is not UTF-8, OUT_OF_RANGE above 1 GiB.
absl::StatusOr<std::string> ReadTextFile(const std::string& option, const std::string& path);

}  // namespace pregate::cli
