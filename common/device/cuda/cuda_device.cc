#include "common/device/cuda/cuda_device.h"

#include <algorithm>
#include <utility>

#include "common/base/status.h"
#include "common/device/cuda/arguments.h"
#include "common/device/cuda/device_runtime.h"
#include "common/device/cuda/kernels.h"
#include "common/device/cuda/layer_launches.h"
#include "common/device/cuda/scratch.h"
#include "common/device/cuda/staging.h"
#include "common/device/cuda/step_layers.h"
#include "common/device/cuda/transfer_queue.h"
#include "common/device/cuda/upload_lane.h"
#include "common/device/cuda/weights/image.h"
#include "common/device/cuda/weights/products.h"
#include "common/device/staged_writer.h"

namespace pregate {
namespace {

// Part of the numerics id: raised with every change to the order or the formulas of a kernel's
// sums.
constexpr int kKernelSet = 5;

template <class Type>
bool IsBf16(Type type) {
  return type == Type::kBF16;
}
using cuda::ToHeads;
using cuda::ToPaged;
using cuda::ToRows;
cuda::PagedKv ToKv(const KvLayer& kv) { return {kv.data, kv.num_blocks, IsBf16(kv.type)}; }

class CudaDeviceImpl final : public CudaDevice {
 public:
  static absl::StatusOr<std::unique_ptr<CudaDevice>> Create(const CudaDeviceOptions& options) {
    std::unique_ptr<CudaDeviceImpl> device(new CudaDeviceImpl);
    ASSIGN_OR_RETURN(device->runtime_, cuda::CudaRuntime::Create(options.ordinal));
    cuda::CudaRuntime* runtime = device->runtime_.get();
    ASSIGN_OR_RETURN(device->uploads_, cuda::UploadRing::Create(runtime));
    ASSIGN_OR_RETURN(device->downloads_, cuda::DownloadBuffer::Create(runtime));
    ASSIGN_OR_RETURN(device->products_, cuda::Products::Create(runtime));
    device->tile_sums_ = std::make_unique<cuda::Scratch>(runtime);
    if (options.step_kernel) {
      device->step_layers_ = std::make_unique<cuda::StepLayers>(runtime, device->uploads_.get(),
                                                                device->tile_sums_.get());
    }
    device->launches_ =
        std::make_unique<cuda::LayerLaunches>(runtime, device->products_.get(), device.get());
    return device;
  }

  std::string name() const override {
    return absl::StrCat("cuda ", runtime_->ordinal(), ": ", runtime_->properties().name);
  }
  // The library and the card choose the algorithms of products.
  std::string numerics_id(const StepTypes& types) const override {
    std::string card = runtime_->properties().name;
    std::replace(card.begin(), card.end(), ' ', '-');
    return absl::StrCat("cuda-", kKernelSet, "/", card, "/cublaslt-", cublasLtGetVersion(), "/",
                        TypesName(types));
  }
  size_t act_bytes(ActType type) const override { return ElementBytes(type); }
  CudaCounts counts() const override { return runtime_->counts(); }
  void* stream() const override { return runtime_->handle(); }
  int ordinal() const override { return runtime_->ordinal(); }

  absl::StatusOr<DeviceMemory> Memory() const override { return runtime_->Memory(); }
  absl::StatusOr<DeviceBuffer> Allocate(size_t bytes) override { return runtime_->Allocate(bytes); }
  absl::StatusOr<DeviceBuffer> AllocateHost(size_t bytes) override {
    return runtime_->AllocateHost(bytes);
  }
  void Upload(void* dst, const void* host_src, size_t bytes) override {
    runtime_->Use();
    uploads_->Upload(dst, host_src, bytes);
  }
  void Download(void* host_dst, const void* src, size_t bytes) override {
    runtime_->Use();
    downloads_->Download(host_dst, src, bytes);
  }
  absl::Status Synchronize() override {
    absl::Status status = runtime_->Synchronize();
    downloads_->Deliver();
    uploads_->Reset();
    return status;
  }
  void BeginMoments() override { runtime_->BeginMoments(); }
  void NoteMoment(int moment) override { runtime_->NoteMoment(moment); }
  absl::Time MomentOf(int moment) override { return runtime_->MomentOf(moment); }
  bool has_clock() const override { return true; }
  std::unique_ptr<TransferQueue> MakeTransferQueue() override {
    return std::make_unique<cuda::StreamTransferQueue>(runtime_.get());
  }

