// The file form of an artifact (artifact.h).
#include <cstring>
#include <optional>

#include "absl/strings/match.h"
#include "common/base/json.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/model/formats/pregate_config.h"
#include "common/model/formats/safetensors.h"
#include "common/model/formats/safetensors_writer.h"
#include "refactor/artifact.h"

namespace pregate {
namespace {

constexpr const char* kMetadataKey = "pregate_artifact";
constexpr int kVersion = 1, kVersionWithDeltas = 2;
constexpr const char* kModelColumns = "model_columns";
constexpr const char* kOwn = "own";
constexpr const char* kEmbedColumns = "router.embed_columns";
constexpr const char* kDelta = "delta.";

absl::Status ParseExpertNames(const JsonObject& json, Artifact* artifact) {
  ASSIGN_OR_RETURN(const int64_t num_experts, json.Int("num_experts", 1, kExpertsMax));
  artifact->experts.resize(num_experts);
  if (!json.Has("experts")) return absl::OkStatus();
  const auto& names = json.json()["experts"];
  if (!names.is_array() || names.size() != artifact->experts.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(json.where(), ": \"experts\" are not ", num_experts, " names"));
  }
  for (size_t e = 0; e < names.size(); ++e) {
    if (!names[e].is_string())
      return absl::InvalidArgumentError(
          absl::StrCat(json.where(), ": \"experts\" holds no string"));
    artifact->experts[e] = names[e].get<std::string>();
  }
  return absl::OkStatus();
}

// Returns whether the router's embedding is cut from the model's.
absl::StatusOr<bool> ParseHeader(const JsonObject& json, Artifact* artifact) {
  ASSIGN_OR_RETURN(const int64_t version, json.Int("version", 1, INT32_MAX));
  if (version != kVersion && version != kVersionWithDeltas) {
    return absl::UnimplementedError(
        absl::StrCat(json.where(), ": version ", version, " is not supported"));
  }
  RETURN_IF_ERROR(ParseExpertNames(json, artifact));
  ASSIGN_OR_RETURN(artifact->keep, json.Number("keep", 1));
  ASSIGN_OR_RETURN(artifact->seed, json.Int("seed", INT64_MIN, INT64_MAX, 0));
  ASSIGN_OR_RETURN(artifact->provenance.source, json.String("source", ""));
  ASSIGN_OR_RETURN(artifact->provenance.source_digest, json.String("source_digest"));
  ASSIGN_OR_RETURN(artifact->provenance.method, json.String("method", ""));
  ASSIGN_OR_RETURN(artifact->provenance.data, json.String("data", ""));
  ASSIGN_OR_RETURN(artifact->provenance.commit, json.String("commit", ""));
  ASSIGN_OR_RETURN(const JsonObject router, json.Object("router"));
  ASSIGN_OR_RETURN(artifact->router, ParseRouterSpec(router));
  ASSIGN_OR_RETURN(artifact->embed_scale, router.Number("embed_scale", 1));
  ASSIGN_OR_RETURN(const std::string embed, router.String("embed"));
  if (embed == kModelColumns) return true;
  if (embed == kOwn) return false;
  return absl::UnimplementedError(
      absl::StrCat(router.where(), ": embed \"", embed.substr(0, 64), "\" is not supported"));
}

absl::StatusOr<ArtifactLayer> ReadLayer(const SafetensorsFile& file, int l, int num_experts) {
  ArtifactLayer layer;
  const std::string prefix = absl::StrCat("layers.", l, ".");
  ASSIGN_OR_RETURN(layer.shared, file.ReadInts(prefix + "shared"));
  if (file.tensors().contains(prefix + "shared_scale")) {
    ASSIGN_OR_RETURN(layer.shared_scale, file.ReadFloats(prefix + "shared_scale"));
  }
  layer.own.resize(num_experts);
  if (file.tensors().contains(prefix + "own_scale.0")) layer.own_scale.resize(num_experts);
  for (int e = 0; e < num_experts; ++e) {
    ASSIGN_OR_RETURN(layer.own[e], file.ReadInts(absl::StrCat(prefix, "own.", e)));
    if (layer.own_scale.empty()) continue;
    ASSIGN_OR_RETURN(layer.own_scale[e], file.ReadFloats(absl::StrCat(prefix, "own_scale.", e)));
  }
  return layer;
}

absl::Status ReadRouter(const SafetensorsFile& file, bool model_columns, Artifact* artifact) {
  if (model_columns) {
    ASSIGN_OR_RETURN(artifact->embed_columns, file.ReadInts(kEmbedColumns));
  }
  for (const auto& [name, tensor] : file.tensors()) {
    if (!absl::StartsWith(name, "router.") || name == kEmbedColumns) continue;
    ArtifactTensor& out = artifact->router_tensors[name];
    out.shape = tensor.shape;
    ASSIGN_OR_RETURN(out.values, file.ReadFloats(name));
  }
  return absl::OkStatus();
}

std::string HeaderJson(const Artifact& artifact) {
  nlohmann::ordered_json router = RouterSpecJson(artifact.router);
  router["embed"] = artifact.embed_columns.empty() ? kOwn : kModelColumns;
  router["embed_scale"] = artifact.embed_scale;
  const nlohmann::ordered_json out = {
      {"version", artifact.deltas.empty() ? kVersion : kVersionWithDeltas},
      {"num_experts", artifact.num_experts()},
      {"experts", artifact.experts},
      {"keep", artifact.keep},
      {"seed", artifact.seed},
      {"source", artifact.provenance.source},
      {"source_digest", artifact.provenance.source_digest},
      {"method", artifact.provenance.method},
      {"data", artifact.provenance.data},
      {"commit", artifact.provenance.commit},
      {"router", std::move(router)}};
  return out.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

OutputTensor NeuronTensor(const std::string& name, const std::vector<int32_t>& neurons) {
  return IntTensor(name, {static_cast<int64_t>(neurons.size())}, neurons);
}

OutputTensor ScaleTensor(const std::string& name, const std::vector<float>& scale) {
  return FloatTensor(name, {static_cast<int64_t>(scale.size())}, scale);
}

void AddLayer(const ArtifactLayer& layer, int l, std::vector<OutputTensor>* tensors) {
  const std::string prefix = absl::StrCat("layers.", l, ".");
  tensors->push_back(NeuronTensor(prefix + "shared", layer.shared));
  if (!layer.shared_scale.empty()) {
    tensors->push_back(ScaleTensor(prefix + "shared_scale", layer.shared_scale));
  }
  for (size_t e = 0; e < layer.own.size(); ++e) {
    tensors->push_back(NeuronTensor(absl::StrCat(prefix, "own.", e), layer.own[e]));
    if (layer.own_scale.empty()) continue;
    tensors->push_back(ScaleTensor(absl::StrCat(prefix, "own_scale.", e), layer.own_scale[e]));
  }
}

// "delta.NAME.PART" → NAME and PART; nothing for other tensors.
std::optional<std::pair<std::string, std::string>> DeltaPart(std::string_view tensor) {
  if (!tensor.starts_with(kDelta)) return std::nullopt;
  tensor.remove_prefix(std::strlen(kDelta));
  const size_t dot = tensor.rfind('.');
  if (dot == std::string_view::npos) return std::nullopt;
  return std::pair(std::string(tensor.substr(0, dot)), std::string(tensor.substr(dot + 1)));
}

// What the file says; whether it is whole is CheckDelta's.
absl::StatusOr<CodedMatrix> ReadCodes(const SafetensorsFile& file, const std::string& prefix) {
  ASSIGN_OR_RETURN(const StoredTensor* stored, file.Find(prefix + "codes"));
  if (stored->shape.size() != 2) {
    return absl::InvalidArgumentError(
        absl::StrCat(stored->Where(), ": has ", stored->shape.size(), " dimensions, codes have 2"));
  }
  ASSIGN_OR_RETURN(const std::vector<int32_t> form, file.ReadInts(prefix + "form"));
  if (form.size() != 2) {
    return absl::InvalidArgumentError(absl::StrCat(file.path(), ": tensor ", prefix, "form has ",
                                                   form.size(), " values, not columns and bits"));
  }
  CodedMatrix coded{.bits = form[1], .rows = stored->shape[0], .columns = form[0]};
  ASSIGN_OR_RETURN(coded.codes, file.ReadInt8s(stored->name));
  ASSIGN_OR_RETURN(coded.scales, file.ReadFloats(prefix + "scale"));
  return coded;
}

absl::Status ReadDeltas(const SafetensorsFile& file, WeightDeltas* deltas) {
  for (const auto& [tensor, stored] : file.tensors()) {
    const auto part = DeltaPart(tensor);
    if (!part) continue;
    WeightDelta& delta = (*deltas)[part->first];
    if (part->second == "exact") {
      ASSIGN_OR_RETURN(delta.exact, file.ReadFloats(tensor));
      delta.shape = stored.shape;
    } else if (part->second == "codes") {
      ASSIGN_OR_RETURN(delta.coded, ReadCodes(file, absl::StrCat(kDelta, part->first, ".")));
      delta.shape = {delta.coded.rows, delta.coded.columns};
    } else if (part->second != "scale" && part->second != "form") {
      return absl::InvalidArgumentError(
          absl::StrCat(stored.Where(), ": ", part->second, " is no part of a delta"));
    }
  }
  return absl::OkStatus();
}

void AddDeltaTensors(const std::string& name, const WeightDelta& delta,
                     std::vector<OutputTensor>* tensors) {
  const std::string prefix = absl::StrCat(kDelta, name, ".");
  if (!delta.exact.empty()) {
    tensors->push_back(ScaleTensor(prefix + "exact", delta.exact));
    return;
  }
  const CodedMatrix& coded = delta.coded;
  tensors->push_back(Int8Tensor(prefix + "codes", {coded.rows, coded.row_bytes()}, coded.codes));
  tensors->push_back(FloatTensor(prefix + "scale", {coded.rows}, coded.scales, DType::kBF16));
  tensors->push_back(
      IntTensor(prefix + "form", {2}, {static_cast<int32_t>(coded.columns), coded.bits}));
}

}  // namespace

absl::StatusOr<Artifact> ReadArtifact(const std::string& path) {
  ASSIGN_OR_RETURN(const auto file, SafetensorsFile::Open(path));
  const auto text = file->metadata().find(kMetadataKey);
  if (text == file->metadata().end()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": is no artifact: __metadata__ has no ", kMetadataKey));
  }
  const std::string where = absl::StrCat(path, ": ", kMetadataKey);
  ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(text->second, where));
  ASSIGN_OR_RETURN(const JsonObject object, JsonObject::From(json, where));
  Artifact artifact;
  ASSIGN_OR_RETURN(const bool model_columns, ParseHeader(object, &artifact));
  for (int l = 0; file->tensors().contains(absl::StrCat("layers.", l, ".shared")); ++l) {
    ASSIGN_OR_RETURN(ArtifactLayer layer, ReadLayer(*file, l, artifact.num_experts()));
    artifact.layers.push_back(std::move(layer));
  }
  RETURN_IF_ERROR(ReadRouter(*file, model_columns, &artifact));
  RETURN_IF_ERROR(ReadDeltas(*file, &artifact.deltas));
  return artifact;
}

absl::Status WriteArtifact(const Artifact& artifact, DType router_dtype, const std::string& path) {
  std::vector<OutputTensor> tensors;
  for (size_t l = 0; l < artifact.layers.size(); ++l) {
    AddLayer(artifact.layers[l], static_cast<int>(l), &tensors);
  }
  if (!artifact.embed_columns.empty()) {
    tensors.push_back(NeuronTensor(kEmbedColumns, artifact.embed_columns));
  }
  for (const auto& [name, tensor] : artifact.router_tensors) {
    const DType dtype = tensor.shape.size() == 1 ? DType::kF32 : router_dtype;
    RETURN_IF_ERROR(CheckFits(name, tensor.shape, tensor.values, dtype));
    tensors.push_back(FloatTensor(name, tensor.shape, tensor.values, dtype));
  }
  for (const auto& [name, delta] : artifact.deltas) AddDeltaTensors(name, delta, &tensors);
  return WriteSafetensors(path, tensors, {{kMetadataKey, HeaderJson(artifact)}});
}

}  // namespace pregate
