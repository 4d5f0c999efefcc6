#include "common/model/safetensors_set.h"

#include <filesystem>
#include <set>

#include "common/base/status.h"
#include "common/model/json.h"
#include "common/model/limits.h"

namespace pregate {
namespace {

using WeightMap = std::map<std::string, std::string>;  // tensor to file name

absl::StatusOr<WeightMap> ReadIndex(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path, kIndexBytesMax));
  ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(text, path));
  ASSIGN_OR_RETURN(const JsonObject index, JsonObject::From(json, path));
  ASSIGN_OR_RETURN(const JsonObject weight_map, index.Object("weight_map"));
  WeightMap out;
  for (const auto& item : weight_map.json().items()) {
    ASSIGN_OR_RETURN(const std::string file, weight_map.String(item.key()));
    if (file.empty() || file.find('/') != std::string::npos || file[0] == '.') {
      return absl::InvalidArgumentError(absl::StrCat(path, ": tensor ", item.key(), " is in \"",
                                                     file.substr(0, 64),
                                                     "\", which is no plain file name"));
    }
    out[item.key()] = file;
  }
  return out;
}

absl::Status AddFile(const std::string& path, SafetensorsSet* set) {
  ASSIGN_OR_RETURN(auto file, SafetensorsFile::Open(path));
  for (const auto& [name, tensor] : file->tensors()) {
    const auto [it, inserted] = set->tensors.emplace(name, tensor);
    if (!inserted) {
      return absl::InvalidArgumentError(
          absl::StrCat(tensor.Where(), ": also in ", it->second.file));
    }
  }
  set->files.push_back(std::move(file));
  return absl::OkStatus();
}

absl::StatusOr<SafetensorsSet> OpenShards(const std::string& dir, const std::string& index_path) {
  ASSIGN_OR_RETURN(const WeightMap weight_map, ReadIndex(index_path));
  std::set<std::string> names;
  for (const auto& [tensor, file] : weight_map) names.insert(file);
  if (names.size() > static_cast<size_t>(kShardsMax)) {
    return absl::InvalidArgumentError(absl::StrCat(index_path, ": ", names.size(),
                                                   " shards, more than the limit of ", kShardsMax));
  }
  SafetensorsSet set;
  for (const std::string& name : names) RETURN_IF_ERROR(AddFile(dir + "/" + name, &set));
  for (const auto& [tensor, file] : weight_map) {
    const StoredTensor* found = set.Find(tensor);
    if (found == nullptr || found->file != dir + "/" + file) {
      return absl::InvalidArgumentError(
          absl::StrCat(index_path, ": tensor ", tensor, " is not in ", file));
    }
  }
  return set;
}

}  // namespace

const StoredTensor* SafetensorsSet::Find(const std::string& name) const {
  const auto it = tensors.find(name);
  return it == tensors.end() ? nullptr : &it->second;
}

absl::StatusOr<SafetensorsSet> OpenSafetensorsDirectory(const std::string& dir) {
  std::error_code error;
  const std::string single = dir + "/model.safetensors";
  const std::string index = dir + "/model.safetensors.index.json";
  if (std::filesystem::exists(index, error)) return OpenShards(dir, index);
  if (!std::filesystem::exists(single, error)) {
    return absl::NotFoundError(
        absl::StrCat(dir,
                     ": neither model.safetensors nor model.safetensors.index.json "
                     "(pickled .bin files are not read)"));
  }
  SafetensorsSet set;
  RETURN_IF_ERROR(AddFile(single, &set));
  return set;
}

}  // namespace pregate
