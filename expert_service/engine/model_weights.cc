#include "expert_service/engine/model_weights.h"

#include <string>

#include "common/base/status.h"
#include "expert_service/engine/unit_reader.h"

namespace pregate {

// Reads tensors one after the other, so that the host holds one matrix at a time beside the packed
// model.
class WeightsLoader {
 public:
  WeightsLoader(const Checkpoint& checkpoint, Device* device, const WeightsOptions& options,
                const LoadProgress& progress)
      : checkpoint_(checkpoint),
        spec_(checkpoint.spec()),
        device_(*device),
        options_(options),
        progress_(progress) {
    weights_->spec_ = spec_;
    weights_->types_ = options.types;
    weights_->head_.norm_eps = spec_.rms_eps;
    weights_->head_.act = options.types.act;
    parts_total_ = 1 + spec_.num_layers;
  }

  absl::StatusOr<std::unique_ptr<ModelWeights>> Load() {
    RETURN_IF_ERROR(LoadEmbeddings());
    RETURN_IF_ERROR(LoadFinalNorm());
    RETURN_IF_ERROR(LoadRope());
    RETURN_IF_ERROR(Report());
    weights_->layers_.resize(spec_.num_layers);
    for (int l = 0; l < spec_.num_layers; ++l) {
      RETURN_IF_ERROR(LoadAttention(l));
      RETURN_IF_ERROR(LoadFfn(l));
      RETURN_IF_ERROR(Report());
    }
    RETURN_IF_ERROR(device_.Synchronize());
    return std::move(weights_);
  }

 private:
  absl::Status Report() {
    ++parts_done_;
    if (!progress_ || progress_(parts_done_, parts_total_)) return absl::OkStatus();
    return absl::AbortedError("loading was stopped");
  }

  absl::StatusOr<void*> UploadBytes(const void* data, size_t bytes) {
    ASSIGN_OR_RETURN(DeviceBuffer buffer, device_.Allocate(bytes));
    device_.Upload(buffer.as<void>(), data, bytes);
    weights_->buffers_.push_back(std::move(buffer));
    return weights_->buffers_.back().as<void>();
  }

