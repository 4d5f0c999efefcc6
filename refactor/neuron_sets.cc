#include "refactor/neuron_sets.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <numeric>

#include "common/base/status.h"

namespace pregate {

int WidthStep(int intermediate) { return intermediate >= 256 && intermediate % 16 == 0 ? 16 : 1; }

absl::StatusOr<int> KeptWidth(double keep, int intermediate) {
  if (!(keep > 0 && keep <= 1)) {
    return absl::InvalidArgumentError(absl::StrCat("keep ", keep, " is not in (0, 1]"));
  }
  const int step = WidthStep(intermediate);
  const int steps = static_cast<int>(std::floor(keep * intermediate / step + 1e-9));
  if (steps < 1) {
    return absl::InvalidArgumentError(absl::StrCat("keep ", keep, " of ", intermediate,
                                                   " neurons leaves none, in steps of ", step));
  }
  return steps * step;
}

LayerNeurons SelectNeurons(absl::Span<const double> scores, int intermediate, int kept, int step) {
  PREGATE_CHECK(kept > 0 && kept <= intermediate);
  PREGATE_CHECK(!scores.empty() && scores.size() % intermediate == 0);
  const int num_experts = static_cast<int>(scores.size() / intermediate);
  std::vector<int> times_kept(intermediate, 0), lowest_rank(intermediate, 0);
  std::vector<std::vector<int32_t>> kept_by(num_experts);
  std::vector<int32_t> order(intermediate);
  for (int e = 0; e < num_experts; ++e) {
    const double* score = scores.data() + static_cast<size_t>(e) * intermediate;
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int32_t a, int32_t b) { return score[a] > score[b]; });
    for (int i = 0; i < kept; ++i) lowest_rank[order[i]] = std::max(lowest_rank[order[i]], i);
    kept_by[e].assign(order.begin(), order.begin() + kept);
    std::sort(kept_by[e].begin(), kept_by[e].end());
    for (int32_t neuron : kept_by[e]) ++times_kept[neuron];
  }

  LayerNeurons out;
  for (int32_t neuron = 0; neuron < intermediate; ++neuron) {
    if (times_kept[neuron] == num_experts) out.shared.push_back(neuron);
  }
  std::stable_sort(out.shared.begin(), out.shared.end(),
                   [&](int32_t a, int32_t b) { return lowest_rank[a] < lowest_rank[b]; });
  const size_t most = num_experts > 1 ? kept - 1 : kept;
  out.shared.resize(std::min(out.shared.size(), most) / step * step);
  std::sort(out.shared.begin(), out.shared.end());
  out.own.resize(num_experts);
  for (int e = 0; e < num_experts; ++e) {
    std::set_difference(kept_by[e].begin(), kept_by[e].end(), out.shared.begin(), out.shared.end(),
                        std::back_inserter(out.own[e]));
  }
  return out;
}

std::vector<int> ShareWidths(const std::vector<std::vector<double>>& losses, int intermediate,
                             int64_t total, int least, int step) {
  const auto num_layers = static_cast<int64_t>(losses.size());
  PREGATE_CHECK(least % step == 0 && num_layers * least <= total);
  // [layers][n]: what the n-th step of neurons saves, over all experts.
  std::vector<std::vector<double>> saved;
  for (const std::vector<double>& layer : losses) {
    std::vector<double>& steps = saved.emplace_back(intermediate / step);
    for (auto expert = layer.begin(); expert != layer.end(); expert += intermediate) {
      std::vector<double> ranked(expert, expert + intermediate);
      std::sort(ranked.begin(), ranked.end(), std::greater<>());
      for (size_t i = 0; i < steps.size() * step; ++i) steps[i / step] += ranked[i];
    }
  }
  std::vector<int> widths(losses.size(), least);
  for (int64_t left = total - num_layers * least; left >= step; left -= step) {
    int best = -1;
    double most = -1;
    for (size_t l = 0; l < saved.size(); ++l) {
      const size_t next = widths[l] / step;
      if (next >= saved[l].size() || saved[l][next] <= most) continue;
      most = saved[l][next];
      best = static_cast<int>(l);
    }
    if (best < 0) break;
    widths[best] += step;
  }
  return widths;
}

}  // namespace pregate
