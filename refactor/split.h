// Stage 2: from the activation log to neuron sets, their scales and a first router.
#pragma once

#include "refactor/artifact.h"
#include "refactor/calibrate.h"
#include "refactor/expert_fit.h"
#include "refactor/layer_widths.h"
#include "refactor/router_train.h"
#include "refactor/scale_refit.h"

namespace pregate {

struct SplitOptions {
  WidthOptions widths;
  ExpertFitOptions fit;  // its widths are those chosen
  RouterTrainOptions router;
  bool as_paper = false;             // neurons and router's targets (paper_fit.h)
  int refit_windows_per_domain = 6;  // 0: leave the columns of down_proj as they are
  double refit_ridge = 0.01;
};

struct SplitModel {
  Artifact artifact;                          // without provenance
  std::vector<std::vector<int32_t>> one_set;  // ExpertFit's
};

// Uses threads of its own and LibTorch's. It is one piece: a kill means from its beginning.
absl::StatusOr<SplitModel> Split(const DenseForward& model, const ModelSpec& spec,
                                 const Corpus& corpus, const ActivationLog& log,
                                 const SplitOptions& options, const StageHooks& hooks);

// Scales (scale_refit.h) of any sets of as many experts as there are domains: [layers], or none
// where the options want none. `progress` takes the part that is done, 0 .. 1.
absl::StatusOr<std::vector<LayerScales>> FitScales(const DenseForward& model, const ModelSpec& spec,
                                                   const Corpus& corpus,
                                                   const std::vector<LayerNeurons>& layers,
                                                   const SplitOptions& options,
                                                   const std::function<void(double)>& progress);
std::vector<ArtifactLayer> MakeLayers(std::vector<LayerNeurons> neurons,
                                      std::vector<LayerScales> scales);

}  // namespace pregate
