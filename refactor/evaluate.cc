#include "refactor/evaluate.h"

#include <algorithm>

#include "common/base/json.h"
#include "common/base/status.h"
#include "refactor/expert_model.h"
#include "refactor/router_train.h"
#include "refactor/tune_state.h"

namespace pregate {
namespace {

constexpr const char* kEvaluateRecord = "evaluate.json";

// The windows of one domain of `corpus`, as a corpus of it alone.
Corpus OfDomain(const Corpus& corpus, int domain) {
  Corpus one{.domains = corpus.domains, .window_tokens = corpus.window_tokens};
  for (int w = 0; w < corpus.num_windows(); ++w) {
    if (corpus.window_domain[w] != domain) continue;
    const auto window = corpus.Window(w);
    one.tokens.insert(one.tokens.end(), window.begin(), window.end());
    one.window_domain.push_back(domain);
  }
  return one;
}

int WindowsAtATime(const TorchPlace& place) { return place.device.is_cpu() ? 1 : 8; }

double SumOf(const at::Tensor& nll) { return nll.to(at::kDouble).sum().item<double>(); }

class Evaluator {
 public:
  static absl::StatusOr<Evaluator> Load(const Checkpoint& dense, const Artifact& split,
                                        const Artifact& artifact, int window,
                                        const std::string& device) {
    ASSIGN_OR_RETURN(const TorchPlace place, PlaceOf(device));
    ASSIGN_OR_RETURN(CausalModel parent,
                     CausalModel::Load(dense, window, place.device, place.compute, place.compute));
    ASSIGN_OR_RETURN(CausalModel cut, LoadExperts(dense, split, window, place, place.compute));
    ASSIGN_OR_RETURN(CausalModel tuned, LoadExperts(dense, artifact, window, place, place.compute));
    ASSIGN_OR_RETURN(std::vector<float> embedding, EmbeddingOf(dense));
    return Evaluator(std::move(parent), std::move(cut), std::move(tuned), RouterOf(artifact),
                     std::move(embedding), place, device);
  }

  DomainQuality Measure(const Corpus& corpus, int domain) const;

 private:
  struct Sums {
    double parent = 0, cut = 0, own = 0, routed = 0, best = 0, nearest = 0;
    int64_t best_routed = 0;
  };

  Evaluator(CausalModel parent, CausalModel cut, CausalModel tuned, TrainedRouter router,
            std::vector<float> embedding, const TorchPlace& place, std::string device)
      : parent_(std::move(parent)),
        cut_(std::move(cut)),
        tuned_(std::move(tuned)),
        router_(std::move(router)),
        embedding_(std::move(embedding)),
        place_(place),
        device_(std::move(device)) {}

  void AddWindows(const at::Tensor& ids, const at::Tensor& routes, int domain, Sums& sums) const;

