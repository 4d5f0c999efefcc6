#include "common/model/spec/tensor_names.h"

#include "absl/strings/str_cat.h"

namespace pregate {

const char* TensorPartName(TensorPart part) {
  switch (part) {
    case TensorPart::kEmbedding:
      return "embedding";
    case TensorPart::kAttention:
      return "attention";
    case TensorPart::kNorm:
      return "norm";
    case TensorPart::kFfn:
      return "ffn";
    case TensorPart::kShared:
      return "shared";
    case TensorPart::kExpert:
      return "expert";
    case TensorPart::kHead:
      return "head";
    case TensorPart::kRouter:
      return "router";
  }
  return "?";
}

int64_t CanonicalTensor::num_elements() const {
  int64_t n = 1;
  for (const int64_t dim : shape) n *= dim;
  return n;
}

namespace {

class Lister {
 public:
  explicit Lister(const ModelSpec& spec) : spec_(spec) {}

  std::vector<CanonicalTensor> List() {
    Add("model.embed_tokens.weight", {spec_.vocab_size, spec_.hidden}, TensorPart::kEmbedding);
    for (layer_ = 0; layer_ < spec_.num_layers; ++layer_) AddLayer();
    layer_ = -1;
    Add("model.norm.weight", {spec_.hidden}, TensorPart::kNorm);
    if (!spec_.tie_embeddings) {
      Add("lm_head.weight", {spec_.vocab_size, spec_.hidden}, TensorPart::kHead);
    }
    if (spec_.router) AddRouter(*spec_.router);
    return std::move(tensors_);
  }

 private:
  void Add(std::string name, std::vector<int64_t> shape, TensorPart part, int expert = -1) {
    tensors_.push_back({std::move(name), std::move(shape), part, layer_, expert});
  }

  void AddLayer() {
    const std::string prefix = absl::StrCat("model.layers.", layer_, ".");
    const std::string attention = prefix + "self_attn.";
    Add(prefix + "input_layernorm.weight", {spec_.hidden}, TensorPart::kNorm);
    AddProjection(attention + "q_proj", spec_.q_width(), spec_.hidden, spec_.qkv_bias);
    AddProjection(attention + "k_proj", spec_.kv_width(), spec_.hidden, spec_.qkv_bias);
    AddProjection(attention + "v_proj", spec_.kv_width(), spec_.hidden, spec_.qkv_bias);
    AddProjection(attention + "o_proj", spec_.hidden, spec_.q_width(), spec_.o_bias);
    if (spec_.qk_norm) {
      Add(attention + "q_norm.weight", {spec_.head_dim}, TensorPart::kNorm);
      Add(attention + "k_norm.weight", {spec_.head_dim}, TensorPart::kNorm);
    }
    Add(prefix + "post_attention_layernorm.weight", {spec_.hidden}, TensorPart::kNorm);
    if (!spec_.is_moe()) {
      AddFfn(prefix + "mlp.", spec_.intermediate, TensorPart::kFfn);
      return;
    }
    AddFfn(prefix + "mlp.shared.", spec_.shared_width[layer_], TensorPart::kShared);
    for (int e = 0; e < spec_.num_experts; ++e) {
      AddFfn(absl::StrCat(prefix, "mlp.experts.", e, "."), spec_.own_width[layer_],
             TensorPart::kExpert, e);
    }
  }

  void AddProjection(const std::string& name, int outputs, int inputs, bool bias) {
    Add(name + ".weight", {outputs, inputs}, TensorPart::kAttention);
    if (bias) Add(name + ".bias", {outputs}, TensorPart::kAttention);
  }

  void AddFfn(const std::string& prefix, int width, TensorPart part, int expert = -1) {
    if (width == 0) return;
    Add(prefix + "gate_proj.weight", {width, spec_.hidden}, part, expert);
    Add(prefix + "up_proj.weight", {width, spec_.hidden}, part, expert);
    Add(prefix + "down_proj.weight", {spec_.hidden, width}, part, expert);
  }

  void AddLinear(const std::string& name, int outputs, int inputs) {
    Add(name + ".weight", {outputs, inputs}, TensorPart::kRouter);
    Add(name + ".bias", {outputs}, TensorPart::kRouter);
  }

  void AddRouter(const RouterSpec& router) {
    Add("router.embed.weight", {spec_.vocab_size, router.hidden}, TensorPart::kRouter);
    for (int l = 0; l < router.num_layers; ++l) {
      const std::string prefix = absl::StrCat("router.layers.", l, ".");
      Add(prefix + "input_layernorm.weight", {router.hidden}, TensorPart::kRouter);
      for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"}) {
        AddLinear(prefix + name, router.hidden, router.hidden);
      }
      Add(prefix + "post_attention_layernorm.weight", {router.hidden}, TensorPart::kRouter);
      AddLinear(prefix + "proj_1", router.intermediate, router.hidden);
      AddLinear(prefix + "proj_2", router.hidden, router.intermediate);
    }
    Add("router.norm.weight", {router.hidden}, TensorPart::kRouter);
    AddLinear("router.proj_out", spec_.num_experts, router.hidden);
  }

  const ModelSpec& spec_;
  int layer_ = -1;
  std::vector<CanonicalTensor> tensors_;
};

}  // namespace

std::vector<CanonicalTensor> CanonicalTensors(const ModelSpec& spec) { return Lister(spec).List(); }

}  // namespace pregate
