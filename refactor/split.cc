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

// The windows whose activations go into the scales' equations: evenly spread over each domain.
std::vector<int> RefitWindows(const Corpus& corpus, int per_domain) {
  std::vector<int> in_domain(corpus.domains.size(), 0);
  for (int32_t d : corpus.window_domain) ++in_domain[d];
  std::vector<int> chosen, seen(corpus.domains.size(), 0);
  for (int w = 0; w < corpus.num_windows(); ++w) {
    const int32_t d = corpus.window_domain[w];
    const int64_t i = seen[d]++, n = in_domain[d], take = std::min<int64_t>(per_domain, n);
    if ((i + 1) * take / n != i * take / n) chosen.push_back(w);
  }
  return chosen;
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
  const std::vector<int> windows = RefitWindows(corpus, options.refit_windows_per_domain);
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

absl::StatusOr<SplitModel> Split(const DenseForward& model, const ModelSpec& spec,
                                 const Corpus& corpus, const ActivationLog& log,
                                 const SplitOptions& options, const StageHooks& hooks) {
  const int num_experts = static_cast<int>(corpus.domains.size());
  int passes = 0;
  const auto fit_experts = options.as_paper ? FitAsPaper : FitExperts;
  ASSIGN_OR_RETURN(
      ExpertFit fit,
      fit_experts(
          log, TokenDomains(corpus), num_experts, model.DownNorms(), options.fit, [&](int n) {
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
                    .keep = options.fit.keep,
                    .seed = static_cast<int64_t>(options.router.seed),
                    .layers = MakeLayers(std::move(fit.layers), std::move(scales)),
                    .router = router.spec,
                    .embed_columns = router.embed_columns,
                    .embed_scale = router.embed_scale,
                    .router_tensors = std::move(router.tensors)};
  return SplitModel{std::move(artifact), std::move(fit.one_set)};
}

}  // namespace pregate
