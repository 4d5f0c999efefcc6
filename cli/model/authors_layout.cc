#include "cli/model/authors_layout.h"

#include <optional>

#include "absl/strings/str_cat.h"
#include "cli/model/shared_neurons.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/model/formats/hf_config.h"
#include "common/model/formats/pregate_config.h"

namespace pregate {
namespace {

constexpr const char* kProjections[] = {"gate_proj", "up_proj", "down_proj"};

struct AuthorsConfig {
  int num_experts = 0;
  std::optional<bool> fused;        // fuse_residual, where it is given
  std::optional<int> expert_width;  // intermediate_size_expert: shared + own
  RouterSpec router;
};

absl::StatusOr<RouterSpec> ParsePredictor(const JsonObject& config, const ModelSpec& dense) {
  RouterSpec router;
  // Defaults are those of the authors' router class.
  ASSIGN_OR_RETURN(router.num_layers, config.Int("n_layer", 1, kRouterLayersMax, 2));
  ASSIGN_OR_RETURN(router.num_heads, config.Int("n_head", 1, kHeadsMax, 2));
  ASSIGN_OR_RETURN(router.hidden, config.Int("embedding_dim", 1, kRouterHiddenMax));
  ASSIGN_OR_RETURN(router.intermediate,
                   config.Int("inter_dim", 1, kRouterHiddenMax, router.hidden));
  if (router.intermediate != router.hidden) {  // its residual sums need them equal
    return UnsupportedConfig(config, absl::StrCat("inter_dim = ", router.intermediate,
                                                  " other than embedding_dim = ", router.hidden));
  }
  ASSIGN_OR_RETURN(router.normalizer, config.Number("normalizer", 1));
  ASSIGN_OR_RETURN(router.activation, ParseRouterActivation(config, "hidden_act_predictor"));
  router.rms_eps = 1e-6f;
  router.rope_theta = dense.rope_theta;
  return router;
}

absl::StatusOr<AuthorsConfig> ParseAuthorsConfig(const JsonObject& config, const ModelSpec& dense) {
  AuthorsConfig out;
  ASSIGN_OR_RETURN(out.num_experts, config.Int("N_cluster", 1, kExpertsMax));
  ASSIGN_OR_RETURN(const bool has_router, config.Bool("add_cluster_predictor", true));
  if (!has_router) {
    return UnsupportedConfig(config, "add_cluster_predictor = false (experts without a router)");
  }
  ASSIGN_OR_RETURN(const bool nonautoregressive, config.Bool("nonautoregressive", false));
  if (nonautoregressive) return UnsupportedConfig(config, "nonautoregressive = true");
  if (config.Has("fuse_residual")) {
    ASSIGN_OR_RETURN(out.fused, config.Bool("fuse_residual"));
  }
  if (config.Has("intermediate_size_expert") &&
      !config.json()["intermediate_size_expert"].is_array()) {
    ASSIGN_OR_RETURN(out.expert_width, config.Int("intermediate_size_expert", 1, kFfnWidthMax));
  }
  ASSIGN_OR_RETURN(out.router, ParsePredictor(config, dense));
  return out;
}

// Maps one layer after the other. Widths come from the tensors: the authors' masks give each layer
// its own.
class LayerMapper {
 public:
  LayerMapper(const SafetensorsSet& files, const AuthorsConfig& config, bool fused,
              CheckpointParts* parts)
      : files_(files), config_(config), fused_(fused), parts_(parts) {}

  absl::Status Map(int layer) {
    theirs_ = absl::StrCat("model.layers.", layer, ".moe.");
    ours_ = absl::StrCat("model.layers.", layer, ".mlp.");
    return fused_ ? MapFused() : MapSplit();
  }

 private:
  absl::StatusOr<const StoredTensor*> Find(const char* projection,
                                           const std::string& suffix) const {
    const std::string name = absl::StrCat(theirs_, projection, "_", suffix, ".weight");
    const StoredTensor* tensor = files_.Find(name);
    if (tensor == nullptr) return absl::NotFoundError(absl::StrCat("missing tensor ", name));
    return tensor;
  }

