#include "refactor/router_train.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>

#include "common/base/status.h"
#include "refactor/optimizer.h"
#include "refactor/torch_ops.h"

namespace pregate {
namespace {

constexpr double kInitDeviation = 0.02;
constexpr double kMuonMomentum = 0.95;
constexpr double kMuonDecay = 0.1;
constexpr double kAdamDecay = 0.01;
constexpr int kWarmupSteps = 10;
constexpr double kFinalRate = 0.05;                    // of the peak, at the end of the cosine
constexpr double kCycleDecay = 0.8;                    // of the peak, from one cosine to the next
constexpr double kBestShare = 0.75, kSmoothing = 0.5;  // of the mixed loss

// One layer, as common/router computes it, over whole windows of `tokens` ids.
class Network {
 public:
  Network(const RouterSpec& spec, const at::Tensor& embed, int num_experts, int tokens,
          at::Device device)
      : spec_(spec), embed_(embed.to(device)), tokens_(tokens) {
    const int64_t d = spec.hidden;
    for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"}) {
      AddLinear(absl::StrCat(kLayer, name), d, d);
    }
    AddLinear(absl::StrCat(kLayer, "proj_1"), spec.intermediate, d);
    AddLinear(absl::StrCat(kLayer, "proj_2"), d, spec.intermediate);
    AddLinear(kHead, num_experts, d);
    for (const char* name :
         {"router.layers.0.input_layernorm.weight",
          "router.layers.0.post_attention_layernorm.weight", "router.norm.weight"}) {
      parameters_[name] = at::ones({d}).requires_grad_();
    }
    std::vector<float> inverse = PlainRope(spec.head_dim(), spec.rope_theta).inv_freq;
    const at::Tensor angles =
        at::outer(at::arange(tokens, at::kFloat),
                  at::from_blob(inverse.data(), {spec.head_dim() / 2}, at::kFloat));
    cos_ = angles.cos().to(device);
    sin_ = angles.sin().to(device);
    causal_ =
        at::full({tokens, tokens}, -std::numeric_limits<float>::infinity()).triu(1).to(device);
    for (auto& [name, parameter] : parameters_) {
      parameter = parameter.detach().to(device).requires_grad_();
    }
  }

  void SetParameters(const std::map<std::string, ArtifactTensor>& tensors) {
    const at::NoGradGuard no_grad;
    for (auto& [name, parameter] : parameters_) {
      const ArtifactTensor& tensor = tensors.at(name);
      parameter.copy_(
          at::from_blob(const_cast<float*>(tensor.values.data()), tensor.shape, at::kFloat));
    }
  }

  // ids [windows, tokens] → logits [windows, tokens, experts].
  at::Tensor Forward(const at::Tensor& ids) const {
    const int64_t b = ids.size(0), d = spec_.hidden;
    at::Tensor x = embed_.index_select(0, ids.reshape({-1}));
    const at::Tensor a = Norm(x, "router.layers.0.input_layernorm.weight");
    const at::Tensor q = Rope(Split(Linear(a, "q_proj"), b), cos_, sin_),
                     k = Rope(Split(Linear(a, "k_proj"), b), cos_, sin_);
    const at::Tensor scores =
        (at::matmul(q, k.transpose(2, 3)) / spec_.normalizer + causal_).softmax(-1);
    const at::Tensor mixed =
        at::matmul(scores, Split(Linear(a, "v_proj"), b)).transpose(1, 2).reshape({-1, d});
    x = x + Linear(mixed, "o_proj");
    const at::Tensor f = Norm(x, "router.layers.0.post_attention_layernorm.weight");
    x = x + Linear(at::silu(Linear(f, "proj_1")), "proj_2");
    const at::Tensor logits =
        at::linear(Norm(x, "router.norm.weight"), parameters_.at(absl::StrCat(kHead, ".weight")),
                   parameters_.at(absl::StrCat(kHead, ".bias")));
    return logits.view({b, tokens_, -1});
  }

