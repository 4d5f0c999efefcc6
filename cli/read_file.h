// Whole files as strings, for inputs named on the command line.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace pregate::cli {

// NOT_FOUND naming option and path; RESOURCE_EXHAUSTED above 1 GiB.
absl::StatusOr<std::string> ReadTextFile(const std::string& option, const std::string& path);

}  // namespace pregate::cli
