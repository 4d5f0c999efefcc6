#include "common/model/formats/safetensors_set.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "absl/strings/escaping.h"
#include "common/base/json.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/model/formats/shard_files.h"

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
    ASSIGN_OR_RETURN(out[item.key()], weight_map.String(item.key()));
  }
  return out;
}

absl::Status CheckShardNames(const WeightMap& weight_map, const std::string& index_path) {
  for (const auto& [tensor, file] : weight_map) {
    const bool plain =
        !file.empty() && file[0] != '.' &&
        std::all_of(file.begin(), file.end(), [](unsigned char c) { return c >= ' ' && c != '/'; });
    if (plain) continue;
    return absl::InvalidArgumentError(absl::StrCat(index_path, ": tensor ", tensor, " is in \"",
                                                   absl::CEscape(file.substr(0, 64)),
                                                   "\", which is no plain file name"));
  }
  return absl::OkStatus();
}

// The index decides: a copy of a tensor in another shard, and what a shard holds beside the listed
// tensors, do not count.
absl::StatusOr<SafetensorsSet> OpenShards(const std::string& dir, const std::string& index_path) {
  ASSIGN_OR_RETURN(const WeightMap weight_map, ReadIndex(index_path));
  RETURN_IF_ERROR(CheckShardNames(weight_map, index_path));
  std::set<std::string> shards;
  for (const auto& [tensor, file] : weight_map) shards.insert(file);
  if (shards.size() > static_cast<size_t>(kShardsMax)) {
    return absl::InvalidArgumentError(absl::StrCat(index_path, ": ", shards.size(),
                                                   " shards, more than the limit of ", kShardsMax));
  }
  RETURN_IF_ERROR(CheckShardsExist(dir, shards, index_path));
  std::map<std::string, std::shared_ptr<const SafetensorsFile>> opened;
  SafetensorsSet set;
  for (const std::string& shard : shards) {
    ASSIGN_OR_RETURN(opened[shard], SafetensorsFile::Open(dir + "/" + shard));
    set.files.push_back(opened[shard]);
  }
  for (const auto& [tensor, shard] : weight_map) {
    const auto& tensors = opened[shard]->tensors();
    const auto it = tensors.find(tensor);
    if (it == tensors.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat(index_path, ": tensor ", tensor, " is not in ", shard));
    }
    set.tensors.emplace(tensor, it->second);
  }
  return set;
}

absl::StatusOr<SafetensorsSet> OpenSingle(const std::string& path) {
  ASSIGN_OR_RETURN(auto file, SafetensorsFile::Open(path));
  SafetensorsSet set{.tensors = file->tensors()};
  set.files.push_back(std::move(file));
  return set;
}

// Says what is there instead of model.safetensors.
absl::Status NoWeights(const std::string& dir) {
  std::set<std::string> others;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(dir, error)) {
    if (entry.path().extension() == ".safetensors") others.insert(entry.path().filename().string());
  }
  std::string hint = "pickled .bin files are not read";
  if (!others.empty()) {
    hint = absl::StrCat(*others.begin(), others.size() > 1 ? " and others are" : " is",
                        " there, but only an index says which of them count");
  }
  return absl::NotFoundError(absl::StrCat(
      dir, ": neither model.safetensors nor model.safetensors.index.json (", hint, ")"));
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
  if (std::filesystem::exists(single, error)) return OpenSingle(single);
  return NoWeights(dir);
}

}  // namespace pregate