  CausalModel parent_, cut_, tuned_;
  TrainedRouter router_;
  std::vector<float> embedding_;
  TorchPlace place_;
  std::string device_;
};

void Evaluator::AddWindows(const at::Tensor& ids, const at::Tensor& routes, int domain,
                           Sums& sums) const {
  const ParentSays parent = AskParent(parent_, ids);
  sums.parent += SumOf(LossesOf(parent, {}, ids).nll);
  sums.cut += SumOf(LossesOf(cut_, {}, ids, at::full_like(ids, domain)).nll);
  sums.routed += SumOf(LossesOf(tuned_, {}, ids, routes).nll);
  std::vector<at::Tensor> each, divergence;
  const auto num_experts = static_cast<int>(router_.tensors.at("router.proj_out.bias").shape[0]);
  for (int e = 0; e < num_experts; ++e) {
    TokenLosses losses = LossesOf(tuned_, parent, ids, at::full_like(ids, e));
    each.push_back(std::move(losses.nll));
    divergence.push_back(std::move(losses.divergence));
  }
  sums.own += SumOf(each[domain]);
  const at::Tensor of_experts = at::stack(each);
  const auto [best, expert] = of_experts.min(0);
  sums.best += SumOf(best);
  const at::Tensor nearest = at::stack(divergence).argmin(0, /*keepdim=*/true);
  sums.nearest += SumOf(of_experts.gather(0, nearest));
  const int64_t scored = ids.size(1) - 1;
  sums.best_routed +=
      expert.narrow(1, 0, scored).eq(routes.narrow(1, 0, scored)).sum().item<int64_t>();
}

DomainQuality Evaluator::Measure(const Corpus& corpus, int domain) const {
  const at::NoGradGuard no_grad;
  const int chunk = WindowsAtATime(place_);
  const int64_t window = corpus.window_tokens;
  std::vector<int32_t> routes =
      RouteTokens(router_, embedding_, parent_.spec().hidden, corpus, device_);
  const at::Tensor all_routes =
      at::from_blob(routes.data(), {corpus.num_windows(), window}, at::kInt)
          .to(place_.device, at::kLong);
  Sums sums;
  for (int first = 0; first < corpus.num_windows(); first += chunk) {
    const int num = std::min(chunk, corpus.num_windows() - first);
    AddWindows(WindowIds(corpus, first, num, place_.device), all_routes.narrow(0, first, num),
               domain, sums);
  }
  DomainQuality out{.domain = corpus.domains[domain],
                    .tokens = corpus.num_windows() * (window - 1)};
  const double share = 1.0 / static_cast<double>(out.tokens);
  out.parent_nll = sums.parent * share;
  out.cut_nll = sums.cut * share;
  out.own_nll = sums.own * share;
  out.routed_nll = sums.routed * share;
  out.best_nll = sums.best * share;
  out.nearest_nll = sums.nearest * share;
  out.best_routed = static_cast<double>(sums.best_routed) * share;
  out.expert_tokens.resize(corpus.domains.size());
  int64_t kept = 0;
  for (size_t i = 0; i < routes.size(); ++i) {
    ++out.expert_tokens[routes[i]];
    kept += i % window > 0 && routes[i] == routes[i - 1];
  }
  out.kept_routes = static_cast<double>(kept) * share;
  return out;
}

// A baseline's model on one set of windows after the other.
class BaselineEvaluator {
 public:
  static absl::StatusOr<BaselineEvaluator> Load(const Checkpoint& dense, const Artifact& artifact,
                                                bool layer_routers, int window,
                                                const std::string& device, const WorkFolder& work) {
    ASSIGN_OR_RETURN(const TorchPlace place, PlaceOf(device));
    ASSIGN_OR_RETURN(CausalModel model, LoadExperts(dense, artifact, window, place, place.compute));
    BaselineEvaluator evaluator(std::move(model), artifact, place, device);
    if (layer_routers) {
      ASSIGN_OR_RETURN(evaluator.layer_routers_,
                       LoadLayerRouters(work, dense.spec(), artifact.num_experts(), place.device));
      evaluator.model_.SetLayerRouters(evaluator.layer_routers_);
    } else if (!ExpertsAlike(artifact)) {
      ASSIGN_OR_RETURN(evaluator.embedding_, EmbeddingOf(dense));
    }
    return evaluator;
  }

  BaselineQuality Measure(const Corpus& corpus, int domain) const;

 private:
  BaselineEvaluator(CausalModel model, const Artifact& artifact, const TorchPlace& place,
                    std::string device)
      : model_(std::move(model)),
        router_(RouterOf(artifact)),
        num_experts_(artifact.num_experts()),
        place_(place),
        device_(std::move(device)) {}

