#include "refactor/split.h"

#include <algorithm>

#include "common/base/status.h"
#include "refactor/paper_fit.h"

namespace pregate {
namespace {

// Parts of the stage's time, roughly.
constexpr double kWidthsDone = 0.2, kFitDone = 0.5, kScalesDone = 0.75;

std::vector<int32_t> TokenDomains(const Corpus& corpus) {
  std::vector<int32_t> domains;
  for (int32_t d : corpus.window_domain) domains.insert(domains.end(), corpus.window_tokens, d);
  return domains;
}

}  // namespace

absl::StatusOr<std::vector<LayerScales>> FitScales(const DenseForward& model, const ModelSpec& spec,
                                                   const Corpus& corpus,
                                                   const std::vector<LayerNeurons>& layers,
                                                   const SplitOptions& options,
                                                   const std::function<void(double)>& progress) {
  std::vector<LayerScales> scales;
  if (options.refit_windows_per_domain == 0) return scales;
  ScaleRefit refit(spec.num_layers, static_cast<int>(corpus.domains.size()), spec.intermediate);
  const std::vector<int> windows = corpus.SomeOfEach(options.refit_windows_per_domain);
  double done = 0;
  const double step = 1 / (static_cast<double>(windows.size()) + spec.num_layers);
  for (const int w : windows) {
    const auto add = [&](int layer, absl::Span<const float> h) {
      refit.Add(layer, corpus.window_domain[w], h);
      return absl::OkStatus();
    };
    RETURN_IF_ERROR(model.Run(corpus.Window(w), corpus.window_tokens, add));
    progress(done += step);
  }
  for (int l = 0; l < spec.num_layers; ++l) {
    ASSIGN_OR_RETURN(scales.emplace_back(),
                     refit.Solve(l, model.DownProj(l), layers[l], options.refit_ridge));
    progress(done += step);
  }
  return scales;
}

std::vector<ArtifactLayer> MakeLayers(std::vector<LayerNeurons> neurons,
                                      std::vector<LayerScales> scales) {
  std::vector<ArtifactLayer> layers(neurons.size());
  for (size_t l = 0; l < layers.size(); ++l) {
    layers[l].shared = std::move(neurons[l].shared);
    layers[l].own = std::move(neurons[l].own);
    if (scales.empty()) continue;
    layers[l].shared_scale = std::move(scales[l].shared);
    layers[l].own_scale = std::move(scales[l].own);
  }
  return layers;
}

absl::StatusOr<SplitModel> Split(const Checkpoint& dense, const DenseForward& model,
                                 const Corpus& corpus, const ActivationLog& log,
                                 const SplitOptions& options, const StageHooks& hooks) {
  const ModelSpec& spec = dense.spec();
  ExpertFitOptions fit_options = options.fit;
  ASSIGN_OR_RETURN(fit_options.widths, ChooseWidths(dense, corpus, options.widths,
                                                    options.router.seed, [&](double done) {
                                                      hooks.progress(kWidthsDone * done, "widths");
                                                    }));
  const int num_experts = static_cast<int>(corpus.domains.size());
  int passes = 0;
  const auto fit_experts = options.as_paper ? FitAsPaper : FitExperts;
  ASSIGN_OR_RETURN(
      ExpertFit fit,
      fit_experts(log, TokenDomains(corpus), num_experts, model.DownNorms(), fit_options,
                  [&](int n) {
                    passes += n;
                    const double done =
                        static_cast<double>(passes) / FitPasses(fit_options, spec.num_layers);
                    hooks.progress(kWidthsDone + (kFitDone - kWidthsDone) * done, "experts");
                  }));
  ASSIGN_OR_RETURN(std::vector<LayerScales> scales,
                   FitScales(model, spec, corpus, fit.layers, options, [&](double done) {
                     hooks.progress(kFitDone + (kScalesDone - kFitDone) * done, "scales");
                   }));
  int steps = 0;
  ASSIGN_OR_RETURN(
      TrainedRouter router,
      TrainRouter(model.Embedding(), spec.hidden, corpus, fit.scores, num_experts, spec.rope_theta,
                  options.router, [&] {
                    hooks.progress(kScalesDone + (1 - kScalesDone) * ++steps / options.router.steps,
                                   "router");
                  }));
  Artifact artifact{.experts = corpus.domains,
                    .keep = MeanKeep(options.widths),
                    .seed = static_cast<int64_t>(options.router.seed),
                    .layers = MakeLayers(std::move(fit.layers), std::move(scales)),
                    .router = router.spec,
                    .embed_columns = router.embed_columns,
                    .embed_scale = router.embed_scale,
                    .router_tensors = std::move(router.tensors)};
  return SplitModel{std::move(artifact), std::move(fit.one_set)};
}

}  // namespace pregate
