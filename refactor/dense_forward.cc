#include "refactor/dense_forward.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "common/base/status.h"
#include "common/device/cpu/cpu_device.h"
#include "common/model/spec/tensor_names.h"
#include "expert_service/engine/forward_pass.h"
#include "expert_service/engine/model_weights.h"

namespace pregate {
namespace {

// Enough rows for the matrix product, few enough for the cache; and enough to hide reading.
constexpr int kWindowsKept = 2, kTokensRead = 8192;

int64_t FfnBytes(const ModelSpec& spec) {
  return int64_t{3} * spec.num_layers * spec.hidden * spec.intermediate *
         static_cast<int64_t>(sizeof(float));
}

absl::StatusOr<at::Tensor> ReadTensor(const Checkpoint& checkpoint, const std::string& name,
                                      at::IntArrayRef shape) {
  at::Tensor tensor = at::empty(shape, at::kFloat);
  RETURN_IF_ERROR(checkpoint.Read(
      name, absl::MakeSpan(tensor.data_ptr<float>(), static_cast<size_t>(tensor.numel()))));
  return tensor;
}

absl::Span<const float> View(const at::Tensor& tensor) {
  return {tensor.data_ptr<float>(), static_cast<size_t>(tensor.numel())};
}

// The rows of Run, on a CPU device, whose memory is the host's: windows are sequences with blocks
// of their own, and layers take turns with one layer's keys and values.
class Windows {
 public:
  Windows(absl::Span<const TokenId> tokens, int window_tokens)
      : num_(static_cast<int32_t>(tokens.size())),
        blocks_((window_tokens + kKvBlockTokens - 1) / kKvBlockTokens) {
    for (int32_t i = 0; i < num_; ++i) {
      positions_.push_back(i % window_tokens);
      seq_slots_.push_back(i / window_tokens);
    }
    block_tables_.resize((num_ / window_tokens) * blocks_);
    std::iota(block_tables_.begin(), block_tables_.end(), 0);
    batch_ = {.rows = {&num_, num_},
              .token_ids = tokens.data(),
              .positions = positions_.data(),
              .seq_slots = seq_slots_.data(),
              .block_tables = block_tables_.data(),
              .blocks_per_seq = blocks_};
  }
  Windows(const Windows&) = delete;
  Windows& operator=(const Windows&) = delete;

  const TokenBatch& batch() const { return batch_; }
  int num_blocks() const { return static_cast<int>(block_tables_.size()); }

 private:
  const int32_t num_;
  const int blocks_;
  std::vector<int32_t> positions_, seq_slots_, block_tables_;
  TokenBatch batch_;
};

}  // namespace

struct DenseForward::State {
  struct Ffn {
    at::Tensor gate, up, down;
  };
  const Checkpoint* checkpoint;
  std::unique_ptr<ComposedDevice> device;
  std::unique_ptr<ModelWeights> weights;  // but for the FFNs
  at::Tensor embedding;
  std::vector<Ffn> ffns;  // all, or none

