#include "common/model/formats/gguf_spec.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/model/formats/model_fields.h"

namespace pregate {
namespace {

class Reader {
 public:
  Reader(const GgufFile& file, const Architecture& architecture)
      : file_(file), architecture_(architecture) {}

  absl::StatusOr<ModelSpec> Read() {
    spec_.architecture = architecture_.model_type;
    RETURN_IF_ERROR(ReadShape());
    RETURN_IF_ERROR(ReadVocabulary());
    RETURN_IF_ERROR(ReadTraits());
    RETURN_IF_ERROR(ReadWindow());
    RETURN_IF_ERROR(ReadRope());
    RETURN_IF_ERROR(ReadSpecialTokens());
    return std::move(spec_);
  }

 private:
  std::string Key(const char* name) const { return absl::StrCat(architecture_.gguf, ".", name); }
  absl::Status Unsupported(const char* key, int64_t value, const std::string& other) const {
    return absl::UnimplementedError(absl::StrCat(file_.path(), ": ", Key(key), " = ", value,
                                                 " other than ", other, " is not supported"));
  }

  absl::Status ReadShape() {
    const auto& f = file_;
    ASSIGN_OR_RETURN(spec_.hidden, f.Int(Key("embedding_length"), 1, kHiddenMax));
    ASSIGN_OR_RETURN(spec_.intermediate, f.UniformInt(Key("feed_forward_length"), 1, kFfnWidthMax));
    ASSIGN_OR_RETURN(spec_.num_layers, f.Int(Key("block_count"), 1, kLayersMax));
    ASSIGN_OR_RETURN(spec_.num_heads, f.UniformInt(Key("attention.head_count"), 1, kHeadsMax));
    ASSIGN_OR_RETURN(spec_.num_kv_heads,
                     f.UniformInt(Key("attention.head_count_kv"), 1, kHeadsMax, spec_.num_heads));
    ASSIGN_OR_RETURN(spec_.head_dim, f.Int(Key("attention.key_length"), 1, kHeadDimMax,
                                           spec_.hidden / spec_.num_heads));
    ASSIGN_OR_RETURN(const int64_t value_length,
                     f.Int(Key("attention.value_length"), 1, kHeadDimMax, spec_.head_dim));
    if (value_length != spec_.head_dim) {
      return Unsupported("attention.value_length", value_length,
                         absl::StrCat("the key's ", spec_.head_dim));
    }
    ASSIGN_OR_RETURN(spec_.max_position, f.Int(Key("context_length"), 1, kPositionMax));
    ASSIGN_OR_RETURN(spec_.rms_eps, f.Float(Key("attention.layer_norm_rms_epsilon")));
    return absl::OkStatus();
  }

  absl::Status ReadVocabulary() {
    const auto it = file_.tensors().find("token_embd.weight");
    if (it == file_.tensors().end() || it->second.shape.size() != 2 ||
        it->second.shape[0] > kVocabSizeMax) {
      return absl::InvalidArgumentError(absl::StrCat(
          file_.path(), ": tensor token_embd.weight is missing or no matrix of at most ",
          kVocabSizeMax, " rows"));
    }
    spec_.vocab_size = static_cast<int>(it->second.shape[0]);
    spec_.tie_embeddings = !file_.tensors().contains("output.weight");
    return absl::OkStatus();
  }

  // Biases show in the tensors alone.
  absl::Status ReadTraits() {
    spec_.qk_norm = architecture_.qk_norm;
    spec_.qkv_bias = architecture_.bias == Architecture::Bias::kQkv;
    if (architecture_.bias == Architecture::Bias::kByField) {
      spec_.qkv_bias = spec_.o_bias = file_.tensors().contains("blk.0.attn_q.bias");
    }
    // llama.cpp knows which layers have no positions by the architecture's name.
    constexpr int kInterval = 4;
    for (int l = 0; architecture_.no_rope_layers && l < spec_.num_layers; ++l) {
      spec_.no_rope.push_back((l + 1) % kInterval == 0);
    }
    return architecture_.multipliers ? ReadMultipliers() : absl::OkStatus();
  }

  absl::Status ReadMultipliers() {
    const auto read = [&](const char* key, float none, float& out) -> absl::Status {
      ASSIGN_OR_RETURN(const double value, file_.Float(Key(key), 0));
      out = value == 0 ? none : static_cast<float>(value);
      return absl::OkStatus();
    };
    RETURN_IF_ERROR(read("embedding_scale", 1, spec_.embedding_multiplier));
    RETURN_IF_ERROR(read("residual_scale", 1, spec_.residual_multiplier));
    RETURN_IF_ERROR(read("attention.scale", 0, spec_.attention_multiplier));
    return read("logit_scale", 1, spec_.logits_divisor);
  }

  // Files of Mistral call themselves llama.
  absl::Status ReadWindow() {
    constexpr const char* kWindow = "attention.sliding_window";
    ASSIGN_OR_RETURN(const int64_t window, file_.UniformInt(Key(kWindow), 0, UINT32_MAX, 0));
    if (window == 0 || window >= spec_.max_position) return absl::OkStatus();
    const bool llama = spec_.architecture == "llama" && !spec_.qkv_bias;
    if (!llama && architecture_.window != Architecture::Window::kEveryLayer) {
      return file_.Unsupported(Key(kWindow));
    }
    if (llama) spec_.architecture = "mistral";
    spec_.windows.assign(spec_.num_layers, static_cast<int>(window));
    return absl::OkStatus();
  }

