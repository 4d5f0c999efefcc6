#include "refactor/layer_widths.h"

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <numeric>

#include "common/base/status.h"
#include "refactor/causal_model.h"
#include "refactor/expert_model.h"
#include "refactor/neuron_sets.h"

namespace pregate {
namespace {

// [layers] of [tokens, intermediate] h_j dL/dh_j on one window. Each token is made an expert of its own,
// with gains of 1: the gradient of a gain is that product.
std::vector<at::Tensor> GainGradients(CausalModel& model, const at::Tensor& ids,
                                      at::Generator& random) {
  const int64_t tokens = ids.size(1);
  std::vector<at::Tensor> gains;
  for (int l = 0; l < model.spec().num_layers; ++l) {
    gains.push_back(at::ones({tokens, model.spec().intermediate}, at::kFloat).requires_grad_(true));
  }
  model.SetGains(gains);
  const at::Tensor log_p =
      model.Logits(model.Hidden(ids, at::arange(tokens, at::kLong).unsqueeze(0))).log_softmax(-1);
  const at::Tensor drawn = at::multinomial(log_p.detach().exp(), 1, /*replacement=*/false, random);
  log_p.gather(1, drawn).sum().backward();
  std::vector<at::Tensor> gradients;
  for (const at::Tensor& gain : gains) gradients.push_back(gain.grad());
  return gradients;
}

}  // namespace

double MeanKeep(const WidthOptions& options) {
  if (options.keep_layers.empty()) return options.keep;
  return std::accumulate(options.keep_layers.begin(), options.keep_layers.end(), 0.0) /
         static_cast<double>(options.keep_layers.size());
}

absl::Status CheckWidths(const WidthOptions& options, const ModelSpec& spec) {
  if (options.keep_layers.empty()) return KeptWidth(options.keep, spec.intermediate).status();
  if (static_cast<int>(options.keep_layers.size()) != spec.num_layers) {
    return absl::InvalidArgumentError(absl::StrCat("keep-layers names ", options.keep_layers.size(),
                                                   " layers, the model has ", spec.num_layers));
  }
  for (size_t l = 0; l < options.keep_layers.size(); ++l) {
    const absl::Status status = KeptWidth(options.keep_layers[l], spec.intermediate).status();
    if (!status.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("keep-layers: layer ", l, ": ", status.message()));
    }
  }
  return absl::OkStatus();
}

bool WorthInBf16(const ModelSpec& spec, int64_t f32_bytes_max) {
  return DenseForward::WeightBytes(spec, /*ffn_bytes_kept=*/INT64_MAX) > f32_bytes_max;
}

absl::StatusOr<std::vector<std::vector<double>>> MeasureWorth(
    const Checkpoint& dense, const Corpus& corpus, int windows_per_domain, uint64_t seed,
    const std::function<void(double)>& progress, int64_t f32_bytes_max) {
  const at::ScalarType type = WorthInBf16(dense.spec(), f32_bytes_max) ? at::kBFloat16 : at::kFloat;
  ASSIGN_OR_RETURN(CausalModel model,
                   CausalModel::Load(dense, corpus.window_tokens, at::kCPU, type, type));
  const int64_t width = dense.spec().intermediate;
  const auto num_domains = static_cast<int64_t>(corpus.domains.size());
  const std::vector<int> windows = corpus.SomeOfEach(windows_per_domain);
  std::vector<double> tokens(num_domains);
  const at::Tensor sums = at::zeros({dense.spec().num_layers, num_domains, width}, at::kDouble);
  at::Generator random = at::detail::createCPUGenerator(seed);
  for (size_t i = 0; i < windows.size(); ++i) {
    const int64_t domain = corpus.window_domain[windows[i]];
    const std::vector<at::Tensor> gradients =
        GainGradients(model, WindowIds(corpus, windows[i], 1, at::kCPU), random);
    for (size_t l = 0; l < gradients.size(); ++l) {
      sums[static_cast<int64_t>(l)][domain] += gradients[l].square().sum(0).to(at::kDouble);
    }
    tokens[domain] += corpus.window_tokens;
    progress(static_cast<double>(i + 1) / static_cast<double>(windows.size()));
  }
  std::vector<std::vector<double>> worth;
  for (int64_t l = 0; l < sums.size(0); ++l) {
    for (int64_t d = 0; d < num_domains; ++d) sums[l][d] /= std::max(1.0, tokens[d]);
    const double* const first = sums[l].data_ptr<double>();
    worth.emplace_back(first, first + num_domains * width);
  }
  return worth;
}

absl::StatusOr<std::vector<int>> ChooseWidths(const Checkpoint& dense, const Corpus& corpus,
                                              const WidthOptions& options, uint64_t seed,
                                              const std::function<void(double)>& progress) {
  const ModelSpec& spec = dense.spec();
  std::vector<int> widths;
  for (const double keep : options.keep_layers) {
    widths.push_back(*KeptWidth(keep, spec.intermediate));
  }
  if (!widths.empty()) return widths;
  const int even = *KeptWidth(options.keep, spec.intermediate);
  if (options.by_layer == "even") return std::vector<int>(spec.num_layers, even);
  ASSIGN_OR_RETURN(const auto worth,
                   MeasureWorth(dense, corpus, options.worth_windows_per_domain, seed, progress));
  const int step = WidthStep(spec.intermediate);
  const int least = static_cast<int>(kLeastOfKeep * even) / step * step;
  const auto total = static_cast<int64_t>(options.keep * spec.intermediate * spec.num_layers);
  return ShareWidths(worth, spec.intermediate, total, std::max(least, step), step);
}

}  // namespace pregate
