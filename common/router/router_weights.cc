#include "common/router/router_weights.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/hash.h"
#include "common/base/status.h"

namespace pregate {
namespace {

std::string_view AsBytes(absl::Span<const float> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

// Reads tensors, hashes them in the order of the calls, packs and uploads them. The first error
// sticks: later calls return empty results, so that the list of tensors below reads as a list.
class Loader {
 public:
  Loader(const Checkpoint& checkpoint, Device& device, RouterWeights& out)
      : checkpoint_(checkpoint), device_(device), out_(out) {}

  Matrix ReadMatrix(const std::string& name, int outputs, int inputs, bool lookup = false) {
    return ReadFused({name}, outputs, inputs, lookup);
  }
  // Stacks several matrices of [outputs_each, inputs] into one.
  Matrix ReadFused(const std::vector<std::string>& names, int outputs_each, int inputs,
                   bool lookup = false) {
    if (!status_.ok()) return {};
    Matrix matrix = {nullptr, outputs_each * static_cast<int>(names.size()), inputs,
                     WeightFormat::kF32, lookup};
    const size_t bytes = device_.MatrixBytes(matrix.outputs, inputs, matrix.format);
    void* kept = Keep(bytes);
    std::vector<char> staged(device_.host_memory() ? 0 : bytes);
    void* image = device_.host_memory() ? kept : staged.data();
    if (!status_.ok()) return {};
    int64_t begin = 0;
    for (const std::string& name : names) {
      const auto pack = [&](int64_t first, const WeightRows& rows) {
        sha_.Update(AsBytes(std::get<absl::Span<const float>>(rows)));  // as they are read in f32
        device_.PackMatrixRows(rows, begin + first, matrix, image);
        return true;
      };
      status_ = checkpoint_.ReadRows(
          {name + ".weight", outputs_each, inputs, DType::kF32, kPieceRows}, pack);
      if (!status_.ok()) return {};
      begin += outputs_each;
    }
    if (image != kept) Upload(kept, image, bytes);
    matrix.data = kept;
    return matrix;
  }
  const float* ReadVector(const std::string& name, int size) {
    return UploadVector(ReadVectors({name}, size));
  }
  const float* ReadFusedBias(const std::vector<std::string>& names, int outputs_each) {
    std::vector<std::string> biases;
    for (const std::string& name : names) biases.push_back(name + ".bias");
    return UploadVector(ReadVectors(biases, outputs_each));
  }
  const float* UploadVector(const std::vector<float>& values) {
    const size_t bytes = values.size() * sizeof(float);
    void* kept = Keep(bytes);
    if (kept != nullptr) Upload(kept, values.data(), bytes);
    return static_cast<const float*>(kept);
  }
  void Hash(std::string_view bytes) { sha_.Update(bytes); }
  std::string Digest() { return sha_.HexDigest(); }
  const absl::Status& status() const { return status_; }

 private:
  static constexpr int kPieceRows = 32;

  std::vector<float> ReadVectors(const std::vector<std::string>& names, size_t size_each) {
    if (!status_.ok()) return {};
    std::vector<float> values(size_each * names.size());
    size_t at = 0;
    for (const std::string& name : names) {
      status_ = checkpoint_.Read(name, absl::MakeSpan(values).subspan(at, size_each));
      if (!status_.ok()) return {};
      at += size_each;
    }
    sha_.Update(AsBytes(values));
    return values;
  }

  void* Keep(size_t bytes) {
    if (!status_.ok()) return nullptr;
    absl::StatusOr<DeviceBuffer> buffer = device_.Allocate(bytes);
    if (!buffer.ok()) {
      status_ = buffer.status();
      return nullptr;
    }
    out_.device_bytes += bytes;
    out_.buffers.push_back(*std::move(buffer));
    return out_.buffers.back().as<void>();
  }

  void Upload(void* kept, const void* host, size_t bytes) {
    device_.Upload(kept, host, bytes);
    status_ = device_.Synchronize();  // the host copy dies with the caller
  }

  const Checkpoint& checkpoint_;
  Device& device_;
  RouterWeights& out_;
  Sha256 sha_;
  absl::Status status_;
};

absl::Status CheckRunnable(const ModelSpec& spec) {
  const RouterSpec& r = *spec.router;
  if (spec.num_experts < 1)
    return absl::InvalidArgumentError("num_experts: a router needs at least 1, has 0");
  if (r.num_layers < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("router.num_layers: ", r.num_layers, " is below 1"));
  }
  if (r.num_heads < 1 || r.hidden % r.num_heads != 0 || r.head_dim() % 2 != 0) {
    return absl::InvalidArgumentError(absl::StrCat("router.num_heads: ", r.num_heads,
                                                   " does not cut router.hidden ", r.hidden,
                                                   " into heads of even width"));
  }
  if (!(r.normalizer > 0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("router.normalizer: ", r.normalizer, " is not positive"));
  }
  return absl::OkStatus();
}

std::string DescribeForDigest(const ModelSpec& spec) {
  const RouterSpec& r = *spec.router;
  return absl::StrCat("pregate-router-1 vocab ", spec.vocab_size, " experts ", spec.num_experts,
                      " layers ", r.num_layers, " heads ", r.num_heads, " hidden ", r.hidden,
                      " intermediate ", r.intermediate, " eps ", r.rms_eps, " theta ", r.rope_theta,
                      " normalizer ", r.normalizer, " activation ",
                      r.activation == RouterActivation::kSilu ? "silu" : "relu", "\n");
}

RouterLayerWeights ReadLayer(Loader& load, const RouterSpec& r, int layer) {
  const std::string at = absl::StrCat("router.layers.", layer, ".");
  const std::vector<std::string> qkv = {at + "q_proj", at + "k_proj", at + "v_proj"};
  RouterLayerWeights w;
  w.attention.norm = load.ReadVector(at + "input_layernorm.weight", r.hidden);
  w.attention.qkv = load.ReadFused(qkv, r.hidden, r.hidden);
  w.attention.qkv_bias = load.ReadFusedBias(qkv, r.hidden);
  w.attention.o = load.ReadMatrix(at + "o_proj", r.hidden, r.hidden);
  w.attention.o_bias = load.ReadVector(at + "o_proj.bias", r.hidden);
  w.mlp.norm = load.ReadVector(at + "post_attention_layernorm.weight", r.hidden);
  w.mlp.proj_1 = load.ReadMatrix(at + "proj_1", r.intermediate, r.hidden);
  w.mlp.proj_1_bias = load.ReadVector(at + "proj_1.bias", r.intermediate);
  w.mlp.proj_2 = load.ReadMatrix(at + "proj_2", r.hidden, r.intermediate);
  w.mlp.proj_2_bias = load.ReadVector(at + "proj_2.bias", r.hidden);
  return w;
}

}  // namespace

absl::StatusOr<RouterWeights> LoadRouterWeights(const Checkpoint& checkpoint, Device& device) {
  const ModelSpec& spec = checkpoint.spec();
  if (!spec.router.has_value()) {
    return absl::FailedPreconditionError(
        absl::StrCat(checkpoint.path(), ": the model has no router (dense?)"));
  }
  RETURN_IF_ERROR(CheckRunnable(spec));
  const RouterSpec& r = *spec.router;
  RouterWeights w;
  Loader load(checkpoint, device, w);
  load.Hash(DescribeForDigest(spec));
  w.embed = load.ReadMatrix("router.embed", spec.vocab_size, r.hidden, /*lookup=*/true);
  for (int l = 0; l < r.num_layers; ++l) w.layers.push_back(ReadLayer(load, r, l));
  w.head.norm = load.ReadVector("router.norm.weight", r.hidden);
  w.head.logits = load.ReadMatrix("router.proj_out", spec.num_experts, r.hidden);
  w.head.bias = load.ReadVector("router.proj_out.bias", spec.num_experts);
  w.head.norm_eps = r.rms_eps;
  w.inv_freq = load.UploadVector(PlainRope(r.head_dim(), r.rope_theta).inv_freq);
  RETURN_IF_ERROR(load.status());
  w.digest = load.Digest();
  return w;
}

}  // namespace pregate
