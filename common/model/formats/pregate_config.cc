#include "common/model/formats/pregate_config.h"

#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/model/formats/architectures.h"
#include "common/model/formats/hf_config.h"

namespace pregate {
bool IsPregateConfig(const JsonObject& config) { return config.Has("pregate"); }

absl::StatusOr<RouterSpec> ParseRouterSpec(const JsonObject& object) {
  RouterSpec router;
  ASSIGN_OR_RETURN(router.num_layers, object.Int("num_layers", 1, kRouterLayersMax));
  ASSIGN_OR_RETURN(router.num_heads, object.Int("num_heads", 1, kHeadsMax));
  ASSIGN_OR_RETURN(router.hidden, object.Int("hidden", 1, kRouterHiddenMax));
  ASSIGN_OR_RETURN(router.intermediate, object.Int("intermediate", 1, kRouterHiddenMax));
  ASSIGN_OR_RETURN(router.rms_eps, object.Number("rms_eps"));
  ASSIGN_OR_RETURN(router.rope_theta, object.Number("rope_theta"));
  ASSIGN_OR_RETURN(router.normalizer, object.Number("normalizer"));
  ASSIGN_OR_RETURN(router.activation, ParseRouterActivation(object, "activation"));
  return router;
}

nlohmann::ordered_json RouterSpecJson(const RouterSpec& router) {
  return {{"num_layers", router.num_layers},
          {"num_heads", router.num_heads},
          {"hidden", router.hidden},
          {"intermediate", router.intermediate},
          {"rms_eps", ShortestDouble(router.rms_eps)},
          {"rope_theta", ShortestDouble(router.rope_theta)},
          {"normalizer", ShortestDouble(router.normalizer)},
          {"activation", router.activation == RouterActivation::kSilu ? "silu" : "relu"}};
}

nlohmann::ordered_json ProvenanceJson(const Provenance& provenance) {
  return {{"source", provenance.source},
          {"source_digest", provenance.source_digest},
          {"method", provenance.method},
          {"data", provenance.data},
          {"commit", provenance.commit}};
}

namespace {

constexpr int kFormatVersion = 1;

absl::Status ParseExperts(const JsonObject& object, ModelSpec* spec) {
  ASSIGN_OR_RETURN(spec->num_experts, object.Int("num_experts", 0, kExpertsMax));
  if (!spec->is_moe()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const auto shared, object.Ints("shared_width", 0, kFfnWidthMax, kLayersMax));
  ASSIGN_OR_RETURN(const auto own, object.Ints("own_width", 0, kFfnWidthMax, kLayersMax));
  spec->shared_width.assign(shared.begin(), shared.end());
  spec->own_width.assign(own.begin(), own.end());
  ASSIGN_OR_RETURN(const JsonObject router, object.Object("router"));
  ASSIGN_OR_RETURN(spec->router, ParseRouterSpec(router));
  return absl::OkStatus();
}

absl::Status ParseRopeFactors(const JsonObject& object, ModelSpec* spec) {
  if (!object.Has("rope_factors")) return absl::OkStatus();
  ASSIGN_OR_RETURN(const auto factors, object.Numbers("rope_factors", kHeadDimMax));
  spec->rope_scaling = {.kind = RopeScalingKind::kFactors,
                        .factors = {factors.begin(), factors.end()}};
  return absl::OkStatus();
}

absl::StatusOr<Provenance> ParseProvenance(const JsonObject& object) {
  Provenance out;
  if (!object.Has("provenance")) return out;
  ASSIGN_OR_RETURN(const JsonObject provenance, object.Object("provenance"));
  ASSIGN_OR_RETURN(out.source, provenance.String("source", ""));
  ASSIGN_OR_RETURN(out.source_digest, provenance.String("source_digest", ""));
  ASSIGN_OR_RETURN(out.method, provenance.String("method", ""));
  ASSIGN_OR_RETURN(out.data, provenance.String("data", ""));
  ASSIGN_OR_RETURN(out.commit, provenance.String("commit", ""));
  return out;
}

}  // namespace

absl::StatusOr<ModelSpec> ParsePregateConfig(const JsonObject& config, std::string* digest) {
  ASSIGN_OR_RETURN(const JsonObject own, config.Object("pregate"));
  ASSIGN_OR_RETURN(const std::string architecture, own.String("architecture", "llama"));
  ASSIGN_OR_RETURN(ModelSpec spec, ParseDenseConfig(config, architecture));
  ASSIGN_OR_RETURN(const int64_t version, own.Int("format_version", 1, INT32_MAX));
  if (version != kFormatVersion)
    return UnsupportedConfig(own, absl::StrCat("format_version ", version));
  RETURN_IF_ERROR(ParseExperts(own, &spec));
  RETURN_IF_ERROR(ParseRopeFactors(own, &spec));
  ASSIGN_OR_RETURN(spec.provenance, ParseProvenance(own));
  ASSIGN_OR_RETURN(*digest, own.String("digest"));
  return spec;
}

namespace {

nlohmann::ordered_json PregateJson(const ModelSpec& spec, const std::string& digest) {
  nlohmann::ordered_json out = {{"format_version", kFormatVersion},
                                {"architecture", spec.architecture},
                                {"num_experts", spec.num_experts}};
  if (spec.is_moe()) {
    out["shared_width"] = spec.shared_width;
    out["own_width"] = spec.own_width;
    out["router"] = RouterSpecJson(*spec.router);
  }
  if (spec.rope_scaling && spec.rope_scaling->kind == RopeScalingKind::kFactors) {
    out["rope_factors"] = spec.rope_scaling->factors;
  }
  out["digest"] = digest;
  out["provenance"] = ProvenanceJson(spec.provenance);
  return out;
}

}  // namespace

std::string WritePregateConfig(const ModelSpec& spec, const std::string& digest) {
  nlohmann::ordered_json out = DenseConfigJson(spec);
  // A dense checkpoint is a plain one for other tools. An MoE is none and must not pass for one, nor
  // one whose family has tensors fused that are stored apart here.
  if (spec.is_moe() || FindArchitecture(spec.architecture)->fused) {
    out["architectures"] = {"PregateForCausalLM"};
    out["model_type"] = "pregate";
  }
  out["pregate"] = PregateJson(spec, digest);
  // Provenance is free text and may hold anything.
  return out.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace pregate
