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
// the same number. A neuron that all keep may be in every own instead.
struct LayerNeurons {
  std::vector<int32_t> shared;
  std::vector<std::vector<int32_t>> own;
};

// What widths of a layer's parts are multiples of: 16, by which cards multiply, where `intermediate` is
// one of at least 256; else 1.
int WidthStep(int intermediate);

// The widest that is no more than a keep fraction. InvalidArgument unless 0 < keep <= 1 and that is
// at least one step.
absl::StatusOr<int> KeptWidth(double keep, int intermediate);

// `scores` [num_experts, intermediate], higher is more important. Every expert keeps its `kept`
// highest; of ties the lower index. What all keep beyond a multiple of `step` is everyone's own: the
// neurons that some expert ranks lowest; and of several experts each has some of its own.
// REQUIRES: 0 < kept <= intermediate, scores.size() a multiple of intermediate, no NaN.
LayerNeurons SelectNeurons(absl::Span<const double> scores, int intermediate, int kept, int step);

// How many neurons each layer keeps: [layers], multiples of `step` whose sum is at most `total`.
// `losses` [layers][num_experts, intermediate]: what is lost without a neuron. A layer of width w
// loses each expert's lowest intermediate - w, so each further step goes where it saves most. Each layer
// keeps from `least` on. REQUIRES: least is a multiple of step, and all layers' are within total.
std::vector<int> ShareWidths(const std::vector<std::vector<double>>& losses, int intermediate,
                             int64_t total, int least, int step);

}  // namespace pregate
