// Whole files and pipes as strings, for inputs named on the command line.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace pregate::cli {

// Errors name option and path; OUT_OF_RANGE above 1 GiB.
absl::StatusOr<std::string> ReadTextFile(const std::string& option, const std::string& path);

}  // namespace pregate::cli
