// A model on disk, whatever its layout, seen through one set of canonical tensor names (DESIGN 7):
//   model.embed_tokens.weight [vocab, hidden] · model.norm.weight [hidden] · lm_head.weight [vocab, hidden] (untied)
//   model.layers.{l}.{input,post_attention}_layernorm.weight [hidden]
//   model.layers.{l}.self_attn.{q,k,v,o}_proj.weight [out, in], rows in half-split RoPE order
//   dense: model.layers.{l}.mlp.{gate,up}_proj.weight [intermediate, hidden], .down_proj.weight [hidden, intermediate]
//   MoE:   model.layers.{l}.mlp.shared.{gate,up,down}_proj.weight, model.layers.{l}.mlp.experts.{e}.{gate,up,down}_proj.weight
//   router.embed.weight [vocab, width] · router.layers.{l}.{q,k,v,o}_proj.{weight,bias} · router.layers.{l}.proj_{1,2}.{weight,bias}
//   router.layers.{l}.{input,post_attention}_layernorm.weight · router.norm.weight · router.proj_out.{weight,bias} [experts, width]
// Files are hostile: every offset, length, shape and count is checked before use or allocation, and
// errors name file, tensor and byte offset.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/model/spec.h"

namespace pregate {

class Tokenizer;

struct TensorInfo {
  std::string name;            // canonical
  std::vector<int64_t> shape;  // rows first
  std::string stored_type;     // as in the file: "F32", "BF16", "Q4_1", ...
  size_t stored_bytes = 0;
};

// Immutable after Open; thread-safe.
class Checkpoint {
 public:
  virtual ~Checkpoint() = default;

  // `path`: a pregate or HF directory, the authors' layout, or a GGUF file. All tensors that the
  // spec needs are present with the right shapes when this returns OK.
  static absl::StatusOr<std::unique_ptr<Checkpoint>> Open(const std::string& path);

  const ModelSpec& spec() const { return spec_; }
  const std::string& path() const { return path_; }
  // SHA-256 of config and per-tensor hashes: read from the manifest of a pregate directory, and for
  // other sources over config, tensor table and file sizes (cheap; says so in `digest_is_manifest`).
  const std::string& digest() const { return digest_; }

  virtual std::vector<TensorInfo> Tensors() const = 0;
  virtual bool Has(const std::string& name) const = 0;
  // Dequantised, canonical order. REQUIRES: out.size() == product of the tensor's shape.
  virtual absl::Status Read(const std::string& name, absl::Span<float> out) const = 0;
  // The tokenizer beside the weights (tokenizer.json, or GGUF metadata); NotFound when there is none.
  virtual absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer() const = 0;

 protected:
  ModelSpec spec_;
  std::string path_;
  std::string digest_;
};

}  // namespace pregate
