#include "common/device/reference/reference_device.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <vector>

#include "common/base/status.h"
#include "common/device/reference/reference_ops.h"
#include "common/device/reference/weights/rounded_rows.h"
#include "common/device/rounding.h"
#include "common/device/staged_writer.h"

namespace pregate {
namespace {

constexpr std::align_val_t kAlignment{256};

double Silu(double x) { return x / (1 + std::exp(-x)); }

double Dot(const float* a, const float* b, int n) {
  double sum = 0;
  for (int i = 0; i < n; ++i) sum += double{a[i]} * b[i];
  return sum;
}

class ImmediateTransferQueue final : public TransferQueue {
 public:
  uint64_t Mark() override { return ++num_marks_; }
  uint64_t Copy(void* dst, const void* host_src, size_t bytes, uint64_t) override {
    TransferSpan copy = {.begin = SteadyNow()};
    if (bytes > 0) std::memcpy(dst, host_src, bytes);
    copy.end = SteadyNow();
    if (spans_.size() < kTransferSpansMax) spans_.push_back(copy);
    return ++num_copies_;
  }
  void Await(uint64_t) override {}
  uint64_t num_done() override { return num_copies_; }
  absl::Duration stalled() override { return absl::ZeroDuration(); }
  std::vector<TransferSpan> TakeSpans() override { return std::exchange(spans_, {}); }

 private:
  uint64_t num_marks_ = 0;
  uint64_t num_copies_ = 0;
  std::vector<TransferSpan> spans_;
};

// Copies as late as it may.
class LateStaging final : public Staging {
 public:
  std::byte* Take() override {
    current_ = 1 - current_;
    Settle(segments_[current_]);
    return segments_[current_].bytes.get();
  }
  void Copy(void* dst, size_t bytes) override {
    segments_[current_].dst = dst;
    segments_[current_].to_copy = bytes;
  }
  absl::Status Finish() override {
    for (Segment& segment : segments_) Settle(segment);
    return absl::OkStatus();
  }

 private:
  struct Segment {
    std::unique_ptr<std::byte[]> bytes =
        std::make_unique_for_overwrite<std::byte[]>(kStagedSegmentBytes);
    void* dst = nullptr;
    size_t to_copy = 0;
  };
  static void Settle(Segment& segment) {
    if (segment.to_copy > 0) std::memcpy(segment.dst, segment.bytes.get(), segment.to_copy);
    segment.to_copy = 0;
  }
  Segment segments_[2];
  int current_ = 0;
};

// Matrices and units are kept as rounded floats, row-major; a unit is gate, up, down.
class ReferenceDevice final : public ComposedDevice {
 public:
  std::string name() const override { return "reference"; }
  std::string numerics_id(const StepTypes& types) const override {
    return absl::StrCat("reference/", TypesName(types));
  }
  size_t act_bytes(ActType) const override { return sizeof(float); }

  absl::StatusOr<DeviceMemory> Memory() const override { return HostMemory(); }
  absl::StatusOr<DeviceBuffer> Allocate(size_t bytes) override {
    void* data = ::operator new(std::max<size_t>(bytes, 1), kAlignment, std::nothrow);
    if (data == nullptr) {
      return absl::ResourceExhaustedError(absl::StrCat("reference device: ", bytes, " bytes"));
    }
    std::memset(data, 0, bytes);
    return DeviceBuffer(data, bytes, [](void* p) { ::operator delete(p, kAlignment); });
  }
  void Upload(void* dst, const void* host_src, size_t bytes) override {
    if (bytes > 0) std::memcpy(dst, host_src, bytes);
  }
  void Download(void* host_dst, const void* src, size_t bytes) override {
    if (bytes > 0) std::memcpy(host_dst, src, bytes);
  }
  absl::StatusOr<DeviceBuffer> AllocateHost(size_t bytes) override { return Allocate(bytes); }
  absl::Status Synchronize() override { return absl::OkStatus(); }
  std::unique_ptr<TransferQueue> MakeTransferQueue() override {
    return std::make_unique<ImmediateTransferQueue>();
  }

  size_t MatrixBytes(int outputs, int inputs, WeightFormat) const override {
    return reference::RowsBytes(outputs, inputs);
  }
  void PackMatrixRows(const WeightRows& rows, int64_t first, const Matrix& shape,
                      void* host_image) const override {
    layout_.PackMatrixRows(rows, first, shape, host_image);
  }
  size_t UnitBytes(const UnitShape& shape) const override {
    return 3 * reference::RowsBytes(shape.width, shape.hidden);
  }
  void PackUnitRows(UnitTensor tensor, const WeightRows& rows, int64_t first,
                    const UnitShape& shape, void* host_image) const override {
    layout_.PackUnitRows(tensor, rows, first, shape, host_image);
  }
  absl::StatusOr<std::unique_ptr<ImageWriter>> MakeImageWriter() override {
    return std::make_unique<StagedImageWriter>(&layout_, std::make_unique<LateStaging>());
  }
  // Others than the CPU are not, and tests that run on this device see to their way of loading.
  bool host_memory() const override { return false; }
  size_t KvLayerBytes(int num_blocks, int num_kv_heads, int head_dim, KvType) const override {
    return size_t{8} * num_blocks * kKvBlockTokens * num_kv_heads * head_dim;
  }