  absl::Status ReadRope() {
    ASSIGN_OR_RETURN(spec_.rope_theta, file_.Float(Key("rope.freq_base"), 10000));
    ASSIGN_OR_RETURN(const int64_t dims,
                     file_.Int(Key("rope.dimension_count"), 1, kHeadDimMax, spec_.head_dim));
    if (dims != spec_.head_dim) {
      if (!architecture_.rotates_in_part || dims > spec_.head_dim) {
        return Unsupported("rope.dimension_count", dims,
                           absl::StrCat("the head's ", spec_.head_dim));
      }
      spec_.rotary_dim = static_cast<int>(dims);
    }
    RETURN_IF_ERROR(ReadScaling());
    RETURN_IF_ERROR(ReadFactors());
    return CheckAttentionFactor();
  }

  // It is read where a scaling has it.
  absl::Status CheckAttentionFactor() {
    const std::string key = Key("rope.scaling.attn_factor");
    ASSIGN_OR_RETURN(const double factor, file_.Float(key, 1));
    const bool read =
        spec_.rope_scaling && (spec_.rope_scaling->kind == RopeScalingKind::kYarn ||
                               spec_.rope_scaling->kind == RopeScalingKind::kLongRope);
    return read || factor == 0 || factor == 1 ? absl::OkStatus() : file_.Unsupported(key);
  }

  // "linear" is llama.cpp's meaning of a missing type, and its factor 0 or 1 is none.
  absl::Status ReadScaling() {
    const std::string type_key = Key("rope.scaling.type");
    ASSIGN_OR_RETURN(const std::string type, file_.String(type_key, "linear"));
    if (type == "none" || type == "longrope") return absl::OkStatus();
    ASSIGN_OR_RETURN(const double old_key, file_.Float(Key("rope.scale_linear"), 0));
    ASSIGN_OR_RETURN(const double factor, file_.Float(Key("rope.scaling.factor"), old_key));
    if (type != "linear" && type != "yarn") return file_.Unsupported(type_key);
    if (factor == 0 || factor == 1) return absl::OkStatus();
    RopeScaling scaling{.kind = RopeScalingKind::kLinear, .factor = static_cast<float>(factor)};
    if (type == "yarn") {
      scaling.kind = RopeScalingKind::kYarn;
      RETURN_IF_ERROR(ReadOriginalMax(&scaling));
      scaling.attention_factor *= static_cast<float>(0.1 * std::log(factor) + 1);
    }
    spec_.rope_scaling = scaling;
    return absl::OkStatus();
  }

  absl::Status ReadOriginalMax(RopeScaling* scaling) {
    ASSIGN_OR_RETURN(scaling->original_max_position,
                     file_.Int(Key("rope.scaling.original_context_length"), 1, kPositionMax,
                               spec_.max_position));
    ASSIGN_OR_RETURN(scaling->attention_factor, file_.Float(Key("rope.scaling.attn_factor"), 1));
    return absl::OkStatus();
  }

  absl::Status ReadFactorTensor(const char* name, std::vector<float>* out) {
    const auto it = file_.tensors().find(name);
    const int half = spec_.rope_dims() / 2;
    if (it == file_.tensors().end()) {
      return absl::NotFoundError(absl::StrCat(file_.path(), ": missing tensor ", name));
    }
    if (it->second.shape != std::vector<int64_t>{half} || it->second.type != StoredType::kF32) {
      return absl::InvalidArgumentError(
          absl::StrCat(it->second.Where(), ": is not ", half, " values of F32"));
    }
    out->resize(half);
    DecodeElements(it->second, 0, absl::MakeSpan(*out));
    return absl::OkStatus();
  }

  // Llama-3's factors, or LongRoPE's two lists.
  absl::Status ReadFactors() {
    constexpr const char* kOne = "rope_freqs.weight";
    constexpr const char* kShort = "rope_factors_short.weight";
    constexpr const char* kLong = "rope_factors_long.weight";
    RopeScaling scaling;
    if (file_.tensors().contains(kOne)) {
      scaling.kind = RopeScalingKind::kFactors;
      RETURN_IF_ERROR(ReadFactorTensor(kOne, &scaling.factors));
    } else if (file_.tensors().contains(kShort) || file_.tensors().contains(kLong)) {
      scaling.kind = RopeScalingKind::kLongRope;
      RETURN_IF_ERROR(ReadFactorTensor(kShort, &scaling.factors));
      RETURN_IF_ERROR(ReadFactorTensor(kLong, &scaling.long_factors));
      RETURN_IF_ERROR(ReadOriginalMax(&scaling));
    } else {
      return absl::OkStatus();
    }
    if (spec_.rope_scaling) {
      return absl::UnimplementedError(absl::StrCat(file_.path(), ": ", Key("rope.scaling.type"),
                                                   " = ", file_.Text(Key("rope.scaling.type")),
                                                   " beside tensors of RoPE's factors"));
    }
    spec_.rope_scaling = std::move(scaling);
    return absl::OkStatus();
  }

  // All that llama.cpp ends a generation at.
  absl::Status ReadSpecialTokens() {
    ASSIGN_OR_RETURN(spec_.bos_token,
                     file_.SpecialId("tokenizer.ggml.bos_token_id", spec_.vocab_size));
    for (const char* name : {"eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep"}) {
      ASSIGN_OR_RETURN(
          const auto id,
          file_.SpecialId(absl::StrCat("tokenizer.ggml.", name, "_token_id"), spec_.vocab_size));
      if (id) spec_.eos_tokens.push_back(static_cast<TokenId>(*id));
    }
    return absl::OkStatus();
  }

  const GgufFile& file_;
  const Architecture& architecture_;
  ModelSpec spec_;
};

}  // namespace

absl::StatusOr<ModelSpec> ReadGgufSpec(const GgufFile& file, const Architecture& architecture) {
  RETURN_IF_ERROR(CheckGgufFields(file, architecture));
  return Reader(file, architecture).Read();
}

}  // namespace pregate
