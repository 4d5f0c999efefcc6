// An artifact holds what a refactored model has beyond its dense parent: which neurons are shared,
// which are each expert's own, the router, and what tuning added to the weights. A safetensors file:
//
//   layers.{l}.shared         I32 [shared_l]    neurons of the dense FFN
//   layers.{l}.own.{e}        I32 [own_l]       likewise, disjoint from shared
//   layers.{l}.shared_scale   F32 [shared_l]    optional: factors of the down projection's columns
//   layers.{l}.own_scale.{e}  F32 [own_l]       optional, for all experts of a layer or none
//   router.*                  F32, F16 or BF16  canonical names (common/model/formats/checkpoint.h)
//   router.embed_columns      I32 [hidden]      columns of the model's embedding, which stand for
//                                               router.embed.weight when embed = model_columns
// and for each dense tensor NAME that was tuned (weight_delta.h; embeddings that the router's are
// cut from are taken as they were before) one of
//   delta.NAME.exact          F32 [n]           of a vector
//   delta.NAME.codes          I8 [rows, bytes]  of a matrix: packed codes (CodedMatrix), with
//   delta.NAME.scale          BF16 [rows]       of a code's step, and
//   delta.NAME.form           I32 [2]           columns, bits of a code (1 to 8)
//
// __metadata__["pregate_artifact"] is a JSON object: version (2 with deltas, else 1), num_experts, experts (names), keep,
// source, source_digest, method, data, commit, seed, and router (RouterSpec's fields, embed =
// model_columns | own, embed_scale).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model/spec/spec.h"
#include "refactor/weight_delta.h"

namespace pregate {

struct ArtifactLayer {
  std::vector<int32_t> shared;
  std::vector<std::vector<int32_t>> own;      // [experts]
  std::vector<float> shared_scale;            // as shared, or empty: all 1
  std::vector<std::vector<float>> own_scale;  // as own, or empty
};

struct ArtifactTensor {
  std::vector<int64_t> shape;
  std::vector<float> values;
};

struct Artifact {
  std::vector<std::string> experts;  // a name each, for people
  double keep = 1;                   // part of the neurons that an expert runs
  int64_t seed = 0;
  Provenance provenance;  // source_digest: of the dense model whose neurons are counted
  std::vector<ArtifactLayer> layers;

  RouterSpec router;
  std::vector<int32_t> embed_columns;  // empty: router.embed.weight is among the tensors
  float embed_scale = 1;               // of the model's columns
  std::map<std::string, ArtifactTensor> router_tensors;  // by canonical name
  WeightDeltas deltas;                                   // of the dense tensors that were tuned

  int num_experts() const { return static_cast<int>(experts.size()); }
};

// The spec of the refactored model. InvalidArgument names the first thing in the artifact that does
// not fit `dense`: layers, widths, neurons out of range, repeated or both shared and own, scales,
// router tensors missing, of another shape or unknown, deltas likewise. Says nothing of the digest.
absl::StatusOr<ModelSpec> RefactoredSpec(const ModelSpec& dense, const Artifact& artifact);

// Structure and bounds of the file; whether it fits a model is RefactoredSpec's.
absl::StatusOr<Artifact> ReadArtifact(const std::string& path);

// Atomic. Router matrices are stored in `router_dtype`, vectors in f32.
absl::Status WriteArtifact(const Artifact& artifact, DType router_dtype, const std::string& path);

}  // namespace pregate
