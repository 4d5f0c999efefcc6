// GGUF files of the llama architecture as checkpoints.
//
//   theirs                          ours
//   token_embd, output_norm         model.embed_tokens, model.norm
//   output (absent: tied)           lm_head
//   blk.{l}.attn_{q,k,v,output}     self_attn.{q,k,v,o}_proj
//   blk.{l}.ffn_{gate,up,down}      mlp.{gate,up,down}_proj
//   blk.{l}.{attn,ffn}_norm         {input,post_attention}_layernorm
//   rope_freqs                      RopeScaling::factors
//
// Rows of attn_q and attn_k are stored permuted, for interleaved RoPE.
#include <map>
#include <set>

#include "absl/strings/match.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/model/formats/checkpoint_parts.h"
#include "common/model/formats/gguf.h"
#include "common/model/formats/gguf_tokenizer.h"
#include "common/model/formats/model_fields.h"

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

absl::Status ReadHeads(const GgufFile& file, ModelSpec* spec) {
  ASSIGN_OR_RETURN(spec->num_heads, file.UniformInt("llama.attention.head_count", 1, kHeadsMax));
  ASSIGN_OR_RETURN(spec->num_kv_heads,
                   file.UniformInt("llama.attention.head_count_kv", 1, kHeadsMax, spec->num_heads));
  ASSIGN_OR_RETURN(spec->head_dim, file.Int("llama.attention.key_length", 1, kHeadDimMax,
                                            spec->hidden / spec->num_heads));
  ASSIGN_OR_RETURN(const int64_t value_length,
                   file.Int("llama.attention.value_length", 1, kHeadDimMax, spec->head_dim));
  if (value_length == spec->head_dim) return absl::OkStatus();
  return absl::UnimplementedError(
      absl::StrCat(file.path(), ": llama.attention.value_length = ", value_length,
                   " other than the key's ", spec->head_dim, " is not supported"));
}

absl::Status ReadShape(const GgufFile& file, ModelSpec* spec) {
  ASSIGN_OR_RETURN(spec->hidden, file.Int("llama.embedding_length", 1, kHiddenMax));
  ASSIGN_OR_RETURN(spec->intermediate,
                   file.UniformInt("llama.feed_forward_length", 1, kFfnWidthMax));
  ASSIGN_OR_RETURN(spec->num_layers, file.Int("llama.block_count", 1, kLayersMax));
  RETURN_IF_ERROR(ReadHeads(file, spec));
  ASSIGN_OR_RETURN(spec->max_position, file.Int("llama.context_length", 1, kPositionMax));
  ASSIGN_OR_RETURN(spec->rms_eps, file.Float("llama.attention.layer_norm_rms_epsilon"));
  ASSIGN_OR_RETURN(const int64_t window,
                   file.UniformInt("llama.attention.sliding_window", 0, UINT32_MAX, 0));
  if (window != 0 && window < spec->max_position) {
    return file.Unsupported("llama.attention.sliding_window");
  }
  const auto it = file.tensors().find("token_embd.weight");
  if (it == file.tensors().end() || it->second.shape.size() != 2 ||
      it->second.shape[0] > kVocabSizeMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(file.path(), ": tensor token_embd.weight is missing or no matrix of at most ",
                     kVocabSizeMax, " rows"));
  }
  spec->vocab_size = static_cast<int>(it->second.shape[0]);
  spec->tie_embeddings = !file.tensors().contains("output.weight");
  return absl::OkStatus();
}

// "linear" is llama.cpp's meaning of a missing type, and its factor 0 or 1 is none.
absl::Status CheckRopeScaling(const GgufFile& file) {
  constexpr const char* kType = "llama.rope.scaling.type";
  ASSIGN_OR_RETURN(const std::string type, file.String(kType, "linear"));
  if (type == "none") return absl::OkStatus();
  if (type != "linear") return file.Unsupported(kType);
  for (const char* key : {"llama.rope.scaling.factor", "llama.rope.scale_linear"}) {
    ASSIGN_OR_RETURN(const double factor, file.Float(key, 1));
    if (factor != 0 && factor != 1) return file.Unsupported(key);
  }
  return absl::OkStatus();
}

absl::Status ReadRope(const GgufFile& file, ModelSpec* spec) {
  ASSIGN_OR_RETURN(spec->rope_theta, file.Float("llama.rope.freq_base", 10000));
  ASSIGN_OR_RETURN(const int64_t dims,
                   file.Int("llama.rope.dimension_count", 1, kHeadDimMax, spec->head_dim));
  if (dims != spec->head_dim) {
    return absl::UnimplementedError(
        absl::StrCat(file.path(), ": llama.rope.dimension_count = ", dims,
                     " other than the head's ", spec->head_dim, " is not supported"));
  }
  RETURN_IF_ERROR(CheckRopeScaling(file));
  const auto it = file.tensors().find("rope_freqs.weight");
  if (it == file.tensors().end()) return absl::OkStatus();
  if (it->second.shape != std::vector<int64_t>{spec->head_dim / 2} ||
      it->second.type != StoredType::kF32) {
    return absl::InvalidArgumentError(
        absl::StrCat(it->second.Where(), ": is not ", spec->head_dim / 2, " values of F32"));
  }
  spec->rope_scaling.emplace().factors.resize(spec->head_dim / 2);
  DecodeElements(it->second, 0, absl::MakeSpan(spec->rope_scaling->factors));
  return absl::OkStatus();
}

