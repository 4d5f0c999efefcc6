// Directories with a config.json: Hugging Face's layout, our own, and a foreign one.
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/model/formats/architectures.h"
#include "common/model/formats/checkpoint_parts.h"
#include "common/model/formats/digest.h"
#include "common/model/formats/hf_config.h"
#include "common/model/formats/model_fields.h"
#include "common/model/formats/pregate_config.h"
#include "common/model/formats/safetensors_set.h"
#include "common/model/formats/stored_rows.h"
#include "common/model/spec/tensor_names.h"

namespace pregate {
namespace {

// Canonical names are Hugging Face's, but for fused tensors. What is absent stays so:
// Checkpoint::Open names it.
absl::Status MapByName(const SafetensorsSet& files, const ModelSpec& spec, bool fused,
                       bool without_ffn, TensorViews* views) {
  for (const CanonicalTensor& tensor : CanonicalTensors(spec)) {
    if (without_ffn && tensor.part == TensorPart::kFfn) continue;
    const StoredRows stored_rows = SourceOf(tensor, spec, fused);
    const StoredTensor* stored = files.Find(stored_rows.name);
    if (stored == nullptr) continue;
    ASSIGN_OR_RETURN((*views)[tensor.name], stored_rows.View(*stored));
  }
  return absl::OkStatus();
}

// Tensors that may be there although nothing reads them: cached tables of RoPE and masks, a tied
// head stored twice, the dense FFN that a conversion may leave beside the experts.
bool IsIgnorable(const std::string& name, const StoredTensor& tensor, const ModelSpec& spec) {
  if (tensor.num_elements() == 0) return true;
  for (const char* table : {"rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached",
                            "attn.bias_mask", "attn.masked_bias", "position_ids"}) {
    if (absl::EndsWith(name, table)) return true;
  }
  if (name == "lm_head.weight") return spec.tie_embeddings;
  return spec.is_moe() && absl::StrContains(name, ".mlp.") &&
         !absl::StrContains(name, ".mlp.shared.") && !absl::StrContains(name, ".mlp.experts.");
}

// What GPTQ and AWQ, compressed-tensors and FP8, bitsandbytes store beside or instead of a weight.
bool IsOfQuantisedWeights(const std::string& name) {
  for (const char* part :
       {".qweight", ".qzeros", ".scales", ".g_idx", ".weight_packed", ".weight_shape",
        ".weight_scale", ".weight_scale_inv", ".weight_zero_point", ".weight_g_idx", ".input_scale",
        ".SCB", ".weight_format", ".absmax", ".nested_absmax", ".quant_map"}) {
    if (absl::EndsWith(name, part)) return true;
  }
  return false;
}

// An unknown tensor (a bias, a norm, an adapter) means another function than the one that would be
// computed.
absl::Status CheckAllUsed(const SafetensorsSet& files, const CheckpointParts& parts) {
  std::set<std::string> used;
  for (const auto& [name, view] : parts.views) used.insert(view.stored.name);
  for (const auto& [name, tensor] : files.tensors) {
    if (used.contains(name) || IsIgnorable(name, tensor, parts.spec)) continue;
    if (IsOfQuantisedWeights(name)) {
      return absl::UnimplementedError(absl::StrCat(
          tensor.Where(),
          ": is a part of quantised weights, which are not supported: ", kGiveOtherWeights));
    }
    return absl::UnimplementedError(absl::StrCat(tensor.Where(), ": unexpected; a ",
                                                 parts.spec.architecture,
                                                 " of this config has no such tensor"));
  }
  return absl::OkStatus();
}

// Config, manifest and tensor table must agree; the weights are compared when they are read.
absl::Status CheckManifest(const std::string& dir, const std::string& recorded,
                           CheckpointParts* parts) {
  ASSIGN_OR_RETURN(const auto hashes, ReadManifest(dir));
  for (const auto& [name, view] : parts->views) {
    const auto it = hashes.find(name);
    if (it == hashes.end() || it->second.shape != view.stored.shape ||
        it->second.stored_type != StoredTypeName(view.stored.type)) {
      return absl::DataLossError(absl::StrCat(view.stored.Where(), ": ", kManifestFile,
                                              " does not list it with this type and shape"));
    }
  }
  parts->digest = ModelDigest(parts->spec, hashes);
  parts->recorded = hashes;
  if (parts->digest == recorded) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(dir, ": config.json records digest ",
                                          recorded.substr(0, 64), ", but config and ",
                                          kManifestFile, " give ", parts->digest));
}

}  // namespace

absl::StatusOr<CheckpointParts> ReadDirectory(const std::string& path,
                                              const ForeignLayout* foreign) {
  const std::string config_path = path + "/config.json";
  ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(config_path, kConfigBytesMax));
  ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(text, config_path));
  ASSIGN_OR_RETURN(const JsonObject config, JsonObject::From(json, config_path));
  const bool own_format = IsPregateConfig(config);
  if (own_format || (foreign != nullptr && !foreign->is(config))) foreign = nullptr;
  if (!own_format && foreign == nullptr && config.Has("N_cluster")) {
    return absl::UnimplementedError(absl::StrCat(
        config_path, ": \"N_cluster\" is of the layout of Read-ME's authors, which is not served: ",
        "bring it into ours by `pregate import --from authors --in ", path, " --out DIR`"));
  }
  CheckpointParts parts;
  parts.layout = own_format ? "pregate" : foreign != nullptr ? foreign->name : "hf";
  std::string recorded_digest;
  if (own_format) {
    ASSIGN_OR_RETURN(parts.spec, ParsePregateConfig(config, &recorded_digest));
  } else {
    ASSIGN_OR_RETURN(parts.spec, ParseDenseConfig(config));
  }
  RETURN_IF_ERROR(ReadGenerationConfig(path, &parts.spec));
  RETURN_IF_ERROR(ValidateSpec(parts.spec));
  ASSIGN_OR_RETURN(SafetensorsSet files, OpenSafetensorsDirectory(path));
  const bool fused = !own_format && FindArchitecture(parts.spec.architecture)->fused;
  RETURN_IF_ERROR(
      MapByName(files, parts.spec, fused, /*without_ffn=*/foreign != nullptr, &parts.views));
  if (foreign != nullptr) RETURN_IF_ERROR(foreign->map(config, files, &parts));
  RETURN_IF_ERROR(CheckAllUsed(files, parts));
  if (own_format) RETURN_IF_ERROR(CheckManifest(path, recorded_digest, &parts));
  parts.files.assign(files.files.begin(), files.files.end());
  parts.load_tokenizer = [path]() -> absl::StatusOr<std::unique_ptr<Tokenizer>> {
    RETURN_IF_ERROR(CheckTokenizerFields(path));
    return LoadTokenizer(path);
  };
  return parts;
}

}  // namespace pregate
