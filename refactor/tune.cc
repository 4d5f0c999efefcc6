#include "refactor/tune.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "common/base/status.h"
#include "common/model/spec/tensor_names.h"
#include "refactor/batches.h"
#include "refactor/code_grid.h"
#include "refactor/compress_delta.h"
#include "refactor/expert_model.h"
#include "refactor/tune_state.h"

namespace pregate {
namespace {

constexpr int kCpuTokens = 1024;  // at a time: enough for the matrix product

double RateAt(const TuneMethod& method, int64_t step, int64_t steps) {
  const double warmup = std::max(1.0, method.warmup * static_cast<double>(steps));
  double done = static_cast<double>(step) / static_cast<double>(steps), peak = method.rate;
  if (method.round_decay > 0) {
    const double rounds = done * method.rounds;
    done = rounds - std::floor(rounds);
    peak *= std::pow(method.round_decay, std::floor(rounds));
  }
  const double cosine = 0.5 * (1 + std::cos(M_PI * done));
  return peak * std::min(1.0, static_cast<double>(step + 1) / warmup) *
         (method.final_rate + (1 - method.final_rate) * cosine);
}

bool IsTuned(const CanonicalTensor& tensor, const TuneOptions& options) {
  return options.embeddings ||
         (tensor.part != TensorPart::kEmbedding && tensor.part != TensorPart::kHead);
}

constexpr const char* kGridFile = "codes.safetensors";
// With as many bits as there may be.
int64_t BytesAtMost(const NamedTensors& parameters) {
  int64_t bytes = 0;
  for (const auto& [name, parameter] : parameters) {
    bytes += parameter.dim() > 1 ? CodedMatrix{.bits = kCodeBitsMax,
                                               .rows = parameter.size(0),
                                               .columns = parameter.size(1)}
                                       .bytes()
                                 : parameter.numel() * static_cast<int64_t>(sizeof(float));
  }
  return bytes;
}

// Codes of 8 bits need no tuning.
int64_t CodedFrom(const TuneOptions& options, const NamedTensors& parameters, int64_t steps) {
  const int64_t room = options.artifact_bytes;
  if (room == 0 || room >= BytesAtMost(parameters)) return steps;
  return static_cast<int64_t>(std::ceil((1 - options.coded_share) * static_cast<double>(steps)));
}

std::string RouterFile(int round) { return absl::StrCat("router-", round, ".safetensors"); }

class Tuner {
 public:
  Tuner(const TuneInputs& inputs, const TuneOptions& options, const TuneMethod& method,
        const TorchPlace& place, WorkFolder& work, Clock& clock, CausalModel parent,
        std::optional<CausalModel> teacher, CausalModel student)
      : in_(inputs),
        options_(options),
        method_(method),
        place_(place),
        work_(work),
        clock_(clock),
        parent_(std::move(parent)),
        teacher_(std::move(teacher)),
        student_(std::move(student)),
        parameters_(TakeParameters(student_, inputs.dense.spec(), options)),
        optimizer_(
            parameters_,
            {.decay = method.decay, .muon = options.optimizer == "muon", .compute = place.compute}),
        router_optimizer_(TakeLayerRouters(), {}),
        batches_(inputs.tuning, inputs.sampled_windows, options.text_share, options.seed),
        steps_(TuneSteps(options, inputs.tuning.window_tokens)),
        coded_from_(CodedFrom(options, parameters_, steps_)),
        saved_at_(clock.Now()) {}

  absl::StatusOr<bool> Run(const std::function<bool()>& stop, const TuneProgress& progress);

 private:
  static NamedTensors TakeParameters(CausalModel& student, const ModelSpec& spec,
                                     const TuneOptions& options);
  NamedTensors TakeLayerRouters();

  int Round(int64_t step) const {
    return static_cast<int>(std::min<int64_t>(step * method_.rounds / steps_, method_.rounds - 1));
  }
  bool HasRouter() const { return !in_.layer_routers && !alike_; }
  // Whether layers' routers are taught the experts that windows run on, and do not choose yet.
  bool IsTaught() const { return 2 * state_.step * method_.rounds < steps_; }
  // The first `num_text` windows are of the text.
  ParentSays AskTeachers(const at::Tensor& ids, int64_t num_text) const;
  TokenLosses Losses(const at::Tensor& ids, int64_t num_text, const at::Tensor& routes,
                     at::Tensor* teaching);
  absl::Status BeginRound(int round);
  absl::Status BeginCodes();
  void SetStoredWeights();
  NamedTensors DenseWeights() const;
  Artifact SplitWith(const TrainedRouter& router) const;
  absl::StatusOr<LossRow> Step();
  bool IsSampled(int32_t window) const {
    return window >= in_.tuning.num_windows() - in_.sampled_windows;
  }
  absl::StatusOr<TrainedRouter> TrainRouterNow();
  std::vector<float> ScoreExperts();
  absl::Status Save();
  absl::Status Finish();
  NamedTensors Differences() const;
  absl::StatusOr<TrainedRouter> RouterFor(int round);
  int micro_windows() const { return MicroWindows(options_, in_.tuning.window_tokens); }

