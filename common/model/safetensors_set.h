// The safetensors files of one directory: `model.safetensors`, or the shards that
// `model.safetensors.index.json` names.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model/safetensors.h"

namespace pregate {

struct SafetensorsSet {
  std::vector<std::shared_ptr<const SafetensorsFile>> files;  // keep the tensors' bytes mapped
  std::map<std::string, StoredTensor, std::less<>> tensors;

  const StoredTensor* Find(const std::string& name) const;  // null when absent
};

// Shard names with a path in them, a tensor in two shards, or one that is not where the index says
// it is, are refused.
absl::StatusOr<SafetensorsSet> OpenSafetensorsDirectory(const std::string& dir);

}  // namespace pregate