  const std::map<std::string, at::Tensor>& parameters() const { return parameters_; }
  // The matrices that Muon trains; the head is left to Adam.
  static bool IsMuons(const std::string& name, const at::Tensor& parameter) {
    return parameter.dim() == 2 && name.rfind(kHead, 0) != 0;
  }

 private:
  static constexpr const char* kLayer = "router.layers.0.";
  static constexpr const char* kHead = "router.proj_out";

  void AddLinear(const std::string& name, int64_t outputs, int64_t inputs) {
    parameters_[name + ".weight"] =
        (at::randn({outputs, inputs}) * kInitDeviation).requires_grad_();
    parameters_[name + ".bias"] = at::zeros({outputs}).requires_grad_();
  }
  at::Tensor Linear(const at::Tensor& x, const char* name) const {
    return at::linear(x, parameters_.at(absl::StrCat(kLayer, name, ".weight")),
                      parameters_.at(absl::StrCat(kLayer, name, ".bias")));
  }
  at::Tensor Norm(const at::Tensor& x, const char* name) const {
    return RmsNorm(x, parameters_.at(name), spec_.rms_eps);
  }
  at::Tensor Split(const at::Tensor& x, int64_t windows) const {
    return x.view({windows, tokens_, spec_.num_heads, spec_.head_dim()}).transpose(1, 2);
  }

  const RouterSpec spec_;
  const at::Tensor embed_;
  const int64_t tokens_;
  std::map<std::string, at::Tensor> parameters_;
  at::Tensor cos_, sin_, causal_;
};

at::Tensor OrthogonalizedOne(const at::Tensor& matrix) {
  return Orthogonalized(matrix.unsqueeze(0), at::kFloat).squeeze(0);
}

class Muon {
 public:
  explicit Muon(std::vector<at::Tensor> parameters) : parameters_(std::move(parameters)) {
    for (const at::Tensor& p : parameters_) momenta_.push_back(at::zeros_like(p));
  }
  void Step(double rate) {
    const at::NoGradGuard no_grad;
    for (size_t i = 0; i < parameters_.size(); ++i) {
      at::Tensor& p = parameters_[i];
      momenta_[i].mul_(kMuonMomentum).add_(p.grad());
      const at::Tensor update = OrthogonalizedOne(p.grad() + kMuonMomentum * momenta_[i]);
      const double aspect = std::max(1.0, static_cast<double>(p.size(0)) / p.size(1));
      p.mul_(1 - rate * kMuonDecay).add_(update, -rate * std::sqrt(aspect));
      p.mutable_grad().reset();
    }
  }

