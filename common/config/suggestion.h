// What somebody who misspelt a name may have meant.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace pregate {

// "; did you mean PREFIXname?" with the nearest of `names`, or "" where none is near. Nearness
// counts inserted, deleted, replaced and swapped characters; '_' and '-' are one, as is case.
std::string Suggestion(absl::string_view name, const std::vector<std::string>& names,
                       absl::string_view prefix = "");

}  // namespace pregate
