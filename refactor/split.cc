#include "refactor/split.h"

#include <algorithm>

#include "common/base/status.h"
#include "refactor/paper_fit.h"

namespace pregate {
namespace {

// Parts of the stage's time, roughly.
constexpr double kFitDone = 0.4, kScalesDone = 0.7;

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
  const std::vector<int> windows = corpus.SomeOfEach(options.refit_windows_per_domain);
  std::vector<TokenId> tokens;
  for (const int w : windows) {
    const auto window = corpus.Window(w);
    tokens.insert(tokens.end(), window.begin(), window.end());
  }
  const size_t window_values = static_cast<size_t>(corpus.window_tokens) * spec.intermediate;
  const auto solve = [&](int layer, absl::Span<const float> h,
                         absl::Span<const float> down) -> absl::Status {
    ScaleRefit refit(static_cast<int>(corpus.domains.size()), spec.intermediate);
    for (size_t i = 0; i < windows.size(); ++i) {
      refit.Add(corpus.window_domain[windows[i]], h.subspan(i * window_values, window_values));
    }
    ASSIGN_OR_RETURN(scales.emplace_back(), refit.Solve(down, layers[layer], options.refit_ridge));
    progress((layer + 1.0) / spec.num_layers);
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(model.Run(tokens, corpus.window_tokens, solve));
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

absl::StatusOr<SplitModel> Split(const DenseForward& model, const ModelSpec& spec,
                                 const Corpus& corpus, const ActivationLog& log,
                                 const SplitOptions& options, const StageHooks& hooks) {
  const int num_experts = static_cast<int>(corpus.domains.size());
  ASSIGN_OR_RETURN(const auto down_norms, model.DownNorms());
  int passes = 0;
  const auto fit_experts = options.as_paper ? FitAsPaper : FitExperts;
  ASSIGN_OR_RETURN(
      ExpertFit fit,
      fit_experts(log, TokenDomains(corpus), num_experts, down_norms, options.fit, [&](int n) {
        passes += n;
        hooks.progress(kFitDone * passes / FitPasses(options.fit, spec.num_layers), "experts");
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
