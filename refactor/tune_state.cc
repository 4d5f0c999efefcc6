#include "refactor/tune_state.h"

#include <cerrno>
#include <cstring>
#include <fstream>

#include "absl/strings/str_split.h"
#include "common/base/json.h"
#include "common/base/status.h"
#include "common/model/formats/safetensors.h"
#include "common/model/formats/safetensors_writer.h"

namespace pregate {
namespace {

constexpr const char* kFile = "tune.safetensors";
constexpr const char* kLosses = "losses.jsonl";
constexpr const char* kLayerRouters = "layer-routers.safetensors";
constexpr uint64_t kLossesBytesMax = uint64_t{1} << 30;
constexpr const char* kMetadataKey = "pregate_tune";

LossRow FromJson(const nlohmann::json& json) {
  return {.step = json.value("step", int64_t{0}),
          .round = json.value("round", 0),
          .loss = json.value("loss", 0.0),
          .divergence = json.value("kl", 0.0),
          .nll = json.value("nll", 0.0),
          .rate = json.value("rate", 0.0),
          .gradient = json.value("gradient", 0.0)};
}

// All tensors of the state, by name in the file.
NamedTensors StateTensors(Optimizers optimizers) {
  NamedTensors all;
  for (Optimizer* const optimizer : optimizers) {
    for (const auto& [name, tensor] : optimizer->parameters()) all["value." + name] = tensor;
    for (const auto& [name, tensor] : optimizer->means()) all["mean." + name] = tensor;
    for (const auto& [name, tensor] : optimizer->squares()) all["square." + name] = tensor;
  }
  return all;
}

absl::Status WriteTensors(const WorkFolder& work, const std::string& file_name,
                          const NamedTensors& tensors,
                          const std::map<std::string, std::string>& metadata) {
  std::vector<SafetensorsEntry> entries;
  for (const auto& [name, tensor] : tensors) {
    entries.push_back({name, StoredType::kF32, tensor.sizes().vec()});
  }
  ASSIGN_OR_RETURN(const auto writer,
                   SafetensorsWriter::Create(work.Draft(file_name), entries, metadata));
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor values = tensor.detach().to(at::kCPU).contiguous();
    RETURN_IF_ERROR(writer->Append({reinterpret_cast<const char*>(values.data_ptr<float>()),
                                    static_cast<size_t>(values.numel()) * sizeof(float)}));
  }
  RETURN_IF_ERROR(writer->Finish());
  return work.Publish(file_name);
}

absl::Status ReadInto(const SafetensorsFile& file, const std::string& name, at::Tensor tensor) {
  ASSIGN_OR_RETURN(const StoredTensor* stored, file.Find(name));
  if (stored->type != StoredType::kF32 || stored->shape != tensor.sizes().vec()) {
    return absl::InvalidArgumentError(absl::StrCat(stored->Where(), ": is not of this model"));
  }
  at::Tensor values = at::empty(tensor.sizes(), at::kFloat);
  std::memcpy(values.data_ptr<float>(), stored->bytes.data(), stored->bytes.size());
  tensor.copy_(values);
  return absl::OkStatus();
}

}  // namespace

nlohmann::json ToJson(const LossRow& row) {
  return {{"step", row.step},        {"round", row.round}, {"loss", row.loss},
          {"kl", row.divergence},    {"nll", row.nll},     {"rate", row.rate},
          {"gradient", row.gradient}};
}

std::string LayerRouterName(size_t layer) {
  return absl::StrCat("layer_router.", layer, ".weight");
}

absl::Status AppendLoss(const WorkFolder& work, const LossRow& row) {
  std::ofstream out(work.File(kLosses), std::ios::app);
  out << ToJson(row).dump() << "\n" << std::flush;
  if (out) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, absl::StrCat(work.File(kLosses), ": cannot write"));
}

absl::StatusOr<std::vector<LossRow>> ReadLosses(const WorkFolder& work) {
  std::vector<LossRow> rows;
  if (!work.Has(kLosses)) return rows;
  ASSIGN_OR_RETURN(const std::string text, ReadInput(work.File(kLosses), kLossesBytesMax));
  for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (json.is_object()) rows.push_back(FromJson(json));  // a kill may have cut the last one
  }
  return rows;
}

absl::Status SaveTuneState(const WorkFolder& work, const nlohmann::json& inputs,
                           const TuneState& state, Optimizers optimizers) {
  const at::NoGradGuard no_grad;
  std::string lines;
  for (const LossRow& row : state.losses) absl::StrAppend(&lines, ToJson(row).dump(), "\n");
  RETURN_IF_ERROR(WriteOutput(work.Draft(kLosses), lines));
  RETURN_IF_ERROR(work.Publish(kLosses));
  const nlohmann::json record = {{"inputs", inputs}, {"step", state.step}};
  return WriteTensors(work, kFile, StateTensors(optimizers), {{kMetadataKey, record.dump()}});
}

absl::StatusOr<bool> LoadTuneState(const WorkFolder& work, const nlohmann::json& inputs,
                                   TuneState& state, Optimizers optimizers) {
  if (!work.Has(kFile)) return false;
  const at::NoGradGuard no_grad;
  ASSIGN_OR_RETURN(const auto file, SafetensorsFile::Open(work.File(kFile)));
  const auto text = file->metadata().find(kMetadataKey);
  if (text == file->metadata().end()) {
    return absl::InvalidArgumentError(absl::StrCat(file->path(), ": is no state of a run"));
  }
  ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(text->second, file->path()));
  ASSIGN_OR_RETURN(const JsonObject record, JsonObject::From(json, file->path()));
  ASSIGN_OR_RETURN(const JsonObject was, record.Object("inputs"));
  RETURN_IF_ERROR(CheckInputs(file->path(), was.json(), inputs));
  ASSIGN_OR_RETURN(state.step, record.Int("step", 0, INT64_MAX));
  ASSIGN_OR_RETURN(state.losses, ReadLosses(work));
  std::erase_if(state.losses, [&](const LossRow& row) { return row.step > state.step; });
  for (const auto& [name, tensor] : StateTensors(optimizers)) {
    RETURN_IF_ERROR(ReadInto(*file, name, tensor));
  }
  for (Optimizer* const optimizer : optimizers) optimizer->SetSteps(state.step);
  return true;
}

absl::Status SaveLayerRouters(const WorkFolder& work, const std::vector<at::Tensor>& routers) {
  NamedTensors tensors;
  for (size_t l = 0; l < routers.size(); ++l) tensors[LayerRouterName(l)] = routers[l];
  return WriteTensors(work, kLayerRouters, tensors, {});
}

absl::StatusOr<std::vector<at::Tensor>> LoadLayerRouters(const WorkFolder& work,
                                                         const ModelSpec& dense, int num_experts,
                                                         at::Device device) {
  ASSIGN_OR_RETURN(const auto file, SafetensorsFile::Open(work.File(kLayerRouters)));
  std::vector<at::Tensor> routers;
  for (int l = 0; l < dense.num_layers; ++l) {
    at::Tensor router = at::empty({num_experts, dense.hidden}, at::kFloat);
    RETURN_IF_ERROR(ReadInto(*file, LayerRouterName(l), router));
    routers.push_back(router.to(device));
  }
  return routers;
}

}  // namespace pregate