  size_t MatrixBytes(int outputs, int inputs, WeightFormat format) const override {
    return cuda::MatrixImageBytes(outputs, inputs, format);
  }
  void PackMatrixRows(const WeightRows& rows, int64_t first, const Matrix& shape,
                      void* host_image) const override {
    layout_.PackMatrixRows(rows, first, shape, host_image);
  }
  size_t UnitBytes(const UnitShape& shape) const override { return cuda::SectionsOf(shape).end; }
  void PackUnitRows(UnitTensor tensor, const WeightRows& rows, int64_t first,
                    const UnitShape& shape, void* host_image) const override {
    layout_.PackUnitRows(tensor, rows, first, shape, host_image);
  }
  absl::StatusOr<std::unique_ptr<ImageWriter>> MakeImageWriter() override {
    ASSIGN_OR_RETURN(std::unique_ptr<Staging> lane, cuda::UploadLane::Create(runtime_.get()));
    return std::make_unique<StagedImageWriter>(&layout_, std::move(lane));
  }
  bool host_memory() const override { return false; }
  size_t KvLayerBytes(int num_blocks, int num_kv_heads, int head_dim, KvType type) const override {
    return size_t{2} * num_blocks * num_kv_heads * kKvBlockTokens * head_dim * ElementBytes(type);
  }

