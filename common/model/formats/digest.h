// The identity of a model (docs/CONTRACTS.md, "Digests"): SHA-256 over the fields of the spec that
// decide its function and over every tensor's name, type, shape and content hash.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/base/hash.h"
#include "common/model/formats/stored_tensor.h"
#include "common/model/spec/spec.h"

namespace pregate {

struct TensorHash {
  std::string stored_type;
  std::vector<int64_t> shape;
  std::string sha256;  // of the stored bytes
  std::string xxh3;    // likewise; empty in manifests of older exports
};

// By canonical name. Changing what goes in here changes every digest ever written.
std::string ModelDigest(const ModelSpec& spec, const std::map<std::string, TensorHash>& hashes);

// Hashes of all stored bytes, each read once, on several threads. A digest needs no XXH3.
std::map<std::string, TensorHash> HashViews(
    const std::map<std::string, TensorView, std::less<>>& views, bool with_xxh3);

// manifest.json of our own format: SHA-256 and XXH3 of every tensor, written at export. The first
// make the model's digest, and `inspect --verify` compares them; the second are compared whenever a
// tensor is read.

inline constexpr const char* kManifestFile = "manifest.json";

// By canonical tensor name.
absl::StatusOr<std::map<std::string, TensorHash>> ReadManifest(const std::string& dir);
// DataLoss, naming file and tensor, where the stored bytes are not those that were recorded: by
// XXH3, or by SHA-256 where an older export recorded no other.
absl::Status CheckContent(const StoredTensor& stored, const TensorHash& recorded);

// CheckContent of bytes that come in pieces, in order. Borrows `recorded`.
class ContentCheck {
 public:
  explicit ContentCheck(const TensorHash* recorded);
  void Update(std::string_view bytes);
  absl::Status Finish(const StoredTensor& stored);

 private:
  const TensorHash& recorded_;
  std::optional<Xxh3> xxh3_;
  std::optional<Sha256> sha256_;  // where there is no XXH3
};

std::string WriteManifest(const std::map<std::string, TensorHash>& hashes,
                          const std::string& digest);

}  // namespace pregate