  CausalModel model_;
  TrainedRouter router_;
  int num_experts_;
  std::vector<at::Tensor> layer_routers_;  // empty: the router's routes,
  std::vector<float> embedding_;           // or, where this is empty too, any
  TorchPlace place_;
  std::string device_;
};

BaselineQuality BaselineEvaluator::Measure(const Corpus& corpus, int domain) const {
  const at::NoGradGuard no_grad;
  const int64_t windows = corpus.num_windows(), window = corpus.window_tokens;
  at::Tensor use = at::zeros({num_experts_}, at::kLong), routes;
  if (layer_routers_.empty()) {
    std::vector<int32_t> routed(corpus.tokens.size(), 0);
    if (!embedding_.empty()) {
      routed = RouteTokens(router_, embedding_, model_.spec().hidden, corpus, device_);
      use = at::bincount(at::tensor(routed), {}, num_experts_);
    }
    routes = at::tensor(routed, at::kLong).view({windows, window}).to(place_.device);
  }
  const auto count = [&](int layer, const at::Tensor& input) {
    const at::Tensor choice = at::linear(input, layer_routers_[layer]).argmax(-1);
    use += at::bincount(choice.to(at::kCPU), {}, num_experts_);
  };
  double sum = 0;
  for (int first = 0; first < windows; first += WindowsAtATime(place_)) {
    const int num = std::min<int>(WindowsAtATime(place_), windows - first);
    sum += SumOf(LossesOf(model_, {}, WindowIds(corpus, first, num, place_.device),
                          routes.defined() ? routes.narrow(0, first, num) : routes,
                          routes.defined() ? CausalModel::FfnVisit() : count)
                     .nll);
  }
  BaselineQuality out{.domain = corpus.domains[domain], .tokens = windows * (window - 1)};
  out.nll = sum / static_cast<double>(out.tokens);
  if (!layer_routers_.empty() || !embedding_.empty()) {
    out.expert_tokens = {use.data_ptr<int64_t>(), use.data_ptr<int64_t>() + num_experts_};
  }
  return out;
}

absl::StatusOr<BaselineQuality> BaselineFromJson(const nlohmann::json& json,
                                                 const std::string& where) {
  ASSIGN_OR_RETURN(const JsonObject object, JsonObject::From(json, where));
  BaselineQuality q;
  ASSIGN_OR_RETURN(q.domain, object.String("domain"));
  ASSIGN_OR_RETURN(q.tokens, object.Int("tokens", 1, INT64_MAX));
  ASSIGN_OR_RETURN(q.nll, object.Number("nll"));
  ASSIGN_OR_RETURN(q.expert_tokens, object.Ints("expert_tokens", 0, INT64_MAX, kDomainsMax));
  return q;
}

// What `measure` says of each domain; goes on from the record behind the last one that is there.
template <typename Quality, typename FromJson, typename Measure>
absl::StatusOr<std::optional<std::vector<Quality>>> EachDomain(
    const Corpus& held_out, const nlohmann::json& inputs, WorkFolder& work, const StageHooks& hooks,
    const FromJson& from_json, const Measure& measure) {
  std::vector<Quality> done;
  ASSIGN_OR_RETURN(const auto record, work.Read(kEvaluateRecord, inputs));
  if (record && record->contains("domains")) {
    for (const nlohmann::json& json : (*record)["domains"]) {
      ASSIGN_OR_RETURN(done.emplace_back(), from_json(json, work.File(kEvaluateRecord)));
    }
  }
  const size_t num_domains = held_out.domains.size();
  while (done.size() < num_domains) {
    if (hooks.stop()) return std::nullopt;
    const int domain = static_cast<int>(done.size());
    ASSIGN_OR_RETURN(done.emplace_back(), measure(OfDomain(held_out, domain), domain));
    nlohmann::json domains = nlohmann::json::array();
    for (const Quality& quality : done) domains.push_back(ToJson(quality));
    RETURN_IF_ERROR(work.Write(kEvaluateRecord, {{"inputs", inputs}, {"domains", domains}}));
    hooks.progress(static_cast<double>(done.size()) / static_cast<double>(num_domains), "");
  }
  return done;
}

}  // namespace

nlohmann::json ToJson(const BaselineQuality& q) {
  return {{"domain", q.domain},
          {"tokens", q.tokens},
          {"nll", q.nll},
          {"expert_tokens", q.expert_tokens}};
}

nlohmann::json ToJson(const DomainQuality& q) {
  return {{"domain", q.domain},
          {"tokens", q.tokens},
          {"parent_nll", q.parent_nll},
          {"cut_nll", q.cut_nll},
          {"own_nll", q.own_nll},
          {"routed_nll", q.routed_nll},
          {"best_nll", q.best_nll},
          {"best_routed", q.best_routed},
          {"nearest_nll", q.nearest_nll},
          {"kept_routes", q.kept_routes},
          {"expert_tokens", q.expert_tokens}};
}

absl::StatusOr<DomainQuality> QualityFromJson(const nlohmann::json& json,
                                              const std::string& where) {
  ASSIGN_OR_RETURN(const JsonObject object, JsonObject::From(json, where));
  DomainQuality q;
  ASSIGN_OR_RETURN(q.domain, object.String("domain"));
  ASSIGN_OR_RETURN(q.tokens, object.Int("tokens", 1, INT64_MAX));
  for (const auto& [key, value] : {std::pair{"parent_nll", &q.parent_nll},
                                   {"cut_nll", &q.cut_nll},
                                   {"own_nll", &q.own_nll},
                                   {"routed_nll", &q.routed_nll},
                                   {"best_nll", &q.best_nll},
                                   {"best_routed", &q.best_routed},
                                   {"nearest_nll", &q.nearest_nll},
                                   {"kept_routes", &q.kept_routes}}) {
    ASSIGN_OR_RETURN(*value, object.Number(key));
  }
  ASSIGN_OR_RETURN(q.expert_tokens, object.Ints("expert_tokens", 0, INT64_MAX, kDomainsMax));
  return q;
}

absl::Status CheckHeldOut(const Corpus& held_out) {
  for (size_t d = 0; d < held_out.domains.size(); ++d) {
    if (std::count(held_out.window_domain.begin(), held_out.window_domain.end(), d) > 0) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "domain ", held_out.domains[d], ": its held-out text has no window of ",
        held_out.window_tokens, " tokens: more text, a larger hold-out, or eval-windows 0"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<std::vector<DomainQuality>>> Evaluate(
    const Checkpoint& dense, const Artifact& split, const Artifact& artifact,
    const Corpus& held_out, const std::string& device, const nlohmann::json& inputs,
    WorkFolder& work, const StageHooks& hooks) {
  std::optional<Evaluator> evaluator;
  return EachDomain<DomainQuality>(
      held_out, inputs, work, hooks, QualityFromJson,
      [&](const Corpus& corpus, int domain) -> absl::StatusOr<DomainQuality> {
        if (!evaluator) {
          ASSIGN_OR_RETURN(evaluator,
                           Evaluator::Load(dense, split, artifact, corpus.window_tokens, device));
        }
        return evaluator->Measure(corpus, domain);
      });
}

absl::StatusOr<std::optional<std::vector<BaselineQuality>>> EvaluateBaseline(
    const Checkpoint& dense, const Artifact& artifact, bool layer_routers, const Corpus& held_out,
    const std::string& device, const nlohmann::json& inputs, WorkFolder& work,
    const StageHooks& hooks) {
  std::optional<BaselineEvaluator> evaluator;
  return EachDomain<BaselineQuality>(
      held_out, inputs, work, hooks, BaselineFromJson,
      [&](const Corpus& corpus, int domain) -> absl::StatusOr<BaselineQuality> {
        if (!evaluator) {
          ASSIGN_OR_RETURN(evaluator, BaselineEvaluator::Load(dense, artifact, layer_routers,
                                                              corpus.window_tokens, device, work));
        }
        return evaluator->Measure(corpus, domain);
      });
}

}  // namespace pregate