  const TuneInputs& in_;
  const TuneOptions& options_;
  const TuneMethod& method_;
  const TorchPlace place_;
  WorkFolder& work_;
  Clock& clock_;
  CausalModel parent_;
  std::optional<CausalModel> teacher_;  // of the text; none: the parent
  CausalModel student_;
  NamedTensors parameters_;
  std::vector<at::Tensor> layer_routers_;  // [layers] of [experts, hidden], or none
  Optimizer optimizer_, router_optimizer_;
  const bool alike_ = ExpertsAlike(in_.split);
  Batches batches_;
  const int64_t steps_, coded_from_;
  WeightDeltas grid_deltas_;
  std::optional<CodeGrid> grid_;  // from step coded_from_ on
  absl::Time saved_at_;
  TuneState state_;
  int round_ = -1;                // whose routes are at hand
  std::vector<int32_t> routes_;   // [tokens of in_.tuning]
  std::vector<float> embedding_;  // of the dense model, which routers are trained on
};

NamedTensors Tuner::TakeParameters(CausalModel& student, const ModelSpec& spec,
                                   const TuneOptions& options) {
  NamedTensors parameters;
  for (const CanonicalTensor& tensor : CanonicalTensors(spec)) {
    if (!IsTuned(tensor, options)) continue;
    at::Tensor& weight = student.weights().at(tensor.name);
    weight.requires_grad_();
    parameters[tensor.name] = weight;
  }
  return parameters;
}

NamedTensors Tuner::TakeLayerRouters() {
  NamedTensors parameters;
  if (!in_.layer_routers) return parameters;
  const ModelSpec& spec = in_.dense.spec();
  for (int l = 0; l < spec.num_layers; ++l) {
    const auto options = at::TensorOptions().dtype(at::kFloat).device(place_.device);
    layer_routers_.push_back(at::zeros({in_.split.num_experts(), spec.hidden}, options));
    parameters[LayerRouterName(l)] = layer_routers_.back().requires_grad_();
  }
  student_.SetLayerRouters(layer_routers_);
  return parameters;
}

// [tokens of the calibration windows, experts]: the less a token loses on an expert, the more.
std::vector<float> Tuner::ScoreExperts() {
  const at::NoGradGuard no_grad;
  SetStoredWeights();
  const Corpus& corpus = in_.router_text;
  const int num_experts = in_.split.num_experts(), chunk = micro_windows();
  std::vector<float> scores(corpus.tokens.size() * num_experts);
  const at::Tensor all = at::from_blob(
      scores.data(), {corpus.num_windows(), corpus.window_tokens, num_experts}, at::kFloat);
  for (int first = 0; first < corpus.num_windows(); first += chunk) {
    const int num = std::min(chunk, corpus.num_windows() - first);
    const at::Tensor ids = WindowIds(corpus, first, num, place_.device);
    const ParentSays parent = AskParent(parent_, ids);
    for (int e = 0; e < num_experts; ++e) {
      const TokenLosses losses = LossesOf(student_, parent, ids, at::full_like(ids, e));
      at::Tensor loss =
          (method_.divergence * losses.divergence + method_.nll * losses.nll).to(at::kCPU).clone();
      // One token's loss is mostly chance; what went before says how the text suits the expert.
      for (int64_t t = 1; t < loss.size(1); ++t) {
        loss.select(1, t)
            .mul_(1 - options_.router_memory)
            .add_(loss.select(1, t - 1), options_.router_memory);
      }
      all.narrow(0, first, num).select(2, e).copy_(-loss);
    }
  }
  return scores;
}

absl::StatusOr<TrainedRouter> Tuner::TrainRouterNow() {
  if (method_.as_paper || options_.router_target == "energy") return RouterOf(in_.split);
  const std::vector<float> scores = ScoreExperts();
  return TrainRouter(embedding_, in_.dense.spec().hidden, in_.router_text, scores,
                     in_.split.num_experts(), in_.dense.spec().rope_theta, in_.router, [] {});
}

Artifact Tuner::SplitWith(const TrainedRouter& router) const {
  Artifact artifact = in_.split;
  artifact.router_tensors = router.tensors;
  return artifact;
}

// From its file, where an earlier process trained it for this state.
absl::StatusOr<TrainedRouter> Tuner::RouterFor(int round) {
  if (!HasRouter()) return RouterOf(in_.split);
  const std::string name = RouterFile(round);
  if (!work_.Has(name)) {
    ASSIGN_OR_RETURN(TrainedRouter router, TrainRouterNow());
    RETURN_IF_ERROR(WriteArtifact(SplitWith(router), DType::kF32, work_.Draft(name)));
    RETURN_IF_ERROR(work_.Publish(name));
    return router;
  }
  ASSIGN_OR_RETURN(const Artifact artifact, ReadArtifact(work_.File(name)));
  TrainedRouter router = RouterOf(in_.split);
  router.tensors = artifact.router_tensors;
  return router;
}

absl::Status Tuner::BeginRound(int round) {
  const int64_t window = in_.tuning.window_tokens;
  if ((round == 0 && !method_.as_paper) || !HasRouter()) {
    routes_.clear();
    for (const int32_t d : in_.tuning.window_domain) routes_.insert(routes_.end(), window, d);
  } else {
    RETURN_IF_ERROR(Save());  // so that a router that is there is this state's
    ASSIGN_OR_RETURN(const TrainedRouter router, RouterFor(round));
    routes_ = RouteTokens(router, embedding_, in_.dense.spec().hidden, in_.tuning, options_.device);
  }
  round_ = round;
  return absl::OkStatus();
}

// The grid is the one of the state that coding began with, which is saved.
absl::Status Tuner::BeginCodes() {
  if (!work_.Has(kGridFile)) {
    RETURN_IF_ERROR(Save());
    Artifact artifact = SplitWith(RouterOf(in_.split));
    artifact.deltas = CompressDeltas(Differences(), options_.artifact_bytes).deltas;
    RETURN_IF_ERROR(WriteArtifact(artifact, DType::kF32, work_.Draft(kGridFile)));
    RETURN_IF_ERROR(work_.Publish(kGridFile));
  }
  ASSIGN_OR_RETURN(const Artifact artifact, ReadArtifact(work_.File(kGridFile)));
  grid_deltas_ = artifact.deltas;
  NamedTensors matrices;
  for (auto& [name, weight] : DenseWeights()) {
    if (weight.dim() > 1) matrices[name] = weight;
  }
  grid_.emplace(std::move(matrices), grid_deltas_);
  return absl::OkStatus();
}

// Once a forward pass, as its gradients need it.
void Tuner::SetStoredWeights() {
  if (!grid_) return;
  for (const auto& [name, dense] : grid_->dense()) {
    student_.weights()[name] = grid_->Stored(name, parameters_.at(name));
  }
}

ParentSays Tuner::AskTeachers(const at::Tensor& ids, int64_t num_text) const {
  const int64_t num = ids.size(0);
  if (!teacher_ || num_text == 0) return AskParent(parent_, ids);
  const ParentSays on_text = AskParent(*teacher_, ids.narrow(0, 0, num_text));
  if (num_text == num) return on_text;
  const ParentSays on_samples = AskParent(parent_, ids.narrow(0, num_text, num - num_text));
  return {at::cat({on_text.logits, on_samples.logits})};
}

// `teaching`: the layers' routers' mean cross-entropy, where they are taught.
TokenLosses Tuner::Losses(const at::Tensor& ids, int64_t num_text, const at::Tensor& routes,
                          at::Tensor* teaching) {
  SetStoredWeights();
  const ParentSays parent = AskTeachers(ids, num_text);
  if (!in_.layer_routers) return LossesOf(student_, parent, ids, routes);
  if (!IsTaught()) return LossesOf(student_, parent, ids, {});
  const at::Tensor experts = routes.reshape({-1, 1});
  std::vector<at::Tensor> losses;
  const auto teach = [&](int layer, const at::Tensor& input) {
    const at::Tensor log_p = at::linear(input.detach(), layer_routers_[layer]).log_softmax(-1);
    losses.push_back(-log_p.gather(1, experts).mean());
  };
  const TokenLosses out = LossesOf(student_, parent, ids, routes, teach);
  *teaching = at::stack(losses).mean();
  return out;
}

absl::StatusOr<LossRow> Tuner::Step() {
  const int64_t window = in_.tuning.window_tokens;
  std::vector<int32_t> batch = batches_.Of(state_.step, options_.batch_windows);
  LossRow row{
      .step = state_.step + 1, .round = round_, .rate = RateAt(method_, state_.step, steps_)};
  const auto options = at::TensorOptions().dtype(at::kLong);
  // Text first: it may have a teacher of its own.
  const int64_t num_text =
      std::stable_partition(batch.begin(), batch.end(), [&](int32_t w) { return !IsSampled(w); }) -
      batch.begin();
  const double all = static_cast<double>(batch.size());
  const double text = std::max(1.0, static_cast<double>(num_text));
  for (size_t first = 0; first < batch.size(); first += micro_windows()) {
    const size_t num = std::min<size_t>(micro_windows(), batch.size() - first);
    at::Tensor ids = at::empty({static_cast<int64_t>(num), window}, options);
    at::Tensor routes = at::empty_like(ids);
    for (size_t i = 0; i < num; ++i) {
      const int32_t w = batch[first + i];
      std::copy_n(in_.tuning.tokens.begin() + w * window, window,
                  ids[static_cast<int64_t>(i)].data_ptr<int64_t>());
      std::copy_n(routes_.begin() + w * window, window,
                  routes[static_cast<int64_t>(i)].data_ptr<int64_t>());
    }
    at::Tensor teaching;
    const int64_t text_here =
        std::clamp<int64_t>(num_text - static_cast<int64_t>(first), 0, static_cast<int64_t>(num));
    const TokenLosses losses =
        Losses(ids.to(place_.device), text_here, routes.to(place_.device), &teaching);
    const double share = static_cast<double>(num) / all;
    const at::Tensor divergence = losses.divergence.mean() * share;
    const at::Tensor nll =
        losses.nll.narrow(0, 0, text_here).sum() / (text * static_cast<double>(window - 1));
    const at::Tensor loss = method_.divergence * divergence + (method_.nll * text / all) * nll;
    (teaching.defined() ? loss + teaching * share : loss).backward();
    row.loss += loss.item<double>();
    row.divergence += divergence.item<double>();
    row.nll += nll.item<double>();
  }
  row.gradient = std::isfinite(row.loss) ? optimizer_.Step(row.rate) : NAN;
  if (std::isfinite(row.gradient) &&
      !std::isfinite(router_optimizer_.Step(row.rate * kLayerRouterRate))) {
    row.gradient = NAN;
  }
  if (!std::isfinite(row.gradient)) {
    return absl::InternalError(absl::StrCat("tune: step ", row.step, " has loss ", row.loss,
                                            " and gradient ", row.gradient, " at rate ", row.rate,
                                            "; the last good state stays in ", work_.path(),
                                            ": try a smaller --rate"));
  }
  return row;
}

absl::Status Tuner::Save() {
  RETURN_IF_ERROR(SaveTuneState(work_, in_.inputs, state_, {&optimizer_, &router_optimizer_}));
  saved_at_ = clock_.Now();
  return absl::OkStatus();
}

// Of the parameters, as they were.
NamedTensors Tuner::DenseWeights() const {
  NamedTensors weights;
  for (const auto& [name, parameter] : parameters_) {
    at::Tensor dense = at::empty(parameter.sizes(), at::kFloat);
    PREGATE_CHECK(
        in_.dense
            .Read(name, absl::MakeSpan(dense.data_ptr<float>(), static_cast<size_t>(dense.numel())))
            .ok());
    weights[name] = dense.to(place_.device);
  }
  return weights;
}

NamedTensors Tuner::Differences() const {
  const at::NoGradGuard no_grad;
  NamedTensors differences = DenseWeights();
  for (auto& [name, weight] : differences) weight = parameters_.at(name).detach() - weight;
  return differences;
}

absl::Status Tuner::Finish() {
  RETURN_IF_ERROR(Save());
  if (coded_from_ < steps_ && !grid_) RETURN_IF_ERROR(BeginCodes());
  ASSIGN_OR_RETURN(const TrainedRouter router, RouterFor(method_.rounds));
  CompressedDeltas compressed = grid_ ? CompressOnGrid(Differences(), grid_deltas_)
                                      : CompressDeltas(Differences(), options_.artifact_bytes);
  Artifact artifact = SplitWith(router);
  artifact.deltas = std::move(compressed.deltas);
  RETURN_IF_ERROR(WriteArtifact(artifact, DType::kF16, work_.Draft("artifact.safetensors")));
  RETURN_IF_ERROR(work_.Publish("artifact.safetensors"));
  if (in_.layer_routers) RETURN_IF_ERROR(SaveLayerRouters(work_, layer_routers_));
  return work_.Write("tune.json", {{"inputs", in_.inputs},
                                   {"steps", steps_},
                                   {"delta_bytes", compressed.bytes},
                                   {"delta_bits", compressed.bits},
                                   {"delta_error", compressed.error}});
}

absl::StatusOr<bool> Tuner::Run(const std::function<bool()>& stop, const TuneProgress& progress) {
  ASSIGN_OR_RETURN(embedding_, EmbeddingOf(in_.dense));
  ASSIGN_OR_RETURN(const bool goes_on,
                   LoadTuneState(work_, in_.inputs, state_, {&optimizer_, &router_optimizer_}));
  if (!goes_on) {
    RETURN_IF_ERROR(RemoveTuneState(work_));
    RETURN_IF_ERROR(work_.Remove("losses.jsonl"));
  }
  while (state_.step < steps_) {
    if (stop()) {
      RETURN_IF_ERROR(Save());
      return false;
    }
    if (state_.step >= coded_from_ && !grid_) RETURN_IF_ERROR(BeginCodes());
    if (Round(state_.step) != round_) RETURN_IF_ERROR(BeginRound(Round(state_.step)));
    ASSIGN_OR_RETURN(const LossRow row, Step());
    state_.losses.push_back(row);
    state_.step = row.step;
    RETURN_IF_ERROR(AppendLoss(work_, row));
    progress(static_cast<double>(row.step) / static_cast<double>(steps_), row.loss);
    if (clock_.Now() - saved_at_ >= options_.save_every) RETURN_IF_ERROR(Save());
  }
  RETURN_IF_ERROR(Finish());
  return true;
}

}  // namespace

absl::Status RemoveTuneState(const WorkFolder& work) {
  RETURN_IF_ERROR(work.Remove("tune.safetensors"));
  RETURN_IF_ERROR(work.Remove(kGridFile));
  for (int round = 1; work.Has(RouterFile(round)); ++round) {
    RETURN_IF_ERROR(work.Remove(RouterFile(round)));
  }
  return absl::OkStatus();
}

int MicroWindows(const TuneOptions& options, int window_tokens) {
  if (options.micro_windows > 0) return std::min(options.micro_windows, options.batch_windows);
  if (options.device != "cpu") return options.batch_windows;
  return std::clamp(kCpuTokens / window_tokens, 1, options.batch_windows);
}

int64_t TuneSteps(const TuneOptions& options, int window_tokens) {
  const int64_t batch = int64_t{options.batch_windows} * window_tokens;
  return (options.tokens + batch - 1) / batch;
}

absl::StatusOr<bool> Tune(const TuneInputs& inputs, const TuneOptions& options, WorkFolder& work,
                          Clock& clock, const std::function<bool()>& stop,
                          const TuneProgress& progress) {
  ASSIGN_OR_RETURN(TuneMethod method, FindTuneMethod(options.method));
  if (options.text_loss) {
    method.nll = *options.text_loss;
    method.divergence = 1 - method.nll;
  }
  if (options.rate > 0) method.rate = options.rate;
  if (options.rounds > 0) method.rounds = options.rounds;
  if (inputs.nll_alone) {
    PREGATE_CHECK(inputs.sampled_windows == 0);
    method.divergence = 0;
    method.nll = 1;
  }
  ASSIGN_OR_RETURN(const TorchPlace place, PlaceOf(options.device));
  const int window = inputs.tuning.window_tokens;
  ASSIGN_OR_RETURN(CausalModel parent, CausalModel::Load(inputs.dense, window, place.device,
                                                         place.compute, place.compute));
  std::optional<CausalModel> teacher;
  if (inputs.teacher != nullptr) {
    ASSIGN_OR_RETURN(teacher, CausalModel::Load(inputs.dense, window, place.device, place.compute,
                                                place.compute, inputs.teacher));
  }
  ASSIGN_OR_RETURN(CausalModel student,
                   LoadExperts(inputs.dense, inputs.split, window, place, at::kFloat));
  Tuner tuner(inputs, options, method, place, work, clock, std::move(parent), std::move(teacher),
              std::move(student));
  return tuner.Run(stop, progress);
}

}  // namespace pregate
