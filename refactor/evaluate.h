// Stage 4: what the artifact's model loses and gains on the held-out text, beside its parent.
#pragma once

#include "refactor/artifact.h"
#include "refactor/calibrate.h"

namespace pregate {

// Of one domain; nll are means over the tokens that are scored (each window's all but the first),
// in nats. routes: of every token.
struct DomainQuality {
  std::string domain;
  int64_t tokens = 0;
  double parent_nll = 0;
  double cut_nll = 0;      // the domain's own expert before anything was tuned
  double own_nll = 0;      // the domain's own expert
  double routed_nll = 0;   // the router's experts
  double best_nll = 0;     // of each token the best of the experts that ran the whole window
  double best_routed = 0;  // part of the tokens whose expert is that best one
  // Of each token that expert whose distribution is next to the parent's (divergence): the best that one
  // who does not know the next token can name.
  double nearest_nll = 0;
  double kept_routes = 0;              // part of the tokens that keep the expert of the one before
  std::vector<int64_t> expert_tokens;  // [experts]
};
nlohmann::json ToJson(const DomainQuality& quality);
absl::StatusOr<DomainQuality> QualityFromJson(const nlohmann::json& json, const std::string& where);

// Of one domain on a model that the run's is held against (baselines.h), scored on the same windows.
struct BaselineQuality {
  std::string domain;
  int64_t tokens = 0;
  double nll = 0;
  // [experts] tokens of each; where layers choose, summed over layers. Empty: experts are alike.
  std::vector<int64_t> expert_tokens;
};
nlohmann::json ToJson(const BaselineQuality& quality);

// InvalidArgument names a domain that has no window in `held_out`.
absl::Status CheckHeldOut(const Corpus& held_out);

// `split`: the artifact before tuning; `artifact`: the one that is shipped. Goes on from the record
// "evaluate.json", domain by domain; nothing: `stop` said so. REQUIRES: CheckHeldOut.
absl::StatusOr<std::optional<std::vector<DomainQuality>>> Evaluate(
    const Checkpoint& dense, const Artifact& split, const Artifact& artifact,
    const Corpus& held_out, const std::string& device, const nlohmann::json& inputs,
    WorkFolder& work, const StageHooks& hooks);

// The same for a baseline's artifact: on its router's routes, on any where its experts are alike,
// or, with `layer_routers` (of tune_state.h, in `work`), as each layer chooses.
absl::StatusOr<std::optional<std::vector<BaselineQuality>>> EvaluateBaseline(
    const Checkpoint& dense, const Artifact& artifact, bool layer_routers, const Corpus& held_out,
    const std::string& device, const nlohmann::json& inputs, WorkFolder& work,
    const StageHooks& hooks);

}  // namespace pregate
