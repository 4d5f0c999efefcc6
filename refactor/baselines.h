// What a run's own model is held against, each tuned by the same loop (tune.h) on the same batches,
// for as many steps, by the same loss and rate, stored within the same bytes and scored on the same
// windows. All but the last are other neuron sets for the loop:
//
//   parent        every neuron: the dense model, tuned
//   parent-text   the same by the text's nll alone, and on no text of the parent's own
//   dense         one set for all text, as wide as an expert: the neurons with the highest statistic
//                 (expert_fit.h) over all domains' tokens. As experts are one set of weights, a mask
//                 that all of them share is the same model.
//   random        as wide in each layer as the run's shared and own sets, drawn at random, each
//                 expert's own from what is not shared; with routers as the run has them
//   layer-router  the run's sets, and in each layer a router of its own that reads the FFN's input
//                 (tune.h, causal_model.h), in place of the one on token ids. What the run's model
//                 is worse by is the price of pre-gating.
//
// Sets of `dense` and `random` get scales as the run's have (scale_refit.h).
#pragma once

#include "nlohmann/json.hpp"
#include "refactor/artifact.h"
#include "refactor/neuron_sets.h"
#include "refactor/scale_refit.h"

namespace pregate {

// [layers] of the sets of `name`, from what `split` has: one set is all shared. `one_set`:
// ExpertFit's. REQUIRES: `name` is one of kBaselines (refactor_run.h).
std::vector<LayerNeurons> BaselineNeurons(const std::string& name, const Artifact& split,
                                          const std::vector<std::vector<int32_t>>& one_set,
                                          int intermediate, uint64_t seed);

// ExpertFit's one_set from a record of split, "one_set". FailedPrecondition where it has none;
// InvalidArgument where that is not of the model. `where` names the record.
absl::StatusOr<std::vector<std::vector<int32_t>>> OneSetFromRecord(const nlohmann::json& record,
                                                                   const std::string& where,
                                                                   const ModelSpec& dense);

// As an artifact has them: where all is shared the last `step` neurons become every expert's own, since
// an expert without any is none. `scales`: as `neurons`, or none.
std::vector<ArtifactLayer> BaselineLayers(std::vector<LayerNeurons> neurons,
                                          std::vector<LayerScales> scales, int step);

}  // namespace pregate
