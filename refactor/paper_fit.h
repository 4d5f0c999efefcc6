// Experts and router targets as the paper makes them (docs/PAPER.md, "1. From a dense model to
// experts"), for --method readme.
//
//   statistic   of a domain and a neuron: the mean of |h_j| over the domain's tokens
//   mask        of a domain: the neurons whose statistic is highest, `keep` of a layer's
//   overlap     of a token and an expert: which part of the token's own neurons of highest |h_j|, as
//               many as a mask has, lies in the expert's mask; summed over layers
//
// Where the released code departs from the paper's text, this follows the text: absolute values and
// one threshold, where the code takes signed features at five. Shared neurons are in every mask, so
// they add the same to all of a token's overlaps, and count here as they do in the text.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "refactor/activation_log.h"
#include "refactor/expert_fit.h"

namespace pregate {

// As FitExperts, of whose options it takes `widths` and `num_threads`; `scores` are overlaps. The
// log's codes make each |h_j| exact to 4.5%. `advance` counts 2 passes over each layer.
absl::StatusOr<ExpertFit> FitAsPaper(const ActivationLog& log, absl::Span<const int32_t> domains,
                                     int num_experts,
                                     const std::vector<std::vector<float>>& down_norms,
                                     const ExpertFitOptions& options,
                                     const std::function<void(int)>& advance);

}  // namespace pregate