// All that llama.cpp ends a generation at.
absl::Status ReadSpecialTokens(const GgufFile& file, ModelSpec* spec) {
  ASSIGN_OR_RETURN(spec->bos_token,
                   file.SpecialId("tokenizer.ggml.bos_token_id", spec->vocab_size));
  for (const char* name : {"eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep"}) {
    ASSIGN_OR_RETURN(
        const auto id,
        file.SpecialId(absl::StrCat("tokenizer.ggml.", name, "_token_id"), spec->vocab_size));
    if (id) spec->eos_tokens.push_back(static_cast<TokenId>(*id));
  }
  return absl::OkStatus();
}

std::string TheirName(const CanonicalTensor& tensor) {
  static const std::map<std::string, std::string, std::less<>> kNames = {
      {"model.embed_tokens.weight", "token_embd.weight"},
      {"model.norm.weight", "output_norm.weight"},
      {"lm_head.weight", "output.weight"},
      {"input_layernorm.weight", "attn_norm.weight"},
      {"self_attn.q_proj.weight", "attn_q.weight"},
      {"self_attn.k_proj.weight", "attn_k.weight"},
      {"self_attn.v_proj.weight", "attn_v.weight"},
      {"self_attn.o_proj.weight", "attn_output.weight"},
      {"post_attention_layernorm.weight", "ffn_norm.weight"},
      {"mlp.gate_proj.weight", "ffn_gate.weight"},
      {"mlp.up_proj.weight", "ffn_up.weight"},
      {"mlp.down_proj.weight", "ffn_down.weight"}};
  if (tensor.layer < 0) return kNames.at(tensor.name);
  const std::string prefix = absl::StrCat("model.layers.", tensor.layer, ".");
  return absl::StrCat("blk.", tensor.layer, ".", kNames.at(tensor.name.substr(prefix.size())));
}

// Nothing reads the tables of angles that some converters keep.
bool IsIgnorable(const std::string& name) {
  return name == "rope_freqs.weight" || absl::EndsWith(name, ".attn_rot_embd.weight");
}

absl::Status MapTensors(const GgufFile& file, const ModelSpec& spec, TensorViews* views) {
  std::set<std::string> used;
  for (const CanonicalTensor& tensor : CanonicalTensors(spec)) {
    const auto it = file.tensors().find(TheirName(tensor));
    if (it == file.tensors().end()) {
      return absl::NotFoundError(absl::StrCat(file.path(), ": missing tensor ", TheirName(tensor)));
    }
    const StoredTensor& stored = it->second;
    RETURN_IF_ERROR(CheckShape(stored, stored.shape, tensor));
    TensorView view{.stored = stored};
    if (absl::EndsWith(tensor.name, "q_proj.weight"))
      view.rows = HalfSplitRows(spec.num_heads, spec.head_dim);
    if (absl::EndsWith(tensor.name, "k_proj.weight"))
      view.rows = HalfSplitRows(spec.num_kv_heads, spec.head_dim);
    (*views)[tensor.name] = std::move(view);
    used.insert(stored.name);
  }
  for (const auto& [name, tensor] : file.tensors()) {
    if (used.contains(name) || IsIgnorable(name)) continue;
    return absl::UnimplementedError(
        absl::StrCat(tensor.Where(), ": unexpected; a dense Llama has no such tensor"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CheckpointParts> ReadGguf(const std::string& path) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const GgufFile> file, GgufFile::OpenModel(path));
  ASSIGN_OR_RETURN(const std::string architecture, file->String("general.architecture"));
  if (architecture != "llama") return file->Unsupported("general.architecture");
  RETURN_IF_ERROR(CheckGgufFields(*file));
  CheckpointParts parts;
  parts.layout = "gguf";
  RETURN_IF_ERROR(ReadShape(*file, &parts.spec));
  RETURN_IF_ERROR(ReadRope(*file, &parts.spec));
  RETURN_IF_ERROR(ReadSpecialTokens(*file, &parts.spec));
  RETURN_IF_ERROR(ValidateSpec(parts.spec));
  RETURN_IF_ERROR(MapTensors(*file, parts.spec, &parts.views));
  parts.files.push_back(file);
  parts.load_tokenizer = [file] { return LoadGgufTokenizer(*file); };
  return parts;
}

}  // namespace pregate
