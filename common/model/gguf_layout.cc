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
#include <set>

#include "common/base/status.h"
#include "common/model/checkpoint_parts.h"
#include "common/model/gguf.h"
#include "common/model/gguf_tokenizer.h"
#include "common/model/limits.h"

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

absl::Status ReadShape(const GgufFile& file, ModelSpec* spec) {
  ASSIGN_OR_RETURN(spec->hidden, file.Int("llama.embedding_length", 1, kHiddenMax));
  ASSIGN_OR_RETURN(spec->intermediate, file.Int("llama.feed_forward_length", 1, kFfnWidthMax));
  ASSIGN_OR_RETURN(spec->num_layers, file.Int("llama.block_count", 1, kLayersMax));
  ASSIGN_OR_RETURN(spec->num_heads, file.Int("llama.attention.head_count", 1, kHeadsMax));
  ASSIGN_OR_RETURN(spec->num_kv_heads,
                   file.Int("llama.attention.head_count_kv", 1, kHeadsMax, spec->num_heads));
  ASSIGN_OR_RETURN(spec->head_dim, file.Int("llama.attention.key_length", 1, kHeadDimMax,
                                            spec->hidden / spec->num_heads));
  ASSIGN_OR_RETURN(spec->max_position, file.Int("llama.context_length", 1, kPositionMax));
  ASSIGN_OR_RETURN(spec->rms_eps, file.Float("llama.attention.layer_norm_rms_epsilon"));
  ASSIGN_OR_RETURN(const int64_t experts, file.Int("llama.expert_count", 0, INT32_MAX, 0));
  if (experts != 0) {
    return absl::UnimplementedError(
        absl::StrCat(file.path(), ": llama.expert_count = ", experts, " is not supported"));
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

absl::Status ReadRope(const GgufFile& file, ModelSpec* spec) {
  ASSIGN_OR_RETURN(spec->rope_theta, file.Float("llama.rope.freq_base", 10000));
  ASSIGN_OR_RETURN(const int64_t dims,
                   file.Int("llama.rope.dimension_count", 1, kHeadDimMax, spec->head_dim));
  if (dims != spec->head_dim) {
    return absl::UnimplementedError(
        absl::StrCat(file.path(), ": llama.rope.dimension_count = ", dims,
                     " other than the head's ", spec->head_dim, " is not supported"));
  }
  ASSIGN_OR_RETURN(const std::string scaling, file.String("llama.rope.scaling.type", "none"));
  if (scaling != "none") return file.Unsupported("llama.rope.scaling.type");
  const auto it = file.tensors().find("rope_freqs.weight");
  if (it == file.tensors().end()) return absl::OkStatus();
  if (it->second.num_elements() != spec->head_dim / 2 || it->second.type != StoredType::kF32) {
    return absl::InvalidArgumentError(
        absl::StrCat(it->second.Where(), ": is not ", spec->head_dim / 2, " values of F32"));
  }
  spec->rope_scaling.emplace().factors.resize(spec->head_dim / 2);
  DecodeElements(it->second, 0, absl::MakeSpan(spec->rope_scaling->factors));
  return absl::OkStatus();
}

absl::Status ReadSpecialTokens(const GgufFile& file, ModelSpec* spec) {
  const int64_t last = spec->vocab_size - 1;
  if (file.Has("tokenizer.ggml.bos_token_id")) {
    ASSIGN_OR_RETURN(spec->bos_token, file.Int("tokenizer.ggml.bos_token_id", 0, last));
  }
  for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"}) {
    if (!file.Has(key)) continue;
    ASSIGN_OR_RETURN(const int64_t id, file.Int(key, 0, last));
    spec->eos_tokens.push_back(static_cast<TokenId>(id));
  }
  return absl::OkStatus();
}

void MapTensor(const GgufFile& file, const std::string& theirs, const std::string& ours,
               std::vector<int32_t> rows, TensorViews* views) {
  const auto it = file.tensors().find(theirs + ".weight");
  if (it != file.tensors().end()) {
    (*views)[ours + ".weight"] = {.stored = it->second, .rows = std::move(rows)};
  }
}

absl::Status MapTensors(const GgufFile& file, const ModelSpec& spec, TensorViews* views) {
  MapTensor(file, "token_embd", "model.embed_tokens", {}, views);
  MapTensor(file, "output_norm", "model.norm", {}, views);
  MapTensor(file, "output", "lm_head", {}, views);
  for (int l = 0; l < spec.num_layers; ++l) {
    const std::string theirs = absl::StrCat("blk.", l, "."),
                      ours = absl::StrCat("model.layers.", l, ".");
    MapTensor(file, theirs + "attn_norm", ours + "input_layernorm", {}, views);
    MapTensor(file, theirs + "attn_q", ours + "self_attn.q_proj",
              HalfSplitRows(spec.num_heads, spec.head_dim), views);
    MapTensor(file, theirs + "attn_k", ours + "self_attn.k_proj",
              HalfSplitRows(spec.num_kv_heads, spec.head_dim), views);
    MapTensor(file, theirs + "attn_v", ours + "self_attn.v_proj", {}, views);
    MapTensor(file, theirs + "attn_output", ours + "self_attn.o_proj", {}, views);
    MapTensor(file, theirs + "ffn_norm", ours + "post_attention_layernorm", {}, views);
    for (const char* name : {"gate", "up", "down"}) {
      MapTensor(file, absl::StrCat(theirs, "ffn_", name), absl::StrCat(ours, "mlp.", name, "_proj"),
                {}, views);
    }
  }
  std::set<std::string> used = {"rope_freqs.weight"};
  for (const auto& [name, view] : *views) used.insert(view.stored.name);
  for (const auto& [name, tensor] : file.tensors()) {
    if (used.contains(name)) continue;
    return absl::UnimplementedError(
        absl::StrCat(tensor.Where(), ": unexpected; a dense Llama has no such tensor"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CheckpointParts> ReadGguf(const std::string& path) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const GgufFile> file, GgufFile::Open(path));
  ASSIGN_OR_RETURN(const std::string architecture, file->String("general.architecture"));
  if (architecture != "llama") return file->Unsupported("general.architecture");
  CheckpointParts parts;
  parts.layout = "gguf";
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
