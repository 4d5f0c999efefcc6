// Which drafts run where units move (docs/CONTRACTS.md, "Drafts"). Pure.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "common/base/ids.h"

namespace pregate {

struct ExpertsAtHand {
  std::vector<bool> needed;    // [experts] by the step's committed tokens
  std::vector<bool> resident;  // [experts] all units
  int32_t room = 0;            // experts whose units fit at once
};

// `rows`: routes of each row's drafts, in order. How many of them run: those before the first whose
// expert would have to be loaded for it. What is resident counts while there is room beside what is
// needed, for else it has to give way before its turn.
std::vector<int32_t> DraftsAtHand(absl::Span<const std::vector<ExpertId>> rows,
                                  ExpertsAtHand experts);

}  // namespace pregate
