#include "common/model/formats/manifest.h"

#include "common/base/json.h"
#include "common/base/limits.h"
#include "common/base/mapped_file.h"
#include "common/base/sha256.h"
#include "common/base/status.h"
#include "common/base/xxh3.h"

namespace pregate {

absl::StatusOr<std::map<std::string, TensorHash>> ReadManifest(const std::string& dir) {
  const std::string path = absl::StrCat(dir, "/", kManifestFile);
  ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path, kIndexBytesMax));
  ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(text, path));
  ASSIGN_OR_RETURN(const JsonObject manifest, JsonObject::From(json, path));
  ASSIGN_OR_RETURN(const JsonObject tensors, manifest.Object("tensors"));
  std::map<std::string, TensorHash> hashes;
  for (const auto& item : tensors.json().items()) {
    ASSIGN_OR_RETURN(const JsonObject entry, tensors.Object(item.key()));
    TensorHash& hash = hashes[item.key()];
    ASSIGN_OR_RETURN(hash.stored_type, entry.String("type"));
    ASSIGN_OR_RETURN(hash.shape, entry.Ints("shape", 0, INT64_MAX, kTensorRankMax));
    ASSIGN_OR_RETURN(hash.sha256, entry.String("sha256"));
    ASSIGN_OR_RETURN(hash.xxh3, entry.String("xxh3", ""));
  }
  return hashes;
}

absl::Status CheckContent(const StoredTensor& stored, const TensorHash& recorded) {
  const bool fast = !recorded.xxh3.empty();
  const std::string& expected = fast ? recorded.xxh3 : recorded.sha256;
  const std::string found = fast ? Xxh3Hex(stored.bytes) : Sha256Hex(stored.bytes);
  if (found == expected) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(stored.Where(), ": content differs from ", kManifestFile,
                                          ": ", fast ? "XXH3 " : "SHA-256 ", found, ", recorded ",
                                          expected.substr(0, 64)));
}

std::string WriteManifest(const std::map<std::string, TensorHash>& hashes,
                          const std::string& digest) {
  nlohmann::ordered_json tensors = nlohmann::ordered_json::object();
  for (const auto& [name, hash] : hashes) {
    tensors[name] = {{"type", hash.stored_type},
                     {"shape", hash.shape},
                     {"sha256", hash.sha256},
                     {"xxh3", hash.xxh3}};
  }
  const nlohmann::ordered_json out = {{"digest", digest}, {"tensors", std::move(tensors)}};
  return out.dump(1) + "\n";
}

}  // namespace pregate
