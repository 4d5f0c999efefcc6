// Which FFN neurons the experts keep: a pure function of one score per expert and neuron
// (docs/PAPER.md, "1. From a dense model to experts").
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace pregate {

// One layer. `shared`: kept by every expert; `own[e]`: the rest of what expert e keeps. Indices
// ascend; shared and own[e] are disjoint; all own[e] are equally wide, since every expert keeps
// the same number.
struct LayerNeurons {
  std::vector<int32_t> shared;
  std::vector<std::vector<int32_t>> own;
};

// Neurons that a keep fraction means: rounded to the nearest. InvalidArgument unless 0 < keep <= 1
// and at least one neuron is kept.
absl::StatusOr<int> KeptWidth(double keep, int intermediate);

// `scores` [num_experts, intermediate], higher is more important. Every expert keeps its `kept`
// highest; of ties the lower index. REQUIRES: 0 < kept <= intermediate, scores.size() a multiple of
// intermediate, no NaN.
LayerNeurons SelectNeurons(absl::Span<const double> scores, int intermediate, int kept);

}  // namespace pregate
