// manifest.json of our own format: SHA-256 and XXH3 of every tensor, written at export. The first
// make the model's digest, and `inspect --verify` compares them; the second are compared whenever a
// tensor is read.
#pragma once

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "common/model/formats/digest.h"

namespace pregate {

inline constexpr const char* kManifestFile = "manifest.json";

// By canonical tensor name.
absl::StatusOr<std::map<std::string, TensorHash>> ReadManifest(const std::string& dir);
// DataLoss, naming file and tensor, where the stored bytes are not those that were recorded: by
// XXH3, or by SHA-256 where an older export recorded no other.
absl::Status CheckContent(const StoredTensor& stored, const TensorHash& recorded);
std::string WriteManifest(const std::map<std::string, TensorHash>& hashes,
                          const std::string& digest);

}  // namespace pregate