  void Embed(const TokenBatch& batch, const Matrix& table, float scale, float* out) override {
    products_->Embed(batch.rows, batch.token_ids, table, scale, out);
  }
  void RmsNorm(RowCount rows, int width, const float* x, const float* weight, float eps,
               ActType act, void* act_out) override {
    cuda::RmsNorm(stream_in_use(), ToRows(rows), width, x, weight, eps, IsBf16(act), act_out);
  }
  void Linear(RowCount rows, ActType act, const void* act_in, const Matrix& w, const float* bias,
              float* out) override {
    products_->Linear(rows, act, act_in, w, bias, out);
  }
  void RotateAndStore(const TokenBatch& batch, const AttentionShape& shape, const HeadNorms& norms,
                      const float* qkv, const KvLayer& kv, float* q_out) override {
    PREGATE_CHECK(shape.head_dim <= cuda::kHeadDimMax, "head_dim ", shape.head_dim);
    cuda::RotateAndStore(
        stream_in_use(), ToPaged(batch), ToHeads(shape),
        {shape.rope.dims, shape.rope.inv_freq, shape.rope.scale, norms.q, norms.k, shape.norm_eps},
        qkv, ToKv(kv), q_out);
  }
  void Attention(const TokenBatch& batch, const AttentionShape& shape, const float* q,
                 const KvLayer& kv, void* act_out) override {
    PREGATE_CHECK(shape.head_dim <= cuda::kHeadDimMax, "head_dim ", shape.head_dim);
    const size_t bytes = cuda::AttentionBytes(ToPaged(batch), ToHeads(shape), IsBf16(kv.type));
    cuda::Attention(stream_in_use(), ToPaged(batch), ToHeads(shape), q, ToKv(kv), shape.scale,
                    shape.window, IsBf16(shape.act),
                    bytes > 0 ? tile_sums_->TryGet(bytes) : nullptr, act_out);
  }
  bool LayersAtOnce(const TokenBatch& batch, absl::Span<const LayerCall> layers,
                    const FfnShape& ffn, const ExpertGroups& groups,
                    const LayerWorkspace& workspace, float* h) override {
    for (const LayerCall& layer : layers) {
      if (layer.ffn.own.width > 0 && layer.units == nullptr) return false;
    }
    if (step_layers_ == nullptr || !step_layers_->Run(batch, layers, ffn, groups, workspace, h)) {
      launches_->Run(batch, layers, ffn, groups, workspace, h);
    }
    return true;
  }
  void ExpertFfn(RowCount rows, ActType act, const void* act_in, const ExpertGroups& groups,
                 const void* const* units, const UnitShape& shape, float* out) override {
    products_->Ffn(rows, act, act_in, {groups, units, shape, out}, nullptr);
  }
  // The products of both parts go side by side.
  void FfnHalf(RowCount rows, const FfnShape& shape, const FfnWeights& weights,
               const ExpertGroups& groups, const void* const* units, const LayerWorkspace& w,
               float* h) override {
    RmsNorm(rows, shape.hidden, h, weights.norm, shape.norm_eps, shape.act, w.act);
    products_->FfnParts(rows, shape.act, weights, groups, units, w);
    FfnEnd(rows, shape, weights, w, h);
  }
  void AddFfn(RowCount rows, int width, const float* shared, const float* own, WireType wire,
              float scale, float* h) override {
    cuda::AddFfn(stream_in_use(), ToRows(rows), width, shared, own, IsBf16(wire), scale, h);
  }
  void AddResidual(RowCount rows, int width, const float* y, float scale, float* h) override {
    cuda::AddFfn(stream_in_use(), ToRows(rows), width, y, nullptr, false, scale, h);
  }
  void BuildGroups(RowCount rows, const int32_t* routes, const ExpertGroups& groups) override {
    cuda::BuildGroups(stream_in_use(), ToRows(rows), routes, groups.num_experts, groups.offsets,
                      groups.order);
  }
  void BuildExchange(RowCount tokens, const ExchangeArgs& args,
                     const ExchangeArrays& out) override {
    PREGATE_CHECK(args.world_size * args.num_experts <= cuda::kExchangePairsMax, "ranks ",
                  args.world_size, " experts ", args.num_experts);
    cuda::BuildExchange(
        stream_in_use(),
        {ToRows(tokens), args.rank, args.world_size, args.num_experts, args.stride, args.home_ranks,
         args.routes, args.targets, out.send_rows, out.received.offsets, out.received.order});
  }
  void ActToWire(RowCount rows, int width, ActType act_type, const void* act, const int32_t* index,
                 WireType wire_type, void* wire) override {
    cuda::CopyToWire(stream_in_use(), ToRows(rows), width, IsBf16(act_type), act, index,
                     IsBf16(wire_type), wire);
  }
  void WireToAct(RowCount rows, int width, WireType wire_type, const void* wire, ActType act_type,
                 void* act) override {
    cuda::CopyToWire(stream_in_use(), ToRows(rows), width, IsBf16(wire_type), wire, nullptr,
                     IsBf16(act_type), act);
  }
  void RoundToWire(RowCount rows, int width, const float* x, WireType type, void* wire) override {
    cuda::RoundRows(stream_in_use(), ToRows(rows), width, x, IsBf16(type), wire);
  }
  void WireToRows(RowCount rows, int width, WireType type, const void* wire, const int32_t* index,
                  float* out) override {
    cuda::WidenToRows(stream_in_use(), ToRows(rows), width, IsBf16(type), wire, index, out);
  }
  void GatherRows(RowCount rows, int width, const float* x, const int32_t* index,
                  float* out) override {
    cuda::GatherRows(stream_in_use(), ToRows(rows), width, x, index, out);
  }
  void Activate(RowCount rows, int width, RouterActivation activation, const float* x, ActType act,
                void* act_out) override {
    cuda::Activate(stream_in_use(), ToRows(rows), width, activation == RouterActivation::kSilu, x,
                   IsBf16(act), act_out);
  }
  void ArgMax(RowCount rows, int width, const float* x, int32_t* out) override {
    cuda::ArgMax(stream_in_use(), ToRows(rows), width, x, out);
  }
  void SampleTokens(RowCount rows, int vocab_size, const float* logits,
                    const SampleArgs& args) override {
    cuda::SampleTokens(stream_in_use(), {ToRows(rows), logits, vocab_size, args});
  }
  void NoteTokens(RowCount rows, const int32_t* token_ids, const int32_t* positions,
                  const int32_t* seq_slots, int vocab_size, const TokenHistory& history) override {
    cuda::NoteTokens(stream_in_use(), ToRows(rows), token_ids, positions, seq_slots,
                     static_cast<int>(SeenWords(vocab_size)), history);
  }
  void ScoreTokens(RowCount rows, int vocab_size, const float* logits,
                   const ScoreArgs& args) override {
    cuda::ScoreTokens(stream_in_use(), ToRows(rows), vocab_size, logits, args.targets,
                      args.logprobs, args.greedy);
  }
  void ResolveLate(RowCount rows, const uint8_t* late, const int32_t* seq_slots,
                   const int32_t* last_token, const int32_t* last_route, int32_t* token_ids,
                   int32_t* routes) override {
    cuda::ResolveLate(stream_in_use(), ToRows(rows), late, seq_slots, last_token, last_route,
                      token_ids, routes);
  }
  void ScatterToSlots(RowCount rows, const int32_t* values, const int32_t* seq_slots,
                      int32_t* last) override {
    cuda::ScatterToSlots(stream_in_use(), ToRows(rows), values, seq_slots, last);
  }

 private:
  CudaDeviceImpl() = default;
  cuda::Stream& stream_in_use() {
    runtime_->Use();
    return runtime_->stream();
  }

  const cuda::PaddedRows layout_;
  // Destroyed in reverse order.
  std::unique_ptr<cuda::CudaRuntime> runtime_;
  std::unique_ptr<cuda::UploadRing> uploads_;
  std::unique_ptr<cuda::DownloadBuffer> downloads_;
  std::unique_ptr<cuda::Products> products_;
  std::unique_ptr<cuda::Scratch> tile_sums_;       // of attention
  std::unique_ptr<cuda::StepLayers> step_layers_;  // null: not wanted
  std::unique_ptr<cuda::LayerLaunches> launches_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<CudaDevice>> MakeCudaDevice(const CudaDeviceOptions& options) {
  return CudaDeviceImpl::Create(options);
}

}  // namespace pregate
