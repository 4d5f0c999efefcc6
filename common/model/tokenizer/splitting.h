// What becomes of the matches of a pattern and of what lies between them, as in the `tokenizers`
// package's Split.
#pragma once

#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model/tokenizer/text_pattern.h"

namespace pregate {

enum class SplitBehavior {
  kRemoved,             // matches are left out
  kIsolated,            // each is a part of its own
  kMergedWithPrevious,  // each belongs to what stands before it
  kMergedWithNext,
  kContiguous,  // neighbouring matches are one part
};

// By the name that tokenizer.json has for it.
absl::StatusOr<SplitBehavior> ParseSplitBehavior(std::string_view name);

// Appends the parts of `text` that are not empty. `invert`: what lies between matches counts as
// them.
void SplitText(std::string_view text, const TextPattern& pattern, SplitBehavior behavior,
               bool invert, std::vector<std::string_view>* parts);

}  // namespace pregate
