// The identity of a model (docs/CONTRACTS.md, "Digests"): SHA-256 over the fields of the spec that
// decide its function and over every tensor's name, type, shape and content hash.
#pragma once

#include <map>
#include <string>

#include "common/model/formats/tensor_view.h"
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

// Hashes of all stored bytes, on several threads.
std::map<std::string, TensorHash> HashViews(
    const std::map<std::string, TensorView, std::less<>>& views);

}  // namespace pregate
