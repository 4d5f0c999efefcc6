#include "refactor/neuron_sets.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "common/base/status.h"

namespace pregate {

absl::StatusOr<int> KeptWidth(double keep, int intermediate) {
  if (!(keep > 0 && keep <= 1)) {
    return absl::InvalidArgumentError(absl::StrCat("keep ", keep, " is not in (0, 1]"));
  }
  const int kept = static_cast<int>(std::lround(keep * intermediate));
  if (kept < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("keep ", keep, " of ", intermediate, " neurons leaves none"));
  }
  return kept;
}

LayerNeurons SelectNeurons(absl::Span<const double> scores, int intermediate, int kept) {
  PREGATE_CHECK(kept > 0 && kept <= intermediate);
  PREGATE_CHECK(!scores.empty() && scores.size() % intermediate == 0);
  const int num_experts = static_cast<int>(scores.size() / intermediate);
  std::vector<int> times_kept(intermediate, 0);
  std::vector<std::vector<int32_t>> kept_by(num_experts);
  std::vector<int32_t> order(intermediate);
  for (int e = 0; e < num_experts; ++e) {
    const double* score = scores.data() + static_cast<size_t>(e) * intermediate;
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int32_t a, int32_t b) { return score[a] > score[b]; });
    kept_by[e].assign(order.begin(), order.begin() + kept);
    std::sort(kept_by[e].begin(), kept_by[e].end());
    for (int32_t neuron : kept_by[e]) ++times_kept[neuron];
  }

  LayerNeurons out;
  for (int32_t neuron = 0; neuron < intermediate; ++neuron) {
    if (times_kept[neuron] == num_experts) out.shared.push_back(neuron);
  }
  out.own.resize(num_experts);
  for (int e = 0; e < num_experts; ++e) {
    for (int32_t neuron : kept_by[e]) {
      if (times_kept[neuron] < num_experts) out.own[e].push_back(neuron);
    }
  }
  return out;
}

}  // namespace pregate