 private:
  std::vector<at::Tensor> parameters_, momenta_;
};

// A cycle: warm-up, then a cosine from 1 to about kFinalRate.
double RateFactor(int step, const RouterTrainOptions& options) {
  const int cycle_steps = (options.steps + options.cycles - 1) / options.cycles;
  const int in_cycle = step % cycle_steps;
  const double cosine = 0.5 * (1 + std::cos(M_PI * in_cycle / cycle_steps));
  return std::pow(kCycleDecay, step / cycle_steps) *
         std::min(1.0, (in_cycle + 1.0) / kWarmupSteps) * (kFinalRate + (1 - kFinalRate) * cosine);
}

// Mean over tokens of the cross-entropy with `targets`, or of the mixed loss.
at::Tensor LossOf(const at::Tensor& logits, const at::Tensor& targets, bool mixed) {
  const at::Tensor log_p = logits.log_softmax(-1);
  const at::Tensor soft = -(targets * log_p).sum(-1);
  if (!mixed) return soft.mean();
  const at::Tensor best = log_p.gather(-1, targets.argmax(-1, /*keepdim=*/true)).squeeze(-1);
  const at::Tensor smoothed = -(1 - kSmoothing) * best - kSmoothing * log_p.mean(-1);
  return (kBestShare * smoothed + (1 - kBestShare) * soft).mean();
}

// Scores [windows, tokens, experts] → the distribution that the router is to learn.
at::Tensor Targets(const at::Tensor& scores, const RouterTrainOptions& options) {
  at::Tensor z = scores - scores.mean(-1, /*keepdim=*/true);
  z = z / z.std().clamp_min(1e-12);
  at::Tensor smooth = z.clone();
  const int64_t tokens = z.size(1);
  smooth.narrow(1, 1, tokens - 1)
      .mul_(1 - options.persistence)
      .add_(z.narrow(1, 0, tokens - 1), options.persistence);
  return (smooth / options.temperature).softmax(-1);
}

// Windows in a fresh random order each time all have been seen.
class WindowOrder {
 public:
  WindowOrder(int num_windows, uint64_t seed) : order_(num_windows), rng_(seed) {
    std::iota(order_.begin(), order_.end(), 0);
    next_ = order_.size();
  }
  at::Tensor Next(int num) {
    std::vector<int64_t> picked;
    while (static_cast<int>(picked.size()) < num) {
      if (next_ == order_.size()) {
        std::shuffle(order_.begin(), order_.end(), rng_);
        next_ = 0;
      }
      picked.push_back(order_[next_++]);
    }
    return at::tensor(picked, at::kLong);
  }

 private:
  std::vector<int64_t> order_;
  std::mt19937_64 rng_;
  size_t next_ = 0;
};

void Train(Network& network, const at::Tensor& ids, const at::Tensor& targets,
           const RouterTrainOptions& options, const std::function<void()>& advance) {
  std::vector<at::Tensor> matrices, rest;
  for (const auto& [name, parameter] : network.parameters()) {
    const bool muons = !options.adam_alone && Network::IsMuons(name, parameter);
    (muons ? matrices : rest).push_back(parameter);
  }
  Muon muon(matrices);
  torch::optim::AdamW adam(
      rest, torch::optim::AdamWOptions().betas({0.9, 0.95}).weight_decay(kAdamDecay));
  WindowOrder order(static_cast<int>(ids.size(0)), options.seed);
  for (int step = 0; step < options.steps; ++step) {
    const at::Tensor batch = order.Next(options.batch_windows).to(ids.device());
    const at::Tensor logits = network.Forward(ids.index_select(0, batch));
    const at::Tensor loss = LossOf(logits, targets.index_select(0, batch), options.mixed_loss);
    adam.zero_grad();
    loss.backward();
    const double factor = RateFactor(step, options);
    static_cast<torch::optim::AdamWOptions&>(adam.param_groups()[0].options())
        .lr(options.adam_rate * factor);
    adam.step();
    muon.Step(options.muon_rate * factor);
    advance();
  }
}

// [windows, tokens], on the CPU.
at::Tensor Routes(const Network& network, const at::Tensor& ids) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> chunks;
  for (const at::Tensor& chunk : ids.split(ids.is_cpu() ? 8 : 256)) {
    chunks.push_back(network.Forward(chunk).argmax(-1).to(at::kCPU));
  }
  return at::cat(chunks);
}

void Summarise(const at::Tensor& routes, int num_experts, TrainedRouter& out) {
  const int64_t later = routes.size(1) - 1;
  const at::Tensor same = routes.narrow(1, 1, later).eq(routes.narrow(1, 0, later));
  out.kept_routes = same.to(at::kDouble).mean().item<double>();
  const at::Tensor use = at::bincount(routes.reshape({-1}), {}, num_experts);
  for (int e = 0; e < num_experts; ++e) {
    out.expert_use.push_back(use[e].item<double>() / static_cast<double>(routes.numel()));
  }
}

at::Tensor Ids(const Corpus& corpus) {
  return at::from_blob(const_cast<TokenId*>(corpus.tokens.data()),
                       {corpus.num_windows(), corpus.window_tokens}, at::kInt)
      .to(at::kLong);
}

