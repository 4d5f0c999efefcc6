#include "expert_service/engine/model_weights.h"

#include <string>
#include <utility>

#include "common/base/status.h"
#include "expert_service/engine/image_loader.h"
#include "expert_service/engine/image_reader.h"

namespace pregate {

// Small tensors are read at once; of matrices and units the memory is laid out first, then all are
// read (image_loader.h).
class WeightsLoader {
 public:
  WeightsLoader(const Checkpoint& checkpoint, Device* device, const WeightsOptions& options,
                const LoadProgress& progress)
      : checkpoint_(checkpoint),
        spec_(checkpoint.spec()),
        device_(*device),
        reader_(&checkpoint),
        options_(options),
        progress_(progress) {
    weights_->spec_ = spec_;
    weights_->types_ = options.types;
    weights_->head_.norm_eps = spec_.rms_eps;
    weights_->head_.act = options.types.act;
  }

  absl::StatusOr<std::unique_ptr<ModelWeights>> Load() {
    RETURN_IF_ERROR(LoadEmbeddings());
    RETURN_IF_ERROR(LoadFinalNorm());
    RETURN_IF_ERROR(LoadRope());
    weights_->layers_.resize(spec_.num_layers);
    for (int l = 0; l < spec_.num_layers; ++l) {
      RETURN_IF_ERROR(LoadAttention(l));
      RETURN_IF_ERROR(LoadFfn(l));
    }
    RETURN_IF_ERROR(
        LoadImages(device_, {.threads = options_.threads}, absl::MakeSpan(loads_), progress_));
    RETURN_IF_ERROR(device_.Synchronize());
    return std::move(weights_);
  }

 private:
  absl::StatusOr<void*> Allocate(size_t bytes) {
    ASSIGN_OR_RETURN(DeviceBuffer buffer, device_.Allocate(bytes));
    weights_->buffers_.push_back(std::move(buffer));
    return weights_->buffers_.back().as<void>();
  }

  absl::StatusOr<void*> UploadBytes(const void* data, size_t bytes) {
    ASSIGN_OR_RETURN(void* buffer, Allocate(bytes));
    device_.Upload(buffer, data, bytes);
    return buffer;
  }

  absl::Status UploadFloats(const std::vector<float>& values, const float*& out) {
    ASSIGN_OR_RETURN(void* data, UploadBytes(values.data(), values.size() * sizeof(float)));
    out = static_cast<const float*>(data);
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<float>> ReadVector(const std::string& name, size_t elements) {
    std::vector<float> values(elements);
    RETURN_IF_ERROR(checkpoint_.ReadAs(DType::kF32, name, absl::MakeSpan(values)));
    return values;
  }

  absl::Status LoadVector(const std::string& name, int width, const float*& out) {
    ASSIGN_OR_RETURN(const std::vector<float> values, ReadVector(name, width));
    return UploadFloats(values, out);
  }

  // Whose outputs are the parts' rows.
  absl::Status LoadMatrix(std::vector<MatrixPart> parts, int inputs, Matrix& out,
                          bool lookup = false) {
    out = {nullptr, 0, inputs, weights_->types_.weights, lookup};
    for (const MatrixPart& part : parts) out.outputs += part.outputs;
    ASSIGN_OR_RETURN(void* image, Allocate(device_.MatrixBytes(out.outputs, inputs, out.format)));
    out.data = image;
    loads_.push_back({[this, parts = std::move(parts), shape = out, image](ImageWriter& writer,
                                                                           LoadMeter& meter) {
      return reader_.ReadMatrix(parts, shape, writer, image, meter);
    }});
    return absl::OkStatus();
  }

  absl::Status LoadEmbeddings() {
    RETURN_IF_ERROR(LoadMatrix({{"model.embed_tokens.weight", spec_.vocab_size}}, spec_.hidden,
                               weights_->embedding_, /*lookup=*/!spec_.tie_embeddings));
    if (!spec_.tie_embeddings) {
      return LoadMatrix({{"lm_head.weight", spec_.vocab_size}}, spec_.hidden,
                        weights_->head_.logits);
    }
    weights_->head_.logits = weights_->embedding_;
    return absl::OkStatus();
  }

  absl::Status LoadFinalNorm() {
    ASSIGN_OR_RETURN(std::vector<float> norm, ReadVector("model.norm.weight", spec_.hidden));
    for (float& x : norm) x /= spec_.logits_divisor;
    return UploadFloats(norm, weights_->head_.norm);
  }

  absl::Status LoadRope() {
    const RopeFrequencies rope = RopeOf(spec_, options_.context_tokens);
    weights_->rope_ = {.dims = spec_.rope_dims(), .scale = rope.scale};
    return UploadFloats(rope.inv_freq, weights_->rope_.inv_freq);
  }

  // "q", "k" and "v" between `prefix` and `suffix`.
  std::vector<MatrixPart> QkvParts(const std::string& prefix, const char* suffix) const {
    return {{absl::StrCat(prefix, "q", suffix), spec_.q_width()},
            {absl::StrCat(prefix, "k", suffix), spec_.kv_width()},
            {absl::StrCat(prefix, "v", suffix), spec_.kv_width()}};
  }

  absl::Status LoadQkvBias(const std::string& prefix, const float*& out) {
    std::vector<float> all;
    for (const MatrixPart& part : QkvParts(prefix, "_proj.bias")) {
      ASSIGN_OR_RETURN(const std::vector<float> bias, ReadVector(part.name, part.outputs));
      all.insert(all.end(), bias.begin(), bias.end());
    }
    return UploadFloats(all, out);
  }

  absl::Status LoadBiasesAndHeadNorms(const std::string& prefix, AttentionWeights& attention) {
    if (spec_.qkv_bias) RETURN_IF_ERROR(LoadQkvBias(prefix, attention.qkv_bias));
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
    RETURN_IF_ERROR(
        LoadMatrix(QkvParts(attention, "_proj.weight"), spec_.hidden, layer.attention.qkv));
    RETURN_IF_ERROR(LoadBiasesAndHeadNorms(attention, layer.attention));
    return LoadMatrix({{attention + "o_proj.weight", spec_.hidden}}, spec_.q_width(),
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
    ASSIGN_OR_RETURN(void* unit, Allocate(device_.UnitBytes(ffn.shared)));
    const std::string prefix =
        absl::StrCat("model.layers.", l, spec_.is_moe() ? ".mlp.shared." : ".mlp.");
    loads_.push_back(
        {[this, prefix, shape = ffn.shared, unit](ImageWriter& writer, LoadMeter& meter) {
          return reader_.ReadUnit(prefix, shape, writer, unit, meter);
        }});
    return UploadTable({unit}, ffn.shared_unit);
  }

  const Checkpoint& checkpoint_;
  const ModelSpec& spec_;
  Device& device_;
  const ImageReader reader_;
  const WeightsOptions options_;
  const LoadProgress& progress_;
  std::unique_ptr<ModelWeights> weights_{new ModelWeights};
  std::vector<ImageLoad> loads_;
};

absl::StatusOr<std::unique_ptr<ModelWeights>> ModelWeights::Load(const Checkpoint& checkpoint,
                                                                 Device* device,
                                                                 const WeightsOptions& options,
                                                                 const LoadProgress& progress) {
  return WeightsLoader(checkpoint, device, options, progress).Load();
}

}  // namespace pregate
