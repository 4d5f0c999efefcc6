#include "expert_service/core/draft_cut.h"

#include <algorithm>
#include <utility>

namespace pregate {

std::vector<int32_t> DraftsAtHand(absl::Span<const std::vector<ExpertId>> rows,
                                  ExpertsAtHand experts) {
  std::vector<bool> in = std::move(experts.needed);
  auto num_in = static_cast<int32_t>(std::count(in.begin(), in.end(), true));
  const auto enters = [&](ExpertId e) {
    if (in[e]) return true;
    if (!experts.resident[e] || num_in >= experts.room) return false;
    in[e] = true;
    ++num_in;
    return true;
  };
  std::vector<int32_t> counts;
  for (const std::vector<ExpertId>& routes : rows) {
    const auto end = std::find_if_not(routes.begin(), routes.end(), enters);
    counts.push_back(static_cast<int32_t>(end - routes.begin()));
  }
  return counts;
}

}  // namespace pregate
