#include "common/device/cpu/cpu_device.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <thread>
#include <vector>

#include "common/base/status.h"
#include "common/device/cpu/attention.h"
#include "common/device/cpu/exchange.h"
#include "common/device/cpu/kernels.h"
#include "common/device/cpu/memory.h"
#include "common/device/cpu/products.h"
#include "common/device/cpu/sampler.h"
#include "common/device/cpu/thread_pool.h"
#include "common/device/cpu/transfer_queue.h"
#include "common/device/cpu/weights/panels.h"
#include "common/device/host_image_writer.h"
#include "common/device/rounding.h"

namespace pregate {
namespace {

// Part of the numerics id: raised with every change to the order or the formulas of a kernel's
// sums.
constexpr int kKernelSet = 1;

int ThreadCount(int threads) {
  PREGATE_CHECK(threads >= 0, "threads ", threads);
  if (threads > 0) return threads;
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

class CpuDevice final : public ComposedDevice {
 public:
  explicit CpuDevice(int threads)
      : pool_(threads), products_(pool_), attention_(pool_), samplers_(threads) {}

  std::string name() const override {
    return absl::StrCat("cpu ", cpu::TargetName(), ", ", pool_.threads(), " threads");
  }
  std::string numerics_id(const StepTypes& types) const override {
    return absl::StrCat("cpu-", kKernelSet, "/", cpu::NumericsClass(), "/", TypesName(types));
  }
  size_t act_bytes(ActType) const override { return sizeof(float); }

  absl::StatusOr<DeviceMemory> Memory() const override { return HostMemory(); }
  absl::StatusOr<DeviceBuffer> Allocate(size_t bytes) override { return AllocateHost(bytes); }
  absl::StatusOr<DeviceBuffer> AllocateHost(size_t bytes) override {
    DeviceBuffer buffer = cpu::AllocateZeroed(bytes);
    if (buffer.as<void>() != nullptr) return buffer;
    return absl::ResourceExhaustedError(
        absl::StrCat("cpu device: cannot allocate ", bytes, " bytes"));
  }
  void Upload(void* dst, const void* host_src, size_t bytes) override {
    if (bytes > 0) std::memcpy(dst, host_src, bytes);
  }
  void Download(void* host_dst, const void* src, size_t bytes) override {
    if (bytes > 0) std::memcpy(host_dst, src, bytes);
  }
  absl::Status Synchronize() override { return absl::OkStatus(); }
  std::unique_ptr<TransferQueue> MakeTransferQueue() override {
    return std::make_unique<cpu::ThreadTransferQueue>();
  }

  size_t MatrixBytes(int outputs, int inputs, WeightFormat format) const override {
    return cpu::MatrixImageBytes(outputs, inputs, format);
  }
  void PackMatrixRows(const WeightRows& rows, int64_t first, const Matrix& shape,
                      void* host_image) const override {
    cpu::PackMatrixRows(rows, first, shape, host_image);
  }
  size_t UnitBytes(const UnitShape& shape) const override { return cpu::UnitImageBytes(shape); }
  void PackUnitRows(UnitTensor tensor, const WeightRows& rows, int64_t first,
                    const UnitShape& shape, void* host_image) const override {
    cpu::PackUnitRows(tensor, rows, first, shape, host_image);
  }
  absl::StatusOr<std::unique_ptr<ImageWriter>> MakeImageWriter() override {
    return std::make_unique<HostImageWriter>(this);
  }
  bool host_memory() const override { return true; }
  size_t KvLayerBytes(int num_blocks, int num_kv_heads, int head_dim, KvType type) const override {
    return cpu::KvImageBytes(num_blocks, num_kv_heads, head_dim, type);
  }

  void Embed(const TokenBatch& batch, const Matrix& table, float scale, float* out) override {
    pool_.Run(*batch.rows.num, [&](int64_t r, int) {
      const int64_t id = batch.token_ids[r];
      PREGATE_CHECK(id >= 0 && id < table.outputs, "token id ", id, " of ", table.outputs);
      float* row = out + r * table.inputs;
      cpu::UnpackRow(table, id, row);
      for (int i = 0; i < table.inputs; ++i) row[i] *= scale;
    });
  }
  void RmsNorm(RowCount rows, int width, const float* x, const float* weight, float eps,
               ActType act, void* act_out) override {
    float* out = static_cast<float*>(act_out);
    ForRows(rows, width, [&](int64_t r) {
      cpu::RmsNormRow(x + r * width, weight, width, eps, act, out + r * width);
    });
  }
  void Linear(RowCount rows, ActType, const void* act_in, const Matrix& w, const float* bias,
              float* out) override {
    products_.Linear(*rows.num, static_cast<const float*>(act_in), w, bias, out);
  }
  void RotateAndStore(const TokenBatch& batch, const AttentionShape& shape, const HeadNorms& norms,
                      const float* qkv, const KvLayer& kv, float* q_out) override {
    attention_.RotateAndStore(batch, shape, norms, qkv, kv, q_out);
  }
  void Attention(const TokenBatch& batch, const AttentionShape& shape, const float* q,
                 const KvLayer& kv, void* act_out) override {
    attention_.Attention(batch, shape, q, kv, static_cast<float*>(act_out));
  }
  void ExpertFfn(RowCount rows, ActType act, const void* act_in, const ExpertGroups& groups,
                 const void* const* units, const UnitShape& shape, float* out) override {
    products_.ExpertFfn(rows, act, static_cast<const float*>(act_in), groups, units, shape, out);
  }
  void AddFfn(RowCount rows, int width, const float* shared, const float* own, WireType wire,
              float scale, float* h) override {
    ForRows(rows, width, [&](int64_t r) {
      const int64_t at = r * width;
      cpu::AddFfnRow(shared == nullptr ? nullptr : shared + at, own == nullptr ? nullptr : own + at,
                     width, wire, scale, h + at);
    });
  }
  void AddResidual(RowCount rows, int width, const float* y, float scale, float* h) override {
    AddFfn(rows, width, y, nullptr, WireType::kF32, scale, h);
  }
  void BuildGroups(RowCount rows, const int32_t* routes, const ExpertGroups& groups) override {
    const int num_experts = groups.num_experts;
    std::fill_n(groups.offsets, num_experts + 1, 0);
    for (int r = 0; r < *rows.num; ++r) {
      if (routes[r] >= 0 && routes[r] < num_experts) ++groups.offsets[routes[r] + 1];
    }
    for (int e = 0; e < num_experts; ++e) groups.offsets[e + 1] += groups.offsets[e];
    // offsets[e] walks to its group's end, which is where the next group began: shifted back below.
    for (int r = 0; r < *rows.num; ++r) {
      if (routes[r] >= 0 && routes[r] < num_experts) groups.order[groups.offsets[routes[r]]++] = r;
    }
    std::copy_backward(groups.offsets, groups.offsets + num_experts,
                       groups.offsets + num_experts + 1);
    groups.offsets[0] = 0;
  }
  void BuildExchange(RowCount tokens, const ExchangeArgs& args,
                     const ExchangeArrays& out) override {
    cpu::BuildExchange(tokens, args, out);
  }
  void ActToWire(RowCount rows, int width, ActType, const void* act, const int32_t* index,
                 WireType type, void* wire) override {
    const int64_t row_bytes = width * ElementBytes(type);
    ForRows(rows, width, [&](int64_t r) {
      if (index[r] < 0) return;
      cpu::FloatsToWire(static_cast<const float*>(act) + int64_t{index[r]} * width, width, type,
                        static_cast<char*>(wire) + r * row_bytes);
    });
  }
  void WireToAct(RowCount rows, int width, WireType type, const void* wire, ActType act_type,
                 void* act) override {
    const int64_t row_bytes = width * ElementBytes(type);
    ForRows(rows, width, [&](int64_t r) {
      float* out = static_cast<float*>(act) + r * width;
      cpu::WireToFloats(static_cast<const char*>(wire) + r * row_bytes, width, type, out);
      if (ElementBytes(act_type) >= ElementBytes(type)) return;
      std::transform(out, out + width, out, [&](float x) { return RoundTo(act_type, x); });
    });
  }
  void RoundToWire(RowCount rows, int width, const float* x, WireType type, void* wire) override {
    const int64_t row_bytes = width * ElementBytes(type);
    ForRows(rows, width, [&](int64_t r) {
      cpu::FloatsToWire(x + r * width, width, type, static_cast<char*>(wire) + r * row_bytes);
    });
  }
  void WireToRows(RowCount rows, int width, WireType type, const void* wire, const int32_t* index,
                  float* out) override {
    const int64_t row_bytes = width * ElementBytes(type);
    ForRows(rows, width, [&](int64_t r) {
      if (index[r] < 0) return;
      cpu::WireToFloats(static_cast<const char*>(wire) + r * row_bytes, width, type,
                        out + int64_t{index[r]} * width);
    });
  }
  void GatherRows(RowCount rows, int width, const float* x, const int32_t* index,
                  float* out) override {
    for (int64_t r = 0; r < *rows.num; ++r) {
      std::memcpy(out + r * width, x + int64_t{index[r]} * width, size_t{4} * width);
    }
  }
  void Activate(RowCount rows, int width, RouterActivation activation, const float* x, ActType act,
                void* act_out) override {
    float* out = static_cast<float*>(act_out);
    ForRows(rows, width, [&](int64_t r) {
      cpu::ActivateRow(activation, x + r * width, width, act, out + r * width);
    });
  }
  void ArgMax(RowCount rows, int width, const float* x, int32_t* out) override {
    ForRows(rows, width, [&](int64_t r) {
      out[r] = static_cast<int32_t>(cpu::ArgMaxRow(x + r * width, width));
    });
  }
  void SampleTokens(RowCount rows, int vocab_size, const float* logits,
                    const SampleArgs& args) override {
    for (cpu::Sampler& sampler : samplers_) sampler.Reserve(vocab_size);
    pool_.Run(*rows.num, [&](int64_t r, int thread) {
      const float* row = logits + r * vocab_size;
      const bool finite = cpu::AllFinite(row, vocab_size);
      args.not_finite[r] = !finite;
      args.tokens[r] = finite ? samplers_[thread].Sample(row, vocab_size, args, r) : 0;
    });
  }
  void NoteTokens(RowCount rows, const int32_t* token_ids, const int32_t* positions,
                  const int32_t* seq_slots, int vocab_size, const TokenHistory& history) override {
    const int64_t words = SeenWords(vocab_size);
    for (int r = 0; r < *rows.num; ++r) {
      const int64_t slot = seq_slots[r], id = token_ids[r];
      history.seen[slot * words + id / 32] |= 1u << (id % 32);
      if (positions[r] < history.counted_from[slot]) continue;
      uint16_t& count = history.counts[slot * words * 32 + id];
      if (count < UINT16_MAX) ++count;
    }
  }
  void ScoreTokens(RowCount rows, int vocab_size, const float* logits,
                   const ScoreArgs& args) override {
    pool_.Run(*rows.num, [&](int64_t r, int) {
      const float* row = logits + r * vocab_size;
      const int64_t best = cpu::ArgMaxRow(row, vocab_size);
      const double log_sum = std::log(cpu::SumExp(row, vocab_size, row[best]));
      const int32_t target = args.targets[r];
      args.logprobs[r] = static_cast<float>(double{row[target]} - row[best] - log_sum);
      args.greedy[r] = best == target;
    });
  }
  void ResolveLate(RowCount rows, const uint8_t* late, const int32_t* seq_slots,
                   const int32_t* last_token, const int32_t* last_route, int32_t* token_ids,
                   int32_t* routes) override {
    for (int r = 0; r < *rows.num; ++r) {
      if (late[r] == 0) continue;
      token_ids[r] = last_token[seq_slots[r]];
      routes[r] = last_route[seq_slots[r]];
    }
  }
  void ScatterToSlots(RowCount rows, const int32_t* values, const int32_t* seq_slots,
                      int32_t* last) override {
    for (int r = 0; r < *rows.num; ++r) last[seq_slots[r]] = values[r];
  }

 private:
  // Light work on rows: waking threads up pays only from a few thousand elements on.
  template <class F>
  void ForRows(RowCount rows, int64_t width, const F& row) {
    constexpr int64_t kTaskElements = 8192;
    const int64_t n = *rows.num;
    const int64_t rows_per_task = std::max<int64_t>(1, kTaskElements / std::max<int64_t>(1, width));
    pool_.Run(cpu::CeilDiv(n, rows_per_task), [&](int64_t task, int) {
      const int64_t end = std::min(n, (task + 1) * rows_per_task);
      for (int64_t r = task * rows_per_task; r < end; ++r) row(r);
    });
  }

  cpu::ThreadPool pool_;
  cpu::Products products_;
  cpu::AttentionOps attention_;
  std::vector<cpu::Sampler> samplers_;  // [threads]
};

}  // namespace

std::unique_ptr<ComposedDevice> MakeCpuDevice(const CpuDeviceOptions& options) {
  return std::make_unique<CpuDevice>(ThreadCount(options.threads));
}

}  // namespace pregate