  absl::Status UploadFloats(const std::vector<float>& values, const float*& out) {
    ASSIGN_OR_RETURN(void* data, UploadBytes(values.data(), values.size() * sizeof(float)));
    out = static_cast<const float*>(data);
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<float>> Read(DType dtype, const std::string& name, size_t elements) {
    std::vector<float> values(elements);
    RETURN_IF_ERROR(checkpoint_.ReadAs(dtype, name, absl::MakeSpan(values)));
    return values;
  }

  absl::Status LoadVector(const std::string& name, int width, const float*& out) {
    ASSIGN_OR_RETURN(const std::vector<float> values, Read(DType::kF32, name, width));
    return UploadFloats(values, out);
  }

  absl::Status PackAndUpload(absl::Span<const float> rows, int outputs, int inputs, Matrix& out) {
    const WeightFormat format = weights_->types_.weights;
    std::vector<std::byte> packed(device_.MatrixBytes(outputs, inputs, format));
    device_.PackMatrix(rows, outputs, inputs, format, packed.data());
    ASSIGN_OR_RETURN(void* data, UploadBytes(packed.data(), packed.size()));
    out = {data, outputs, inputs, format};
    return absl::OkStatus();
  }

  absl::Status LoadMatrix(const std::string& name, int outputs, int inputs, Matrix& out) {
    ASSIGN_OR_RETURN(const std::vector<float> rows,
                     Read(ValueType(weights_->types_.weights), name, size_t(outputs) * inputs));
    return PackAndUpload(rows, outputs, inputs, out);
  }

  absl::Status LoadEmbeddings() {
    RETURN_IF_ERROR(LoadMatrix("model.embed_tokens.weight", spec_.vocab_size, spec_.hidden,
                               weights_->embedding_));
    if (!spec_.tie_embeddings) {
      return LoadMatrix("lm_head.weight", spec_.vocab_size, spec_.hidden, weights_->head_.logits);
    }
    weights_->head_.logits = weights_->embedding_;
    return absl::OkStatus();
  }

  absl::Status LoadFinalNorm() {
    ASSIGN_OR_RETURN(std::vector<float> norm, Read(DType::kF32, "model.norm.weight", spec_.hidden));
    for (float& x : norm) x /= spec_.logits_divisor;
    return UploadFloats(norm, weights_->head_.norm);
  }

  absl::Status LoadRope() {
    const RopeFrequencies rope = RopeOf(spec_, options_.context_tokens);
    weights_->rope_ = {.dims = spec_.rope_dims(), .scale = rope.scale};
    return UploadFloats(rope.inv_freq, weights_->rope_.inv_freq);
  }

  // One after the other in one vector or matrix; `elements` of each.
  absl::StatusOr<std::vector<float>> ReadQkv(DType dtype, const std::string& prefix,
                                             const char* suffix, size_t row_elements) {
    std::vector<float> all;
    all.reserve((spec_.q_width() + 2 * spec_.kv_width()) * row_elements);
    for (const auto& [name, rows] :
         {std::pair{"q", spec_.q_width()}, {"k", spec_.kv_width()}, {"v", spec_.kv_width()}}) {
      const size_t at = all.size();
      all.resize(at + rows * row_elements);
      RETURN_IF_ERROR(checkpoint_.ReadAs(dtype, absl::StrCat(prefix, name, suffix),
                                         absl::MakeSpan(all).subspan(at)));
    }
    return all;
  }

  absl::Status LoadBiasesAndHeadNorms(const std::string& prefix, AttentionWeights& attention) {
    if (spec_.qkv_bias) {
      ASSIGN_OR_RETURN(const auto bias, ReadQkv(DType::kF32, prefix, "_proj.bias", 1));
      RETURN_IF_ERROR(UploadFloats(bias, attention.qkv_bias));
    }
    if (spec_.o_bias) {
      RETURN_IF_ERROR(LoadVector(prefix + "o_proj.bias", spec_.hidden, attention.o_bias));
    }
    if (!spec_.qk_norm) return absl::OkStatus();
    RETURN_IF_ERROR(LoadVector(prefix + "q_norm.weight", spec_.head_dim, attention.head_norms.q));
    return LoadVector(prefix + "k_norm.weight", spec_.head_dim, attention.head_norms.k);
  }

  absl::Status LoadAttention(int l) {
    const std::string prefix = absl::StrCat("model.layers.", l, ".");
    LayerWeights& layer = weights_->layers_[l];
    RETURN_IF_ERROR(
        LoadVector(prefix + "input_layernorm.weight", spec_.hidden, layer.attention.norm));
    RETURN_IF_ERROR(
        LoadVector(prefix + "post_attention_layernorm.weight", spec_.hidden, layer.ffn.norm));
    const std::string attention = prefix + "self_attn.";
    ASSIGN_OR_RETURN(const auto qkv, ReadQkv(ValueType(weights_->types_.weights), attention,
                                             "_proj.weight", spec_.hidden));
    RETURN_IF_ERROR(PackAndUpload(qkv, spec_.q_width() + 2 * spec_.kv_width(), spec_.hidden,
                                  layer.attention.qkv));
    RETURN_IF_ERROR(LoadBiasesAndHeadNorms(attention, layer.attention));
    return LoadMatrix(attention + "o_proj.weight", spec_.hidden, spec_.q_width(),
                      layer.attention.o);
  }

  absl::Status UploadTable(const std::vector<const void*>& units, const void* const*& out) {
    ASSIGN_OR_RETURN(void* table, UploadBytes(units.data(), units.size() * sizeof(void*)));
    out = static_cast<const void* const*>(table);
    return absl::OkStatus();
  }

  absl::Status LoadFfn(int l) {
    FfnWeights& ffn = weights_->layers_[l].ffn;
    const WeightFormat format = weights_->types_.weights;
    ffn.shared = {spec_.shared_ffn_width(l), spec_.hidden, format};
    ffn.own = {spec_.is_moe() ? spec_.own_width[l] : 0, spec_.hidden, format};
    if (ffn.shared.width == 0 || !options_.with_ffn) return absl::OkStatus();
    ASSIGN_OR_RETURN(
        const UnitImage image,
        ReadUnit(checkpoint_, device_,
                 absl::StrCat("model.layers.", l, spec_.is_moe() ? ".mlp.shared." : ".mlp."),
                 ffn.shared));
    ASSIGN_OR_RETURN(void* unit, UploadBytes(image.data.data(), image.data.size()));
    return UploadTable({unit}, ffn.shared_unit);
  }

  const Checkpoint& checkpoint_;
  const ModelSpec& spec_;
  Device& device_;
  const WeightsOptions options_;
  const LoadProgress& progress_;
  std::unique_ptr<ModelWeights> weights_{new ModelWeights};
  int parts_done_ = 0;
  int parts_total_ = 0;
};

absl::StatusOr<std::unique_ptr<ModelWeights>> ModelWeights::Load(const Checkpoint& checkpoint,
                                                                 Device* device,
                                                                 const WeightsOptions& options,
                                                                 const LoadProgress& progress) {
  return WeightsLoader(checkpoint, device, options, progress).Load();
}

}  // namespace pregate
