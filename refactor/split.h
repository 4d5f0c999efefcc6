// Stage 2: from the activation log to neuron sets, their scales and a first router.
#pragma once

#include "refactor/artifact.h"
#include "refactor/calibrate.h"
#include "refactor/expert_fit.h"
#include "refactor/router_train.h"

namespace pregate {

struct SplitOptions {
  ExpertFitOptions fit;
  RouterTrainOptions router;
  int refit_windows_per_domain = 6;  // 0: leave the columns of down_proj as they are
  double refit_ridge = 0.01;
};

// Without provenance. Uses threads of its own and LibTorch's. It is one piece: a kill means from
// its beginning.
absl::StatusOr<Artifact> Split(const DenseForward& model, const ModelSpec& spec,
                               const Corpus& corpus, const ActivationLog& log,
                               const SplitOptions& options, const StageHooks& hooks);

}  // namespace pregate
