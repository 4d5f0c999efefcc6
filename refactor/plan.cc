#include "refactor/plan.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "common/base/status.h"
#include "common/model/spec/tensor_names.h"
#include "refactor/activation_log.h"
#include "refactor/dense_forward.h"
#include "refactor/expert_model.h"
#include "refactor/sample.h"

namespace pregate {
namespace {

constexpr int64_t kFloat = sizeof(float);
constexpr double kDiskBytesPerSecond = 2e8;  // for export, a guess on the careful side

int64_t NumWeights(const ModelSpec& spec) {
  int64_t n = 0;
  for (const CanonicalTensor& tensor : CanonicalTensors(spec)) n += tensor.num_elements();
  return n;
}

double SecondsOf(Clock& clock, const std::function<void()>& work) {
  const absl::Time begin = clock.Now();
  work();
  return absl::ToDoubleSeconds(clock.Now() - begin);
}

// Of a token through the serving layers, no logits.
absl::StatusOr<double> ForwardSeconds(const Checkpoint& dense, const RunText& text, Clock& clock) {
  ASSIGN_OR_RETURN(const auto model, DenseForward::Load(dense));
  const Corpus& corpus = text.calibration;
  const int windows =
      std::min(model->windows_at_a_time(corpus.window_tokens), corpus.num_windows());
  const auto tokens = absl::MakeConstSpan(corpus.tokens)
                          .subspan(0, static_cast<size_t>(windows) * corpus.window_tokens);
  const auto visit = [](int, absl::Span<const float>, absl::Span<const float>) {
    return absl::OkStatus();
  };
  absl::Status status;
  double seconds = 0;
  for (int i = 0; i < 2; ++i) {  // the first one warms up
    seconds =
        SecondsOf(clock, [&] { status.Update(model->Run(tokens, corpus.window_tokens, visit)); });
  }
  RETURN_IF_ERROR(status);
  return seconds / static_cast<double>(tokens.size());
}

struct TorchSeconds {
  double step_token = 0;     // of a step: parent and student, forward and back
  double forward_token = 0;  // with logits
};

absl::StatusOr<TorchSeconds> MeasureTorch(const Checkpoint& dense, const RunText& text,
                                          const TuneOptions& options, Clock& clock) {
  ASSIGN_OR_RETURN(const TorchPlace place, PlaceOf(options.device));
  const int window = text.tuning.window_tokens;
  ASSIGN_OR_RETURN(const CausalModel parent,
                   CausalModel::Load(dense, window, place.device, place.compute, place.compute));
  ASSIGN_OR_RETURN(CausalModel student,
                   CausalModel::Load(dense, window, place.device, at::kFloat, place.compute));
  for (auto& [name, weight] : student.weights()) {
    if (weight.dim() == 1 || name.find(".layers.") != std::string::npos) weight.requires_grad_();
  }
  const int num = std::min(MicroWindows(options, window), text.tuning.num_windows());
  const at::Tensor ids = WindowIds(text.tuning, 0, num, place.device);
  TorchSeconds seconds;
  for (int i = 0; i < 2; ++i) {
    seconds.step_token = SecondsOf(clock, [&] {
      LossesOf(student, AskParent(parent, ids), ids, {}).divergence.mean().backward();
      student.weights().at("model.norm.weight").grad().sum().item<float>();  // waits for a card
    });
    seconds.forward_token = SecondsOf(clock, [&] {
      const at::NoGradGuard no_grad;
      LossesOf(parent, {}, ids, {}).nll.sum().item<float>();
    });
  }
  seconds.step_token /= num * window;
  seconds.forward_token /= num * window;
  return seconds;
}

// Times some tokens behind the middle of a window, where keys and values are half of what they will
// be; what they hold makes no difference.
absl::StatusOr<StagePlan> PlanSampling(const Checkpoint& dense, const RunText& text,
                                       const TuneOptions& options, Clock& clock) {
  constexpr int kTimed = 4;
  ASSIGN_OR_RETURN(const TorchPlace place, PlaceOf(options.device));
  const int window = text.tuning.window_tokens;
  ASSIGN_OR_RETURN(const CausalModel parent,
                   CausalModel::Load(dense, window, place.device, place.compute, place.compute));
  const int64_t all = SampledWindows(options.parent_samples, text.tuning);
  const int64_t num = std::min(SampledAtATime(parent), all);
  const auto device = at::TensorOptions().device(place.device);
  double seconds = 0;
  for (int i = 0; i < 2; ++i) {  // the first one warms up
    KeyValueCache cache = parent.MakeCache(num);
    cache.tokens = window / 2;
    at::Tensor ids = at::zeros({num, 1}, device.dtype(at::kLong));
    const at::Tensor uniforms = at::full({num}, 0.5, device.dtype(at::kDouble));
    seconds = SecondsOf(clock, [&] {
      for (int t = 0; t < kTimed; ++t) ids = WriteToken(parent, ids, uniforms, cache);
      ids.sum().item<int64_t>();  // waits for a card
    });
  }
  const int64_t lots = (all + num - 1) / num, vocab = dense.spec().vocab_size;
  const int64_t weight_bytes = place.compute == at::kFloat ? kFloat : kFloat / 2;
  return StagePlan{"sample",
                   seconds / kTimed * static_cast<double>(lots * (window - PrefixTokens(window))),
                   NumWeights(dense.spec()) * weight_bytes + num * parent.CacheBytes() +
                       num * vocab * 5 * kFloat,  // logits, their softmax, its sums in f64
                   all * window * static_cast<int64_t>(sizeof(TokenId))};
}

// Of one piece of a step: what is kept for the way back.
int64_t ActivationBytes(const ModelSpec& s, int64_t windows, int64_t window) {
  const int64_t layer = 14 * int64_t{s.hidden} + 8 * int64_t{s.intermediate} + 4 * s.q_width() +
                        3 * s.num_heads * window;
  return windows * window * (s.num_layers * layer + 5 * int64_t{s.vocab_size}) * kFloat;
}

// MeasureWorth's.
int64_t WorthBytes(const ModelSpec& spec, int64_t window) {
  return NumWeights(spec) * (WorthInBf16(spec) ? kFloat / 2 : kFloat) +
         ActivationBytes(spec, 1, window);
}

}  // namespace

absl::StatusOr<std::vector<StagePlan>> PlanRun(const Checkpoint& dense, const RunText& text,
                                               const RefactorOptions& options, Clock& clock) {
  const ModelSpec& spec = dense.spec();
  const Corpus& calibration = text.calibration;
  const auto tokens = static_cast<int64_t>(calibration.tokens.size());
  const int64_t experts = static_cast<int64_t>(calibration.domains.size()),
                width = spec.intermediate;
  const int64_t weights = NumWeights(spec), layers = spec.num_layers;
  ASSIGN_OR_RETURN(const double forward, ForwardSeconds(dense, text, clock));
  const double layer_weights =
      double{1.0} * spec.hidden * (3.0 * width + 2.0 * (spec.q_width() + spec.kv_width()));
  const double seconds_per_flop = forward / (2 * layers * layer_weights);

  const int64_t forward_bytes = DenseForward::WeightBytes(spec);
  StagePlan calibrate{"calibrate", forward * tokens, forward_bytes,
                      ActivationLog::Bytes(spec.num_layers, tokens, spec.intermediate)};

  const RouterTrainOptions& r = options.split.router;
  const double hidden = std::min(r.hidden, spec.hidden);
  const double router_step = double{1.0} * r.batch_windows * calibration.window_tokens *
                             (6 * (4 * hidden * hidden + 2 * hidden * r.intermediate) +
                              20 * hidden * calibration.window_tokens);
  const double router = r.steps * router_step * seconds_per_flop;
  const double fit = FitPasses(options.split.fit, 1) * double{50} * layers * tokens * width;
  const int64_t refit_windows = experts * options.split.refit_windows_per_domain;
  const double refit_tokens = double{1.0} * refit_windows * calibration.window_tokens;
  const double refit = refit_windows == 0 ? 0
                                          : layers * experts * double{1.0} * width * width * width +
                                                2 * refit_tokens * layers * width * width;
  const double scales = refit * seconds_per_flop + refit_tokens * forward;
  // Activations three times, sums of a layer and what solving takes.
  const int64_t scales_bytes =
      refit_windows == 0 ? 0
                         : 3 * refit_windows * calibration.window_tokens * width * kFloat +
                               (experts + 8) * width * width * kFloat;
  StagePlan split{"split", fit * seconds_per_flop + scales + router,
                  std::max(forward_bytes + std::max(tokens * width, scales_bytes),
                           WorthBytes(spec, calibration.window_tokens)),
                  2 * spec.hidden * int64_t{r.hidden}};

  std::vector<StagePlan> plan, baselines;
  if (options.tune.parent_samples > 0) {
    ASSIGN_OR_RETURN(const StagePlan sample, PlanSampling(dense, text, options.tune, clock));
    plan.push_back(sample);
  }
  plan.push_back(calibrate);
  plan.push_back(split);
  TorchSeconds torch;
  if (options.tune.tokens > 0 || !text.held_out.tokens.empty()) {
    ASSIGN_OR_RETURN(torch, MeasureTorch(dense, text, options.tune, clock));
  }
  if (options.tune.tokens > 0) {
    ASSIGN_OR_RETURN(const TuneMethod method, FindTuneMethod(options.tune.method));
    const int rounds = options.tune.rounds > 0 ? options.tune.rounds : method.rounds;
    const int64_t batch = int64_t{options.tune.batch_windows} * text.tuning.window_tokens;
    const double step_tokens =
        double{1.0} * TuneSteps(options.tune, text.tuning.window_tokens) * batch;
    const bool routers = options.tune.router_target == "loss" && !method.as_paper;
    const int64_t micro = MicroWindows(options.tune, text.tuning.window_tokens);
    const double steps = step_tokens * torch.step_token;
    const double trained_routers =
        routers * rounds * ((experts + 1) * tokens * torch.forward_token + router);
    plan.push_back({"tune", steps + trained_routers,
                    5 * weights * kFloat + ActivationBytes(spec, micro, text.tuning.window_tokens),
                    3 * weights * kFloat * 2});  // the state, and the one before it
    if (options.tune.teacher_tokens > 0) {
      StagePlan teacher = plan.back();
      teacher.stage = "teacher";
      teacher.seconds = options.tune.teacher_tokens * torch.step_token;
      plan.insert(plan.end() - 1, std::move(teacher));
    }
    const double scored = static_cast<double>(text.held_out.tokens.size()) * torch.forward_token;
    for (const std::string& name : options.baselines) {
      StagePlan& baseline = baselines.emplace_back(plan.back());
      baseline.stage = absl::StrCat("baseline ", name);
      baseline.seconds = steps + scored + (name == "random" ? trained_routers : 0) +
                         (name == "dense" || name == "random" ? scales : 0);
    }
  }
  if (!text.held_out.tokens.empty()) {
    plan.push_back(
        {"evaluate",
         static_cast<double>(text.held_out.tokens.size()) * (experts + 3) * torch.forward_token,
         3 * weights * kFloat, 0});
  }
  plan.insert(plan.end(), baselines.begin(), baselines.end());
  const int64_t checkpoint =
      weights * kFloat + layers * (experts - 1) * width * 3 * spec.hidden * kFloat / 2;
  plan.push_back({"export", checkpoint / kDiskBytesPerSecond, weights, checkpoint});
  return plan;
}

void PrintPlan(const std::vector<StagePlan>& plan, std::ostream& out) {
  out << "stage                  time      memory    disk\n";
  double seconds = 0;
  for (const StagePlan& p : plan) {
    seconds += p.seconds;
    out << absl::StrFormat("%-21s %6.1f min %6.2f GB %6.2f GB\n", p.stage, p.seconds / 60,
                           1e-9 * p.memory_bytes, 1e-9 * p.disk_bytes);
  }
  out << absl::StrFormat("%-21s %6.1f min\n", "all", seconds / 60);
}

}  // namespace pregate
