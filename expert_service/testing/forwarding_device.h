// A device that has another one do everything; what a test's device does itself, it overrides.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "common/device/device.h"

namespace pregate {

class ForwardingDevice : public Device {
 public:
  explicit ForwardingDevice(std::unique_ptr<Device> inner) : inner_(std::move(inner)) {}

  std::string name() const override { return inner_->name(); }
  std::string numerics_id(const StepTypes& types) const override {
    return inner_->numerics_id(types);
  }
  size_t act_bytes(ActType type) const override { return inner_->act_bytes(type); }

  absl::StatusOr<DeviceMemory> Memory() const override { return inner_->Memory(); }
  absl::StatusOr<DeviceBuffer> Allocate(size_t bytes) override { return inner_->Allocate(bytes); }
  absl::StatusOr<DeviceBuffer> AllocateHost(size_t bytes) override {
    return inner_->AllocateHost(bytes);
  }
  void Upload(void* dst, const void* host_src, size_t bytes) override {
    inner_->Upload(dst, host_src, bytes);
  }
  void Download(void* host_dst, const void* src, size_t bytes) override {
    inner_->Download(host_dst, src, bytes);
  }
  absl::Status Synchronize() override { return inner_->Synchronize(); }
  std::unique_ptr<TransferQueue> MakeTransferQueue() override {
    return inner_->MakeTransferQueue();
  }

  void BeginMoments() override { inner_->BeginMoments(); }
  void NoteMoment(int moment) override { inner_->NoteMoment(moment); }
  absl::Time MomentOf(int moment) override { return inner_->MomentOf(moment); }
  bool has_clock() const override { return inner_->has_clock(); }

  size_t MatrixBytes(int outputs, int inputs, WeightFormat format) const override {
    return inner_->MatrixBytes(outputs, inputs, format);
  }
  void PackMatrixRows(const WeightRows& rows, int64_t first, const Matrix& shape,
                      void* host_image) const override {
    inner_->PackMatrixRows(rows, first, shape, host_image);
  }
  size_t UnitBytes(const UnitShape& shape) const override { return inner_->UnitBytes(shape); }
  void PackUnitRows(UnitTensor tensor, const WeightRows& rows, int64_t first,
                    const UnitShape& shape, void* host_image) const override {
    inner_->PackUnitRows(tensor, rows, first, shape, host_image);
  }
  absl::StatusOr<std::unique_ptr<ImageWriter>> MakeImageWriter() override {
    return inner_->MakeImageWriter();
  }
  bool host_memory() const override { return inner_->host_memory(); }
  size_t KvLayerBytes(int num_blocks, int num_kv_heads, int head_dim, KvType type) const override {
    return inner_->KvLayerBytes(num_blocks, num_kv_heads, head_dim, type);
  }

  void Embed(const TokenBatch& batch, const Matrix& table, float scale, float* out) override {
    inner_->Embed(batch, table, scale, out);
  }
  void AttentionHalf(const TokenBatch& batch, const AttentionShape& shape,
                     const AttentionWeights& weights, const KvLayer& kv,
                     const LayerWorkspace& workspace, float* h) override {
    inner_->AttentionHalf(batch, shape, weights, kv, workspace, h);
  }
  void StoreKv(const TokenBatch& batch, const AttentionShape& shape,
               const AttentionWeights& weights, const KvLayer& kv, const LayerWorkspace& workspace,
               const float* h) override {
    inner_->StoreKv(batch, shape, weights, kv, workspace, h);
  }
  void FfnHalf(RowCount rows, const FfnShape& shape, const FfnWeights& weights,
               const ExpertGroups& groups, const void* const* units,
               const LayerWorkspace& workspace, float* h) override {
    inner_->FfnHalf(rows, shape, weights, groups, units, workspace, h);
  }
  void FfnBegin(RowCount rows, const FfnShape& shape, const FfnWeights& weights,
                const LayerWorkspace& workspace, const float* h) override {
    inner_->FfnBegin(rows, shape, weights, workspace, h);
  }
  void ExpertFfn(RowCount rows, ActType act, const void* act_in, const ExpertGroups& groups,
                 const void* const* units, const UnitShape& shape, float* out) override {
    inner_->ExpertFfn(rows, act, act_in, groups, units, shape, out);
  }
  void FfnEnd(RowCount rows, const FfnShape& shape, const FfnWeights& weights,
              const LayerWorkspace& workspace, float* h) override {
    inner_->FfnEnd(rows, shape, weights, workspace, h);
  }
  bool LayersAtOnce(const TokenBatch& batch, absl::Span<const LayerCall> layers,
                    const FfnShape& ffn, const ExpertGroups& groups,
                    const LayerWorkspace& workspace, float* h) override {
    return inner_->LayersAtOnce(batch, layers, ffn, groups, workspace, h);
  }
  void Mlp(RowCount rows, const MlpShape& shape, const MlpWeights& weights,
           const LayerWorkspace& workspace, float* h) override {
    inner_->Mlp(rows, shape, weights, workspace, h);
  }
  void Emit(const EmitHead& head, const EmitArgs& args, const LayerWorkspace& workspace,
            const float* h) override {
    inner_->Emit(head, args, workspace, h);
  }

  void BuildGroups(RowCount rows, const int32_t* routes, const ExpertGroups& groups) override {
    inner_->BuildGroups(rows, routes, groups);
  }
  void BuildExchange(RowCount tokens, const ExchangeArgs& args,
                     const ExchangeArrays& out) override {
    inner_->BuildExchange(tokens, args, out);
  }
  void ActToWire(RowCount rows, int width, ActType act_type, const void* act, const int32_t* index,
                 WireType wire_type, void* wire) override {
    inner_->ActToWire(rows, width, act_type, act, index, wire_type, wire);
  }
  void WireToAct(RowCount rows, int width, WireType wire_type, const void* wire, ActType act_type,
                 void* act) override {
    inner_->WireToAct(rows, width, wire_type, wire, act_type, act);
  }
  void RoundToWire(RowCount rows, int width, const float* x, WireType wire_type,
                   void* wire) override {
    inner_->RoundToWire(rows, width, x, wire_type, wire);
  }
  void WireToRows(RowCount rows, int width, WireType wire_type, const void* wire,
                  const int32_t* index, float* out) override {
    inner_->WireToRows(rows, width, wire_type, wire, index, out);
  }
  void ArgMax(RowCount rows, int width, const float* x, int32_t* out) override {
    inner_->ArgMax(rows, width, x, out);
  }
  void NoteTokens(RowCount rows, const int32_t* token_ids, const int32_t* positions,
                  const int32_t* seq_slots, int vocab_size, const TokenHistory& history) override {
    inner_->NoteTokens(rows, token_ids, positions, seq_slots, vocab_size, history);
  }
  void ResolveLate(RowCount rows, const uint8_t* late, const int32_t* seq_slots,
                   const int32_t* last_token, const int32_t* last_route, int32_t* token_ids,
                   int32_t* routes) override {
    inner_->ResolveLate(rows, late, seq_slots, last_token, last_route, token_ids, routes);
  }
  void ScatterToSlots(RowCount rows, const int32_t* values, const int32_t* seq_slots,
                      int32_t* last) override {
    inner_->ScatterToSlots(rows, values, seq_slots, last);
  }

 private:
  const std::unique_ptr<Device> inner_;
};

}  // namespace pregate