  // The neurons of a part, with its three shapes checked against each other and the hidden width.
  absl::StatusOr<int64_t> WidthOf(const std::string& suffix) const {
    ASSIGN_OR_RETURN(const StoredTensor* gate, Find("gate_proj", suffix));
    if (gate->shape.size() != 2)
      return absl::InvalidArgumentError(gate->Where() + ": is no matrix");
    const int64_t width = gate->shape[0], hidden = parts_->spec.hidden;
    for (const char* projection : kProjections) {
      ASSIGN_OR_RETURN(const StoredTensor* tensor, Find(projection, suffix));
      const bool down = projection == kProjections[2];
      const std::vector<int64_t> expected = {down ? hidden : width, down ? width : hidden};
      if (tensor->shape == expected) continue;
      return absl::InvalidArgumentError(absl::StrCat(tensor->Where(), ": wrong shape, expected [",
                                                     expected[0], ",", expected[1], "]"));
    }
    return width;
  }

  absl::Status AddWidths(int64_t shared, int64_t own) {
    if (config_.expert_width && shared + own != *config_.expert_width) {
      return absl::InvalidArgumentError(absl::StrCat(
          theirs_, "*: ", shared + own, " neurons an expert, but intermediate_size_expert is ",
          *config_.expert_width));
    }
    if (shared + own > kFfnWidthMax) {
      return absl::InvalidArgumentError(absl::StrCat(theirs_, "*: ", shared + own, " neurons"));
    }
    parts_->spec.shared_width.push_back(static_cast<int>(shared));
    parts_->spec.own_width.push_back(static_cast<int>(own));
    return absl::OkStatus();
  }

  // Adds the three tensors of one part, reduced to `neurons` (empty: all of them).
  absl::Status AddPart(const std::string& part, const std::string& suffix,
                       const std::vector<int32_t>& neurons) {
    for (const char* projection : kProjections) {
      ASSIGN_OR_RETURN(const StoredTensor* tensor, Find(projection, suffix));
      TensorView view{.stored = *tensor};
      (projection == kProjections[2] ? view.cols : view.rows) = neurons;
      parts_->views[absl::StrCat(ours_, part, ".", projection, ".weight")] = std::move(view);
    }
    return absl::OkStatus();
  }

