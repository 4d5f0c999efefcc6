// manifest.json of our own format: the content hash of every tensor, written at export. Start reads
// it instead of the weights; `inspect --verify` compares the two.
#pragma once

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "common/model/digest.h"

namespace pregate {

inline constexpr const char* kManifestFile = "manifest.json";

// By canonical tensor name.
absl::StatusOr<std::map<std::string, TensorHash>> ReadManifest(const std::string& dir);
std::string WriteManifest(const std::map<std::string, TensorHash>& hashes,
                          const std::string& digest);

}  // namespace pregate