  void Embed(const TokenBatch& batch, const Matrix& table, float scale, float* out) override {
    for (int r = 0; r < *batch.rows.num; ++r) {
      const int64_t id = batch.token_ids[r];
      PREGATE_CHECK(id >= 0 && id < table.outputs, "token id ", id, " of ", table.outputs);
      const float* row = reference::MatrixRow(table, id);
      for (int i = 0; i < table.inputs; ++i) out[int64_t{r} * table.inputs + i] = scale * row[i];
    }
  }
  void RmsNorm(RowCount rows, int width, const float* x, const float* weight, float eps,
               ActType act, void* act_out) override {
    float* out = static_cast<float*>(act_out);
    for (int r = 0; r < *rows.num; ++r, x += width, out += width) {
      const double inv = 1 / std::sqrt(Dot(x, x, width) / width + eps);
      for (int i = 0; i < width; ++i) {
        out[i] = RoundTo(act, static_cast<float>(x[i] * inv * weight[i]));
      }
    }
  }
  void Linear(RowCount rows, ActType, const void* act_in, const Matrix& w, const float* bias,
              float* out) override {
    const float* x = static_cast<const float*>(act_in);
    for (int r = 0; r < *rows.num; ++r, x += w.inputs) {
      for (int o = 0; o < w.outputs; ++o) {
        const double sum = Dot(x, reference::MatrixRow(w, o), w.inputs);
        *out++ = static_cast<float>(sum + (bias != nullptr ? bias[o] : 0));
      }
    }
  }
  void RotateAndStore(const TokenBatch& batch, const AttentionShape& shape, const HeadNorms& norms,
                      const float* qkv, const KvLayer& kv, float* q_out) override {
    reference::RotateAndStore(batch, shape, norms, qkv, kv, q_out);
  }
  void Attention(const TokenBatch& batch, const AttentionShape& shape, const float* q,
                 const KvLayer& kv, void* act_out) override {
    reference::Attention(batch, shape, q, kv, static_cast<float*>(act_out));
  }
  void ExpertFfn(RowCount rows, ActType act, const void* act_in, const ExpertGroups& groups,
                 const void* const* units, const UnitShape& shape, float* out) override {
    const float* x = static_cast<const float*>(act_in);
    for (int e = 0; e < groups.num_experts; ++e) {
      if (units[e] == nullptr) continue;
      const bool all = groups.offsets == nullptr;
      const int end = all ? *rows.num : groups.offsets[e + 1];
      for (int i = all ? 0 : groups.offsets[e]; i < end; ++i) {
        const int64_t t = all ? i : groups.order[i];
        FfnRow(x + t * shape.hidden, units[e], shape, act, out + t * shape.hidden);
      }
    }
  }
  void AddFfn(RowCount rows, int width, const float* shared, const float* own, WireType wire,
              float scale, float* h) override {
    for (int64_t i = 0; i < int64_t{*rows.num} * width; ++i) {
      float s = shared == nullptr ? 0 : shared[i];
      if (own != nullptr) s += RoundTo(wire, own[i]);
      const float scaled = scale * s;
      h[i] += scaled;
    }
  }
  void AddResidual(RowCount rows, int width, const float* y, float scale, float* h) override {
    AddFfn(rows, width, y, nullptr, WireType::kF32, scale, h);
  }
  void BuildGroups(RowCount rows, const int32_t* routes, const ExpertGroups& groups) override {
    int32_t n = 0;
    for (int e = 0; e < groups.num_experts; ++e) {
      groups.offsets[e] = n;
      for (int r = 0; r < *rows.num; ++r) {
        if (routes[r] == e) groups.order[n++] = r;
      }
    }
    groups.offsets[groups.num_experts] = n;
  }
  void BuildExchange(RowCount tokens, const ExchangeArgs& args,
                     const ExchangeArrays& out) override {
    reference::BuildExchange(tokens, args, out);
  }
  void ActToWire(RowCount rows, int width, ActType, const void* act, const int32_t* index,
                 WireType type, void* wire) override {
    const float* x = static_cast<const float*>(act);
    for (int r = 0; r < *rows.num; ++r) {
      for (int i = 0; i < width && index[r] >= 0; ++i) {
        reference::StoreWire(x[int64_t{index[r]} * width + i], int64_t{r} * width + i, type, wire);
      }
    }
  }
  void WireToAct(RowCount rows, int width, WireType type, const void* wire, ActType act_type,
                 void* act) override {
    for (int64_t i = 0; i < int64_t{*rows.num} * width; ++i) {
      static_cast<float*>(act)[i] = RoundTo(act_type, reference::LoadWire(wire, i, type));
    }
  }
  void RoundToWire(RowCount rows, int width, const float* x, WireType type, void* wire) override {
    for (int64_t i = 0; i < int64_t{*rows.num} * width; ++i) {
      reference::StoreWire(x[i], i, type, wire);
    }
  }
  void WireToRows(RowCount rows, int width, WireType type, const void* wire, const int32_t* index,
                  float* out) override {
    for (int r = 0; r < *rows.num; ++r) {
      for (int i = 0; i < width && index[r] >= 0; ++i) {
        out[int64_t{index[r]} * width + i] =
            reference::LoadWire(wire, int64_t{r} * width + i, type);
      }
    }
  }
  void GatherRows(RowCount rows, int width, const float* x, const int32_t* index,
                  float* out) override {
    for (int r = 0; r < *rows.num; ++r) {
      std::memcpy(out + int64_t{r} * width, x + int64_t{index[r]} * width, size_t{4} * width);
    }
  }
  void Activate(RowCount rows, int width, RouterActivation activation, const float* x, ActType act,
                void* act_out) override {
    float* out = static_cast<float*>(act_out);
    for (int64_t i = 0; i < int64_t{*rows.num} * width; ++i) {
      const double y = activation == RouterActivation::kSilu ? Silu(x[i]) : std::max(x[i], 0.0f);
      out[i] = RoundTo(act, static_cast<float>(y));
    }
  }
  void ArgMax(RowCount rows, int width, const float* x, int32_t* out) override {
    for (int r = 0; r < *rows.num; ++r, x += width) {
      out[r] = static_cast<int32_t>(std::max_element(x, x + width) - x);
    }
  }
  void SampleTokens(RowCount rows, int vocab_size, const float* logits,
                    const SampleArgs& args) override {
    for (int r = 0; r < *rows.num; ++r, logits += vocab_size) {
      const bool finite =
          std::all_of(logits, logits + vocab_size, [](float x) { return std::isfinite(x); });
      args.not_finite[r] = !finite;
      args.tokens[r] = finite ? reference::SampleToken(logits, vocab_size, args, r) : 0;
    }
  }
  void NoteTokens(RowCount rows, const int32_t* token_ids, const int32_t* positions,
                  const int32_t* seq_slots, int vocab_size, const TokenHistory& history) override {
    const int64_t words = SeenWords(vocab_size);
    for (int r = 0; r < *rows.num; ++r) {
      const int64_t slot = seq_slots[r], id = token_ids[r];
      history.seen[slot * words + id / 32] |= 1u << (id % 32);
      uint16_t& count = history.counts[slot * words * 32 + id];
      if (positions[r] >= history.counted_from[slot] && count < UINT16_MAX) ++count;
    }
  }
  void ScoreTokens(RowCount rows, int vocab_size, const float* logits,
                   const ScoreArgs& args) override {
    for (int r = 0; r < *rows.num; ++r, logits += vocab_size) {
      const float* top = std::max_element(logits, logits + vocab_size);
      double sum = 0;
      for (int i = 0; i < vocab_size; ++i) sum += std::exp(double{logits[i]} - *top);
      const int32_t target = args.targets[r];
      args.logprobs[r] = static_cast<float>(double{logits[target]} - *top - std::log(sum));
      args.greedy[r] = top - logits == target;
    }
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
  static void FfnRow(const float* x, const void* unit, const UnitShape& shape, ActType act,
                     float* out) {
    const reference::UnitRows rows = reference::RowsOfUnit(unit, shape);
    std::vector<float> mid(shape.width);
    for (int64_t w = 0; w < shape.width; ++w) {
      const double gate = Dot(x, rows.gate + w * shape.hidden, shape.hidden);
      const double up = Dot(x, rows.up + w * shape.hidden, shape.hidden);
      mid[w] = RoundTo(act, static_cast<float>(Silu(gate) * up));
    }
    for (int64_t o = 0; o < shape.hidden; ++o) {
      out[o] = static_cast<float>(Dot(mid.data(), rows.down + o * shape.width, shape.width));
    }
  }

  const reference::RoundedRows layout_;
};

}  // namespace

std::unique_ptr<ComposedDevice> MakeReferenceDevice() {
  return std::make_unique<ReferenceDevice>();
}

}  // namespace pregate
