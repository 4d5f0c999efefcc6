// A model on disk, whatever its layout, seen through one set of canonical tensor names
// (docs/CONTRACTS.md, "Checkpoint").
// Below model.layers.{l}. with q, kv = heads and kv heads x head_dim, f = intermediate:
//   {input,post_attention}_layernorm.weight     [hidden]
//   self_attn.q_proj.weight                     [q, hidden], rows in half-split RoPE order
//   self_attn.{k,v}_proj.weight                 [kv, hidden], k likewise
//   self_attn.o_proj.weight                     [hidden, q]
//   self_attn.{q,k,v,o}_proj.bias               [q], [kv], [kv], [hidden]; where the spec says so
//   self_attn.{q,k}_norm.weight                 [head_dim]; where the spec says so
//   mlp.{gate,up}_proj.weight                   [f, hidden]; dense only
//   mlp.down_proj.weight                        [hidden, f]; dense only
//   mlp.shared.*, mlp.experts.{e}.*             the same three, f being shared_width[l] and
//                                               own_width[l]; absent where that is 0
// Beside the layers:
//   model.embed_tokens.weight                   [vocab, hidden]
//   model.norm.weight                           [hidden]
//   lm_head.weight                              [vocab, hidden]; absent where tied
// Of the router, with its own hidden and intermediate:
//   router.embed.weight                         [vocab, hidden]
//   router.norm.weight                          [hidden]
//   router.proj_out.{weight,bias}               [experts, hidden], [experts]
//   router.layers.{l}.{input,post_attention}_layernorm.weight  [hidden]
//   router.layers.{l}.{q,k,v,o}_proj.{weight,bias}             [hidden, hidden], [hidden]
//   router.layers.{l}.proj_1.{weight,bias}      [intermediate, hidden], [intermediate]
//   router.layers.{l}.proj_2.{weight,bias}      [hidden, intermediate], [hidden]
// Files are hostile: every offset, length, shape and count is checked before use or allocation, and
// errors name file, tensor and byte offset.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/model/spec/spec.h"
#include "common/model/spec/weight_rows.h"

namespace pregate {

class Tokenizer;
struct ForeignLayout;

struct TensorInfo {
  std::string name;            // canonical
  std::vector<int64_t> shape;  // rows first
  std::string stored_type;     // as in the file: "F32", "BF16", "Q4_1", ...
  size_t stored_bytes = 0;
};

// What reading a checkpoint has cost so far.
struct ReadCost {
  int64_t bytes = 0;  // as stored, of the tensors that were read; twice what was read twice
  // Hashing, summed over the threads that read: for the digest where there is no manifest, then of
  // each tensor before its first use. It touches the bytes first, so it pays for fetching them too.
  absl::Duration checking;
};

// A matrix to be read a few rows at a time.
struct MatrixRead {
  std::string name;
  int64_t rows = 0, width = 0;  // its shape
  DType dtype = DType::kF32;    // of its use, as ReadAs's
  int64_t piece_rows = 1;       // of one visit; the last may have fewer
};
// Rows first, first + 1, ...: in f32, or as the file has them where that is bf16 and the read's dtype
// too. They are gone when it returns; false: no more are wanted.
using VisitRows = absl::FunctionRef<bool(int64_t first, const WeightRows& rows)>;

// Immutable after Open but for what it counts; thread-safe.
class Checkpoint {
 public:
  virtual ~Checkpoint() = default;

  // `path`: a pregate or HF directory, or a GGUF file (of a split model the first); or a directory
  // of the `foreign` layout (checkpoint_parts.h), which an importer brings along. All tensors that
  // the spec needs are present with the right shapes when this returns OK.
  static absl::StatusOr<std::unique_ptr<Checkpoint>> Open(const std::string& path,
                                                          const ForeignLayout* foreign = nullptr);

  const ModelSpec& spec() const { return spec_; }
  const std::string& path() const { return path_; }
  // "pregate", "hf" or "gguf", or a foreign layout's name.
  const std::string& layout() const { return layout_; }
  // The model digest (digest.h): of the manifest of a pregate directory, which what Read gives is
  // compared with; for other sources computed from all of the contents.
  const std::string& digest() const { return digest_; }

  virtual std::vector<TensorInfo> Tensors() const = 0;
  virtual bool Has(const std::string& name) const = 0;
  // Dequantised, canonical order. DataLoss where a tensor is not what the manifest records,
  // compared once. REQUIRES: out.size() == product of the tensor's shape.
  virtual absl::Status Read(const std::string& name, absl::Span<float> out) const = 0;
  // Read, for a use in `dtype`: InvalidArgument where a finite value would become an infinity.
  absl::Status ReadAs(DType dtype, const std::string& name, absl::Span<float> out) const;
  // What ReadAs gives, in order, of which no more than a piece is decoded at a time; what is stored
  // in the read's dtype is not decoded at all. An error may come after visits; ABORTED where `visit`
  // wanted no more. REQUIRES: rows and width are the tensor's.
  virtual absl::Status ReadRows(const MatrixRead& read, VisitRows visit) const;
  // Nothing where nothing is counted.
  virtual ReadCost read_cost() const { return {}; }
  // The tokenizer beside the weights (tokenizer.model, tokenizer.json, or GGUF metadata), its stop
  // tokens joined by the spec's; NotFound when there is none.
  virtual absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer() const = 0;

 protected:
  ModelSpec spec_;
  std::string path_;
  std::string layout_;
  std::string digest_;

  // ReadAs's check of a tensor's values from element `first` on.
  absl::Status CheckRange(DType dtype, const std::string& name, absl::Span<const int64_t> shape,
                          absl::Span<const float> values, int64_t first) const;
};

}  // namespace pregate
