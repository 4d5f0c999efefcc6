// GGUF files as checkpoints.
//
//   theirs                          ours
//   token_embd, output_norm         model.embed_tokens, model.norm
//   output (absent: tied)           lm_head
//   blk.{l}.attn_{q,k,v,output}     self_attn.{q,k,v,o}_proj; attn_qkv: rows of q, k, v
//   blk.{l}.attn_{q,k}_norm         self_attn.{q,k}_norm
//   blk.{l}.ffn_{gate,up,down}      mlp.{gate,up,down}_proj; Phi-3's ffn_up: rows of gate and up
//   blk.{l}.{attn,ffn}_norm         {input,post_attention}_layernorm
//   rope_freqs, rope_factors_*      RopeScaling::factors, long_factors
//
// Rows of attn_q and attn_k are stored permuted, for interleaved RoPE, where the architecture says
// so.
#include <map>
#include <set>

#include "absl/strings/match.h"
#include "common/base/status.h"
#include "common/model/formats/architectures.h"
#include "common/model/formats/checkpoint_parts.h"
#include "common/model/formats/gguf.h"
#include "common/model/formats/gguf_spec.h"
#include "common/model/formats/gguf_tokenizer.h"
#include "common/model/formats/stored_rows.h"

namespace pregate {
namespace {

// Half-split row (head, half, i) is stored at (head, i, half).
std::vector<int32_t> HalfSplitRows(int num_heads, int head_dim) {
  std::vector<int32_t> rows;
  for (int head = 0; head < num_heads; ++head) {
    for (int half = 0; half < 2; ++half) {
      for (int i = 0; i < head_dim / 2; ++i) rows.push_back(head * head_dim + 2 * i + half);
    }
  }
  return rows;
}

// By our names below model.layers.{l}., or beside the layers, without .weight or .bias.
std::string TheirName(const std::string& ours, int layer) {
  static const std::map<std::string, std::string, std::less<>> kNames = {
      {"model.embed_tokens", "token_embd"},
      {"model.norm", "output_norm"},
      {"lm_head", "output"},
      {"input_layernorm", "attn_norm"},
      {"self_attn.q_proj", "attn_q"},
      {"self_attn.k_proj", "attn_k"},
      {"self_attn.v_proj", "attn_v"},
      {"self_attn.qkv_proj", "attn_qkv"},
      {"self_attn.o_proj", "attn_output"},
      {"self_attn.q_norm", "attn_q_norm"},
      {"self_attn.k_norm", "attn_k_norm"},
      {"post_attention_layernorm", "ffn_norm"},
      {"mlp.gate_proj", "ffn_gate"},
      {"mlp.up_proj", "ffn_up"},
      {"mlp.gate_up_proj", "ffn_up"},
      {"mlp.down_proj", "ffn_down"}};
  const std::string prefix = layer < 0 ? "" : absl::StrCat("model.layers.", layer, ".");
  const size_t suffix = ours.rfind('.');
  const std::string& theirs = kNames.at(ours.substr(prefix.size(), suffix - prefix.size()));
  return absl::StrCat(layer < 0 ? "" : absl::StrCat("blk.", layer, "."), theirs,
                      ours.substr(suffix));
}

// The spec has RoPE's factors, and nothing reads the tables of angles that some converters keep.
bool IsIgnorable(const std::string& name) {
  for (const char* read :
       {"rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"}) {
    if (name == read) return true;
  }
  return absl::EndsWith(name, ".attn_rot_embd.weight");
}

// The view's rows of a matrix or vector of q or k, half-split.
void UndoInterleaving(const CanonicalTensor& tensor, const ModelSpec& spec, TensorView* view) {
  const bool q = absl::StrContains(tensor.name, ".q_proj."),
             k = absl::StrContains(tensor.name, ".k_proj.");
  if (q || k) view->rows = HalfSplitRows(q ? spec.num_heads : spec.num_kv_heads, spec.head_dim);
}

absl::Status MapTensors(const GgufFile& file, const Architecture& architecture,
                        const ModelSpec& spec, TensorViews* views) {
  std::set<std::string> used;
  for (const CanonicalTensor& tensor : CanonicalTensors(spec)) {
    const StoredRows stored_rows = SourceOf(tensor, spec, architecture.fused);
    const std::string name = TheirName(stored_rows.name, tensor.layer);
    const auto it = file.tensors().find(name);
    if (it == file.tensors().end()) {
      return absl::NotFoundError(absl::StrCat(file.path(), ": missing tensor ", name));
    }
    ASSIGN_OR_RETURN(TensorView view, stored_rows.View(it->second));
    if (architecture.gguf_interleaved) UndoInterleaving(tensor, spec, &view);
    (*views)[tensor.name] = std::move(view);
    used.insert(name);
  }
  for (const auto& [name, tensor] : file.tensors()) {
    if (used.contains(name) || IsIgnorable(name)) continue;
    return absl::UnimplementedError(absl::StrCat(tensor.Where(), ": unexpected; a dense ",
                                                 spec.architecture,
                                                 " of these fields has no such tensor"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CheckpointParts> ReadGguf(const std::string& path) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const GgufFile> file, GgufFile::OpenModel(path));
  ASSIGN_OR_RETURN(const std::string architecture, file->String("general.architecture"));
  const Architecture* known = FindGgufArchitecture(architecture);
  if (known == nullptr) return file->Unsupported("general.architecture");
  CheckpointParts parts;
  parts.layout = "gguf";
  ASSIGN_OR_RETURN(parts.spec, ReadGgufSpec(*file, *known));
  RETURN_IF_ERROR(ValidateSpec(parts.spec));
  RETURN_IF_ERROR(MapTensors(*file, *known, parts.spec, &parts.views));
  parts.files.push_back(file);
  parts.load_tokenizer = [file] { return LoadGgufTokenizer(*file); };
  return parts;
}

}  // namespace pregate