  absl::Status MapSplit() {
    ASSIGN_OR_RETURN(const int64_t shared, WidthOf("residual"));
    ASSIGN_OR_RETURN(const int64_t own, WidthOf("0"));
    RETURN_IF_ERROR(AddWidths(shared, own));
    if (shared > 0) RETURN_IF_ERROR(AddPart("shared", "residual", {}));
    for (int e = 0; e < config_.num_experts; ++e) {
      RETURN_IF_ERROR(AddPart(absl::StrCat("experts.", e), absl::StrCat(e), {}));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<FusedExpert>> FusedExperts(int64_t width) const {
    std::vector<FusedExpert> experts(config_.num_experts);
    for (int e = 0; e < config_.num_experts; ++e) {
      const std::string suffix = absl::StrCat(e);
      ASSIGN_OR_RETURN(const int64_t other, WidthOf(suffix));
      ASSIGN_OR_RETURN(experts[e].gate, Find("gate_proj", suffix));
      ASSIGN_OR_RETURN(experts[e].up, Find("up_proj", suffix));
      ASSIGN_OR_RETURN(experts[e].down, Find("down_proj", suffix));
      for (const StoredTensor* tensor : {experts[e].gate, experts[e].up, experts[e].down}) {
        if (other == width && tensor->type == experts[0].gate->type) continue;
        return absl::InvalidArgumentError(
            absl::StrCat(tensor->Where(), ": width or type differ from those of expert 0"));
      }
    }
    return experts;
  }

  absl::Status MapFused() {
    ASSIGN_OR_RETURN(const int64_t width, WidthOf("0"));
    ASSIGN_OR_RETURN(const std::vector<FusedExpert> experts, FusedExperts(width));
    std::vector<std::vector<int32_t>> shared = FindSharedNeurons(experts);
    for (auto& rows : shared) {  // an expert has at least one neuron of its own
      if (!rows.empty() && static_cast<int64_t>(rows.size()) == width) rows.pop_back();
    }
    RETURN_IF_ERROR(AddWidths(shared[0].size(), width - shared[0].size()));
    if (!shared[0].empty()) RETURN_IF_ERROR(AddPart("shared", "0", shared[0]));
    for (int e = 0; e < config_.num_experts; ++e) {
      std::vector<uint8_t> is_shared(width);
      for (const int32_t row : shared[e]) is_shared[row] = 1;
      std::vector<int32_t> own;
      for (int32_t row = 0; row < width; ++row) {
        if (!is_shared[row]) own.push_back(row);
      }
      RETURN_IF_ERROR(AddPart(absl::StrCat("experts.", e), absl::StrCat(e), own));
    }
    return absl::OkStatus();
  }

  const SafetensorsSet& files_;
  const AuthorsConfig& config_;
  const bool fused_;
  CheckpointParts* parts_;
  std::string theirs_, ours_;  // name prefixes of the layer
};

void AddIfPresent(const SafetensorsSet& files, const std::string& theirs, const std::string& ours,
                  TensorViews* views) {
  const StoredTensor* tensor = files.Find(theirs);
  if (tensor != nullptr) (*views)[ours] = {.stored = *tensor};
}

// Tensors that are absent stay so: Checkpoint::Open names what the spec misses.
void MapPredictor(const SafetensorsSet& files, int num_layers, TensorViews* views) {
  AddIfPresent(files, "cluster_predictor.embed.weight", "router.embed.weight", views);
  AddIfPresent(files, "cluster_predictor.out_layernorm.weight", "router.norm.weight", views);
  for (const char* kind : {"weight", "bias"}) {
    AddIfPresent(files, absl::StrCat("cluster_predictor.proj_out.", kind),
                 absl::StrCat("router.proj_out.", kind), views);
  }
  for (int l = 0; l < num_layers; ++l) {
    for (const char* name : {"input_layernorm", "post_attention_layernorm", "q_proj", "k_proj",
                             "v_proj", "o_proj", "proj_1", "proj_2"}) {
      for (const char* kind : {"weight", "bias"}) {
        AddIfPresent(files, absl::StrCat("cluster_predictor.", name, "_", l, ".", kind),
                     absl::StrCat("router.layers.", l, ".", name, ".", kind), views);
      }
    }
  }
}

absl::Status MapAuthorsLayout(const JsonObject& config, const SafetensorsSet& files,
                              CheckpointParts* parts) {
  ASSIGN_OR_RETURN(const AuthorsConfig authors, ParseAuthorsConfig(config, parts->spec));
  const bool fused = files.Find("model.layers.0.moe.gate_proj_residual.weight") == nullptr;
  if (authors.fused && *authors.fused != fused) {
    return absl::InvalidArgumentError(
        absl::StrCat(config.where(), ": \"fuse_residual\" is ", *authors.fused ? "true" : "false",
                     ", but tensor ", "model.layers.0.moe.gate_proj_residual.weight is ",
                     fused ? "missing" : "there"));
  }
  parts->spec.num_experts = authors.num_experts;
  parts->spec.router = authors.router;
  LayerMapper mapper(files, authors, fused, parts);
  for (int l = 0; l < parts->spec.num_layers; ++l) RETURN_IF_ERROR(mapper.Map(l));
  MapPredictor(files, authors.router.num_layers, &parts->views);
  return absl::OkStatus();
}

}  // namespace

const ForeignLayout kAuthorsLayout = {
    .name = "authors",
    .is = [](const JsonObject& config) { return config.Has("N_cluster"); },
    .map = MapAuthorsLayout};

}  // namespace pregate
