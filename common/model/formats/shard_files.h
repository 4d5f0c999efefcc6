// Models that lie in several files.
#pragma once

#include <set>
#include <string>

#include "absl/status/status.h"

namespace pregate {

// NotFound, naming what is missing of `names` in `dir`: all of it, not the first alone, so that a
// download that broke off is completed once. `where` is the file that asks for them.
absl::Status CheckShardsExist(const std::string& dir, const std::set<std::string>& names,
                              const std::string& where);

}  // namespace pregate
