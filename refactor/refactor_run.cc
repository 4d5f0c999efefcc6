#include "refactor/refactor_run.h"

#include <algorithm>
#include <memory>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "refactor/activation_log.h"
#include "refactor/dense_forward.h"
#include "refactor/energy_code.h"
#include "refactor/progress.h"
#include "refactor/scale_refit.h"

namespace pregate {
namespace {

constexpr int kWindowsPerCall = 2;  // enough rows for the matrix product, few enough for the cache

// How long each stage takes beside the others, in GFLOP of matrix product.
std::vector<StageProgress::Stage> Stages(const ModelSpec& spec, const Corpus& corpus,
                                         const RefactorOptions& options) {
  const double layers = spec.num_layers, width = spec.intermediate;
  const double tokens = static_cast<double>(corpus.tokens.size());
  const double domains = static_cast<double>(corpus.domains.size());
  const double layer_weights =
      double{1.0} * spec.hidden *
      (3 * width + 2.0 * spec.head_dim * (spec.num_heads + spec.num_kv_heads));
  const double refit_tokens = domains * options.refit_windows_per_domain * corpus.window_tokens;
  const double forward = 2 * layers * (tokens * layer_weights + refit_tokens * width * width);
  const double code = 50;  // operations to read one activation back and add it up
  const double fit = FitPasses(options.fit, 1) * layers * tokens * width * code;
  const double refit =
      options.refit_windows_per_domain == 0 ? 0 : layers * domains * width * width * width;
  const RouterTrainOptions& r = options.router;
  const double hidden = std::min(r.hidden, spec.hidden);
  const double router_weights = 4 * hidden * hidden + 2 * hidden * r.intermediate;
  const double router = double{1.0} * r.steps * r.batch_windows * corpus.window_tokens *
                        (6 * router_weights + 20 * hidden * corpus.window_tokens);
  return {{"activations", forward / 1e9},
          {"experts", fit / 1e9},
          {"scales", refit / 1e9},
          {"router", router / 1e9}};
}

// The windows whose activations go into the scales' equations: evenly spread over each domain.
std::vector<bool> RefitWindows(const Corpus& corpus, int per_domain) {
  std::vector<int> in_domain(corpus.domains.size(), 0);
  for (int32_t d : corpus.window_domain) ++in_domain[d];
  std::vector<bool> chosen;
  std::vector<int> seen(corpus.domains.size(), 0);
  for (int32_t d : corpus.window_domain) {
    const int64_t i = seen[d]++, n = in_domain[d], take = std::min<int64_t>(per_domain, n);
    chosen.push_back((i + 1) * take / n != i * take / n);
  }
  return chosen;
}

// Runs the dense model over all windows; fills `log`, and `refit` from its windows.
absl::Status LogActivations(const DenseForward& model, const Corpus& corpus,
                            const std::vector<std::vector<float>>& down_norms,
                            const std::vector<bool>& refit_windows, ActivationLog& log,
                            ScaleRefit* refit, StageProgress& progress) {
  const int64_t width = log.width(), window = corpus.window_tokens;
  std::vector<uint8_t> codes;
  std::vector<float> energies;
  for (int first = 0; first < corpus.num_windows(); first += kWindowsPerCall) {
    const int num = std::min(kWindowsPerCall, corpus.num_windows() - first);
    const int64_t rows = num * window;
    codes.resize(rows * width);
    energies.resize(rows);
    const auto visit = [&](int layer, absl::Span<const float> h) {
      for (int64_t r = 0; r < rows; ++r) {
        energies[r] = EncodeShares(h.subspan(r * width, width), down_norms[layer],
                                   absl::MakeSpan(codes).subspan(r * width, width));
      }
      for (int i = 0; i < num && refit != nullptr; ++i) {
        if (!refit_windows[first + i]) continue;
        refit->Add(layer, corpus.window_domain[first + i],
                   h.subspan(i * window * width, window * width));
      }
      return log.Write(layer, first * window, codes, energies);
    };
    RETURN_IF_ERROR(model.Run(absl::MakeConstSpan(corpus.tokens).subspan(first * window, rows),
                              corpus.window_tokens, visit));
    progress.Update(static_cast<double>(first + num) / corpus.num_windows());
  }
  return absl::OkStatus();
}

Provenance Describe(const Checkpoint& dense, const Corpus& corpus, const RefactorOptions& options) {
  Provenance p;
  const size_t slash = dense.path().find_last_of('/');
  p.source = slash == std::string::npos ? dense.path() : dense.path().substr(slash + 1);
  p.source_digest = dense.digest();
  p.method = absl::StrFormat(
      "keep by mean(h^2) mean(share of output energy), blend %g, %d rounds; scales refitted on %d "
      "windows a domain, ridge %g; router of %d distilled in %d steps of %d windows, temperature "
      "%g, persistence %g",
      options.fit.blend, options.fit.rounds, options.refit_windows_per_domain, options.refit_ridge,
      options.router.hidden, options.router.steps, options.router.batch_windows,
      options.router.temperature, options.router.persistence);
  p.data =
      absl::StrFormat("%s: %d windows of %d tokens out of %d, last %g%% held out",
                      absl::StrJoin(corpus.domains, ", "), corpus.num_windows(),
                      corpus.window_tokens, corpus.tokens_in_text, 100 * options.corpus.hold_out);
  p.commit = options.commit;
  return p;
}

std::vector<int32_t> TokenDomains(const Corpus& corpus) {
  std::vector<int32_t> domains;
  for (int32_t d : corpus.window_domain) domains.insert(domains.end(), corpus.window_tokens, d);
  return domains;
}

std::vector<ArtifactLayer> Layers(std::vector<LayerNeurons> neurons,
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

void Report(const Artifact& artifact, const TrainedRouter& router, std::ostream& out) {
  double shared = 0, own = 0;
  for (const ArtifactLayer& layer : artifact.layers) {
    shared += static_cast<double>(layer.shared.size()) / artifact.layers.size();
    own += static_cast<double>(layer.own[0].size()) / artifact.layers.size();
  }
  out << absl::StrFormat("a layer's mean width: %.0f shared, %.0f own\n", shared, own)
      << absl::StrFormat("router on the calibration text: %.1f%% of tokens keep the route;",
                         100 * router.kept_routes);
  for (size_t e = 0; e < artifact.experts.size(); ++e) {
    out << absl::StrFormat(" %s %.1f%%", artifact.experts[e], 100 * router.expert_use[e]);
  }
  out << "\n";
}

}  // namespace

absl::StatusOr<Artifact> RunRefactor(const Checkpoint& dense, const RefactorOptions& options,
                                     Clock& clock, std::ostream& out) {
  const ModelSpec& spec = dense.spec();
  RETURN_IF_ERROR(KeptWidth(options.fit.keep, spec.intermediate).status());
  ASSIGN_OR_RETURN(const auto model, DenseForward::Load(dense));
  ASSIGN_OR_RETURN(const auto tokenizer, dense.LoadTokenizer());
  ASSIGN_OR_RETURN(const Corpus corpus, ReadCorpus(options.corpus_dir, *tokenizer, options.corpus));
  const int num_experts = static_cast<int>(corpus.domains.size());
  const auto num_tokens = static_cast<int64_t>(corpus.tokens.size());
  ASSIGN_OR_RETURN(const auto log, ActivationLog::Create(options.scratch_dir, spec.num_layers,
                                                         num_tokens, spec.intermediate));
  std::unique_ptr<ScaleRefit> refit;
  if (options.refit_windows_per_domain > 0) {
    refit = std::make_unique<ScaleRefit>(spec.num_layers, num_experts, spec.intermediate);
  }
  out << absl::StrFormat("%d domains, %d of %d tokens, %.1f GB of activations on disk\n",
                         num_experts, num_tokens, corpus.tokens_in_text,
                         1e-9 * num_tokens * spec.num_layers * spec.intermediate);

  StageProgress progress(out, clock, Stages(spec, corpus, options));
  progress.NextStage();
  const auto down_norms = model->DownNorms();
  RETURN_IF_ERROR(LogActivations(*model, corpus, down_norms,
                                 RefitWindows(corpus, options.refit_windows_per_domain), *log,
                                 refit.get(), progress));

  progress.NextStage();
  int passes = 0;
  ASSIGN_OR_RETURN(
      ExpertFit fit,
      FitExperts(*log, TokenDomains(corpus), num_experts, down_norms, options.fit, [&](int n) {
        progress.Update(static_cast<double>(passes += n) / FitPasses(options.fit, spec.num_layers));
      }));

  progress.NextStage();
  std::vector<LayerScales> scales;
  for (int l = 0; l < spec.num_layers && refit != nullptr; ++l) {
    ASSIGN_OR_RETURN(scales.emplace_back(),
                     refit->Solve(l, model->DownProj(l), fit.layers[l], options.refit_ridge));
    progress.Update((l + 1.0) / spec.num_layers);
  }
  refit.reset();

  progress.NextStage();
  int steps = 0;
  ASSIGN_OR_RETURN(
      TrainedRouter router,
      TrainRouter(model->Embedding(), spec.hidden, corpus, fit.scores, num_experts, spec.rope_theta,
                  options.router,
                  [&] { progress.Update(static_cast<double>(++steps) / options.router.steps); }));
  progress.Finish();

  Artifact artifact{.experts = corpus.domains,
                    .keep = options.fit.keep,
                    .seed = static_cast<int64_t>(options.router.seed),
                    .provenance = Describe(dense, corpus, options),
                    .layers = Layers(std::move(fit.layers), std::move(scales)),
                    .router = router.spec,
                    .embed_columns = router.embed_columns,
                    .embed_scale = router.embed_scale,
                    .router_tensors = std::move(router.tensors)};
  Report(artifact, router, out);
  return artifact;
}

}  // namespace pregate