  absl::StatusOr<at::Tensor> ReadDown(int l) const;
  absl::StatusOr<Ffn> ReadFfn(int l) const;
  absl::Status RunFfn(int l, RowCount rows, const LayerShapes& shapes, LayerWorkspace& w, float* h,
                      const Visitor& visit) const;
};

void SetComputeThreads(int num_threads) { at::set_num_threads(num_threads); }

DenseForward::DenseForward(std::unique_ptr<State> state) : state_(std::move(state)) {}
DenseForward::~DenseForward() = default;

absl::StatusOr<std::unique_ptr<DenseForward>> DenseForward::Load(const Checkpoint& checkpoint,
                                                                 int64_t ffn_bytes_kept) {
  const ModelSpec& spec = checkpoint.spec();
  if (spec.is_moe()) {
    return absl::InvalidArgumentError(absl::StrCat(checkpoint.path(), " has ", spec.num_experts,
                                                   " experts; a dense model is needed"));
  }
  auto state = std::make_unique<State>();
  state->checkpoint = &checkpoint;
  state->device = MakeCpuDevice({.threads = at::get_num_threads()});
  ASSIGN_OR_RETURN(state->weights,
                   ModelWeights::Load(checkpoint, state->device.get(),
                                      {.types = kF32Types, .with_ffn = false}, nullptr));
  ASSIGN_OR_RETURN(state->embedding, ReadTensor(checkpoint, "model.embed_tokens.weight",
                                                {spec.vocab_size, spec.hidden}));
  for (int l = 0; l < spec.num_layers && FfnBytes(spec) <= ffn_bytes_kept; ++l) {
    ASSIGN_OR_RETURN(state->ffns.emplace_back(), state->ReadFfn(l));
  }
  return std::unique_ptr<DenseForward>(new DenseForward(std::move(state)));
}

int64_t DenseForward::WeightBytes(const ModelSpec& spec, int64_t ffn_bytes_kept) {
  int64_t bytes = 0;
  for (const CanonicalTensor& tensor : CanonicalTensors(spec)) {
    bytes += tensor.num_elements() * static_cast<int64_t>(sizeof(float));
  }
  bytes += int64_t{spec.vocab_size} * spec.hidden * static_cast<int64_t>(sizeof(float));
  const int64_t ffns = FfnBytes(spec);
  return ffns <= ffn_bytes_kept ? bytes : bytes - ffns + ffns / spec.num_layers;
}

int DenseForward::windows_at_a_time(int window_tokens) const {
  return state_->ffns.empty() ? std::max(kWindowsKept, kTokensRead / window_tokens) : kWindowsKept;
}

absl::StatusOr<at::Tensor> DenseForward::State::ReadDown(int l) const {
  const ModelSpec& spec = checkpoint->spec();
  return ReadTensor(*checkpoint, absl::StrCat("model.layers.", l, ".mlp.down_proj.weight"),
                    {spec.hidden, spec.intermediate});
}

absl::StatusOr<DenseForward::State::Ffn> DenseForward::State::ReadFfn(int l) const {
  const ModelSpec& spec = checkpoint->spec();
  const std::string p = absl::StrCat("model.layers.", l, ".mlp.");
  const std::vector<int64_t> wide = {spec.intermediate, spec.hidden};
  Ffn ffn;
  ASSIGN_OR_RETURN(ffn.gate, ReadTensor(*checkpoint, p + "gate_proj.weight", wide));
  ASSIGN_OR_RETURN(ffn.up, ReadTensor(*checkpoint, p + "up_proj.weight", wide));
  ASSIGN_OR_RETURN(ffn.down, ReadDown(l));
  return ffn;
}

// The norm and the residual are the device's, so that they are every architecture's; the products
// between them are what is looked at.
absl::Status DenseForward::State::RunFfn(int l, RowCount rows, const LayerShapes& shapes,
                                         LayerWorkspace& w, float* h, const Visitor& visit) const {
  FfnWeights norm_alone = weights->layers()[l].ffn;
  norm_alone.shared.width = 0;
  device->FfnBegin(rows, shapes.ffn, norm_alone, w, h);
  const at::Tensor x = at::from_blob(w.act, {rows.max, shapes.ffn.hidden}, at::kFloat);
  Ffn read;
  if (ffns.empty()) {
    ASSIGN_OR_RETURN(read, ReadFfn(l));
  }
  const Ffn& ffn = ffns.empty() ? read : ffns[l];
  const at::Tensor a = at::silu(at::linear(x, ffn.gate)).mul_(at::linear(x, ffn.up));
  RETURN_IF_ERROR(visit(l, View(a), View(ffn.down)));
  const at::Tensor y = at::linear(a, ffn.down);
  std::memcpy(w.wide, y.data_ptr<float>(), y.numel() * sizeof(float));
  device->FfnEnd(rows, shapes.ffn, weights->layers()[l].ffn, w, h);
  return absl::OkStatus();
}

absl::Status DenseForward::Run(absl::Span<const TokenId> tokens, int window_tokens,
                               const Visitor& visit) const {
  const at::NoGradGuard no_grad;
  const State& s = *state_;
  const ModelSpec& spec = s.weights->spec();
  PREGATE_CHECK(tokens.size() % window_tokens == 0);
  const Windows windows(tokens, window_tokens);
  const TokenBatch& batch = windows.batch();
  const LayerShapes shapes(*s.weights);
  const WorkspaceShape room = {.attention = shapes.attention[0],
                               .act_bytes = s.device->act_bytes(ActType::kF32),
                               .tokens_max = batch.rows.max};
  ASSIGN_OR_RETURN(const DeviceBuffer residual,
                   s.device->Allocate(tokens.size() * spec.hidden * sizeof(float)));
  ASSIGN_OR_RETURN(const DeviceBuffer buffer, s.device->Allocate(LayerWorkspace::Bytes(room)));
  ASSIGN_OR_RETURN(const DeviceBuffer keys_and_values,
                   s.device->Allocate(s.device->KvLayerBytes(
                       windows.num_blocks(), spec.num_kv_heads, spec.head_dim, KvType::kF32)));
  const KvLayer kv = {keys_and_values.as<void>(), windows.num_blocks(), spec.num_kv_heads,
                      spec.head_dim, KvType::kF32};
  LayerWorkspace workspace = LayerWorkspace::At(buffer.as<void>(), room);
  float* h = residual.as<float>();
  s.device->Embed(batch, s.weights->embedding(), spec.embedding_multiplier, h);
  for (int l = 0; l < spec.num_layers; ++l) {
    s.device->AttentionHalf(batch, shapes.attention[l], s.weights->layers()[l].attention, kv,
                            workspace, h);
    RETURN_IF_ERROR(s.RunFfn(l, batch.rows, shapes, workspace, h, visit));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::vector<float>>> DenseForward::DownNorms() const {
  std::vector<std::vector<float>> out;
  for (int l = 0; l < state_->weights->spec().num_layers; ++l) {
    at::Tensor down;
    if (state_->ffns.empty()) {
      ASSIGN_OR_RETURN(down, state_->ReadDown(l));
    } else {
      down = state_->ffns[l].down;
    }
    const at::Tensor norms = down.square().sum(0);
    const auto view = View(norms);
    out.emplace_back(view.begin(), view.end());
  }
  return out;
}

absl::Span<const float> DenseForward::Embedding() const { return View(state_->embedding); }

}  // namespace pregate
