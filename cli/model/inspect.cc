#include "cli/model/inspect.h"

#include <algorithm>

#include "cli/model/authors_layout.h"
#include "common/base/status.h"
#include "common/model/formats/checkpoint.h"
#include "common/model/formats/checkpoint_parts.h"
#include "common/model/formats/digest.h"
#include "common/model/formats/hf_config.h"
#include "common/model/formats/pregate_config.h"
#include "common/model/spec/tensor_names.h"
#include "common/model/spec/traits.h"
#include "common/model/tokenizer/tokenizer.h"

namespace pregate {
namespace {

using Json = nlohmann::ordered_json;

Json RopeScalingJson(const ModelSpec& spec) {
  const Json scaling = DenseConfigJson(spec)["rope_scaling"];
  if (!scaling.is_null()) return scaling;
  return {{"rope_type", "factors"}, {"factors", spec.rope_scaling->factors}};
}

Json TraitJson(const Trait& trait) {
  if (const float* number = std::get_if<float>(&trait.value)) return ShortestDouble(*number);
  if (const bool* flag = std::get_if<bool>(&trait.value)) return *flag;
  return std::get<int>(trait.value);
}

// What a plain Llama has not is there where the model has it; of layers, one entry each.
void AddTraits(const ModelSpec& spec, Json* out) {
  if (spec.rope_scaling) (*out)["rope_scaling"] = RopeScalingJson(spec);
  for (const Trait& trait : TraitsOf(spec)) {
    Json& place = (*out)[trait.name];
    (trait.by_layer ? place.emplace_back() : place) = TraitJson(trait);
  }
}

Json SpecJson(const ModelSpec& spec) {
  Json out = {{"architecture", spec.architecture},
              {"vocab_size", spec.vocab_size},
              {"hidden", spec.hidden},
              {"intermediate", spec.intermediate},
              {"num_layers", spec.num_layers},
              {"num_heads", spec.num_heads},
              {"num_kv_heads", spec.num_kv_heads},
              {"head_dim", spec.head_dim},
              {"max_position", spec.max_position},
              {"rms_eps", spec.rms_eps},
              {"rope_theta", spec.rope_theta},
              {"rope_scaled", spec.rope_scaling.has_value()},
              {"tie_embeddings", spec.tie_embeddings},
              {"eos_tokens", spec.eos_tokens},
              {"num_experts", spec.num_experts}};
  AddTraits(spec, &out);
  if (spec.is_moe()) {
    out["shared_width"] = spec.shared_width;
    out["own_width"] = spec.own_width;
    out["router"] = RouterSpecJson(*spec.router);
  }
  return out;
}

struct Sizes {
  int64_t params_total = 0, params_active = 0, params_router = 0;
  int64_t bytes_total = 0, bytes_unit_max = 0;
  Json params_by_part = Json::object(), bytes_by_part = Json::object(), types = Json::object();
};

void Add(Json* object, const std::string& key, int64_t amount) {
  (*object)[key] = object->value(key, int64_t{0}) + amount;
}

Sizes Measure(const Checkpoint& checkpoint) {
  Sizes sizes;
  const std::vector<CanonicalTensor> canonical = CanonicalTensors(checkpoint.spec());
  const std::vector<TensorInfo> stored = checkpoint.Tensors();
  int64_t unit_bytes = 0;
  for (size_t i = 0; i < canonical.size(); ++i) {
    const CanonicalTensor& tensor = canonical[i];
    const int64_t params = tensor.num_elements();
    const auto bytes = static_cast<int64_t>(stored[i].stored_bytes);
    const bool router = tensor.part == TensorPart::kRouter;
    sizes.params_total += params;
    if (router) sizes.params_router += params;
    if (!router && tensor.expert <= 0) sizes.params_active += params;  // one expert stands for any
    sizes.bytes_total += bytes;
    Add(&sizes.params_by_part, TensorPartName(tensor.part), params);
    Add(&sizes.bytes_by_part, TensorPartName(tensor.part), bytes);
    Add(&sizes.types, stored[i].stored_type, 1);
    if (tensor.part != TensorPart::kExpert) continue;
    const bool same_unit = i > 0 && canonical[i - 1].expert == tensor.expert;
    unit_bytes = same_unit ? unit_bytes + bytes : bytes;
    sizes.bytes_unit_max = std::max(sizes.bytes_unit_max, unit_bytes);
  }
  return sizes;
}

absl::Status Verify(const Checkpoint& checkpoint) {
  if (checkpoint.layout() != "pregate") {
    return absl::FailedPreconditionError(absl::StrCat(checkpoint.path(), ": layout \"",
                                                      checkpoint.layout(),
                                                      "\" has no manifest to verify against"));
  }
  ASSIGN_OR_RETURN(const CheckpointParts parts,
                   ReadDirectory(checkpoint.path(), /*foreign=*/nullptr));
  for (const auto& [name, hash] : HashViews(parts.views, /*with_xxh3=*/true)) {
    const TensorHash& recorded = parts.recorded.at(name);
    const bool same =
        recorded.sha256 == hash.sha256 && (recorded.xxh3.empty() || recorded.xxh3 == hash.xxh3);
    if (same) continue;
    return absl::DataLossError(
        absl::StrCat(parts.views.at(name).stored.Where(), ": content differs from ", kManifestFile,
                     ": SHA-256 ", hash.sha256, ", XXH3 ", hash.xxh3, ", recorded ",
                     recorded.sha256.substr(0, 64), ", ", recorded.xxh3.substr(0, 64)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Json> InspectCheckpoint(const std::string& path, bool verify) {
  ASSIGN_OR_RETURN(const auto checkpoint, OpenCheckpoint(path));
  if (verify) RETURN_IF_ERROR(Verify(*checkpoint));
  const Sizes sizes = Measure(*checkpoint);
  const ModelSpec& spec = checkpoint->spec();
  Json out = {{"path", path}, {"layout", checkpoint->layout()}, {"digest", checkpoint->digest()}};
  out["verified"] = verify;
  out["spec"] = SpecJson(spec);
  out["params"] = {{"total", sizes.params_total},
                   {"active", sizes.params_active},
                   {"router", sizes.params_router}};
  out["params_by_part"] = sizes.params_by_part;
  out["bytes_by_part"] = sizes.bytes_by_part;
  out["bytes_total"] = sizes.bytes_total;
  if (spec.is_moe()) out["bytes_expert_unit_max"] = sizes.bytes_unit_max;
  out["stored_types"] = sizes.types;
  out["provenance"] = ProvenanceJson(spec.provenance);
  const auto tokenizer = checkpoint->LoadTokenizer();
  out["tokenizer"] = tokenizer.ok();
  if (tokenizer.ok()) {
    out["tokenizer_kind"] = (*tokenizer)->kind();
  } else if (!absl::IsNotFound(tokenizer.status())) {
    out["tokenizer_error"] = std::string(tokenizer.status().message());
  }
  return out;
}

}  // namespace pregate
