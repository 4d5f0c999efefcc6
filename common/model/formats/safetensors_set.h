// The safetensors files of one directory: the shards that `model.safetensors.index.json` names, or,
// without an index, `model.safetensors`.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model/formats/safetensors.h"

namespace pregate {

struct SafetensorsSet {
  std::vector<std::shared_ptr<const SafetensorsFile>> files;  // keep the tensors' bytes mapped
  std::map<std::string, StoredTensor, std::less<>> tensors;

  const StoredTensor* Find(const std::string& name) const;  // null when absent
};

// Each tensor of an index is read from the file that it names; no other copy and no other tensor of
// a shard counts. Shard names with a path in them, missing shards (by name), and a tensor that is
// not where the index says it is, are refused.
absl::StatusOr<SafetensorsSet> OpenSafetensorsDirectory(const std::string& dir);

}  // namespace pregate
