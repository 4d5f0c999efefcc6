// From logged activations to neuron sets and to how well each expert suits each token.
//
//   log, domains ──statistic──▶ sets ──scores──▶ best expert of each token ──statistic──▶ sets ──▶
//   …
//
// The statistic of expert e and neuron j over a set of tokens is mean(h_j^2) mean(share_j): the
// activation's energy (which rare strong tokens dominate) times its share of the token's FFN output
// energy (where every token counts the same). Held-out perplexity prefers the product to either and
// to the paper's mean |h_j|. The first sets come from the domains' tokens alone; each further round
// blends in the tokens that the sets of the round before serve best, so that the experts specialise
// on what they will be routed, and `blend` < 1 keeps each one good at its whole domain.
//
// A token's score for e sums, over layers, the share that e's own neurons hold: shared neurons
// serve every token and are left out.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "refactor/activation_log.h"
#include "refactor/neuron_sets.h"

namespace pregate {

struct ExpertFitOptions {
  std::vector<int> widths;  // [layers]: of its neurons, that each expert keeps
  double blend = 0.8;       // weight of the assigned tokens' statistic, 0 .. 1
  int rounds = 2;           // of assignment; 0 is the domains' statistic alone
  int num_threads = 2;      // the result does not depend on it
};

struct ExpertFit {
  std::vector<LayerNeurons> layers;
  std::vector<float> scores;  // [num_tokens, num_experts], of the final sets
  // [layers] of what one set for all tokens would keep, by their statistic: ascending.
  std::vector<std::vector<int32_t>> one_set;
};

// `domains` [log.num_tokens()]: the expert that each token's domain trains, 0 .. num_experts-1.
// `down_norms` [layers][width]: |column of down_proj|^2. `advance` is called with the number of
// passes over one layer that have ended since the last call; FitPasses says how many come in all.
// Threads are started and joined within the call.
absl::StatusOr<ExpertFit> FitExperts(const ActivationLog& log, absl::Span<const int32_t> domains,
                                     int num_experts,
                                     const std::vector<std::vector<float>>& down_norms,
                                     const ExpertFitOptions& options,
                                     const std::function<void(int)>& advance);

int FitPasses(const ExpertFitOptions& options, int num_layers);

}  // namespace pregate