// The first columns of the model's embedding, [vocab, hidden].
at::Tensor Columns(absl::Span<const float> embedding, int width, int hidden) {
  const auto vocab = static_cast<int64_t>(embedding.size()) / width;
  return at::from_blob(const_cast<float*>(embedding.data()), {vocab, width}, at::kFloat)
      .narrow(1, 0, hidden);
}

absl::StatusOr<RouterSpec> MakeSpec(const RouterTrainOptions& options, int width,
                                    float rope_theta) {
  RouterSpec spec;
  const int unit = 2 * options.heads;  // RoPE needs an even head_dim
  if (options.heads < 1 || options.intermediate < 1 || width < unit || options.hidden < unit) {
    return absl::InvalidArgumentError(absl::StrCat(
        "router of hidden ", options.hidden, ", heads ", options.heads, ", intermediate ",
        options.intermediate, " does not fit a model of hidden ", width));
  }
  spec.num_layers = 1;
  spec.num_heads = options.heads;
  spec.hidden = std::min(options.hidden, width) / unit * unit;
  spec.intermediate = options.intermediate;
  spec.rope_theta = rope_theta;
  spec.normalizer = std::sqrt(static_cast<float>(spec.head_dim()));
  return spec;
}

}  // namespace

TrainedRouter RouterOf(const Artifact& artifact) {
  return {.spec = artifact.router,
          .embed_columns = artifact.embed_columns,
          .embed_scale = artifact.embed_scale,
          .tensors = artifact.router_tensors};
}

absl::StatusOr<TrainedRouter> TrainRouter(absl::Span<const float> embedding, int width,
                                          const Corpus& corpus, absl::Span<const float> scores,
                                          int num_experts, float rope_theta,
                                          const RouterTrainOptions& options,
                                          const std::function<void()>& advance) {
  PREGATE_CHECK(scores.size() == corpus.tokens.size() * num_experts);
  TrainedRouter out;
  ASSIGN_OR_RETURN(out.spec, MakeSpec(options, width, rope_theta));
  torch::manual_seed(options.seed);

  const at::Device device(options.device);
  const at::Tensor columns = Columns(embedding, width, out.spec.hidden);
  out.embed_columns.resize(out.spec.hidden);
  std::iota(out.embed_columns.begin(), out.embed_columns.end(), 0);
  out.embed_scale = 1 / std::sqrt(columns.square().mean().item<float>());

  const at::Tensor ids = Ids(corpus).to(device);
  const at::Tensor targets =
      Targets(at::from_blob(const_cast<float*>(scores.data()),
                            {ids.size(0), ids.size(1), num_experts}, at::kFloat)
                  .to(device),
              options);
  Network network(out.spec, columns * out.embed_scale, num_experts, corpus.window_tokens, device);
  Train(network, ids, targets, options, advance);
  Summarise(Routes(network, ids), num_experts, out);
  for (const auto& [name, parameter] : network.parameters()) {
    const at::Tensor values = parameter.detach().to(at::kCPU).contiguous();
    out.tensors[name] = {parameter.sizes().vec(),
                         {values.data_ptr<float>(), values.data_ptr<float>() + values.numel()}};
  }
  return out;
}

std::vector<int32_t> RouteTokens(const TrainedRouter& router, absl::Span<const float> embedding,
                                 int width, const Corpus& corpus, const std::string& device_name) {
  const at::Device device(device_name);
  const auto num_experts = router.tensors.at("router.proj_out.bias").shape[0];
  Network network(router.spec, Columns(embedding, width, router.spec.hidden) * router.embed_scale,
                  static_cast<int>(num_experts), corpus.window_tokens, device);
  network.SetParameters(router.tensors);
  const at::Tensor routes = Routes(network, Ids(corpus).to(device)).to(at::kInt).contiguous();
  return {routes.data_ptr<int32_t>(), routes.data_ptr<int32_t>() + routes.numel()};
}

}  // namespace pregate
