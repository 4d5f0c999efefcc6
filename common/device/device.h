// The operations of a forward pass, behind which the CPU and CUDA stand (DESIGN section 5, "Device
// interface").
//
// - Operations enqueue in stream order and return at once (the CPU runs them on the spot).
// - Row counts, group offsets, block tables and unit pointers are DEVICE arrays; the host passes
//   only capacities (`max`), which are the same for two steps of one bucket. Workspace is sized by
//   capacities at their first use, so a later step of the same bucket allocates nothing.
// - Arrays of rows hold `max` rows. What lies beyond the count may be read and, by Linear, written;
//   it never shows in the rows before.
// - Every operation is batch-invariant: the bits of one row's output depend on that row's inputs
//   (and, for attention, on its own sequence) alone, never on the other rows, the chunking or the
//   thread count.
// - Types (types.h): residual stream, norms' weights, logits and biases are f32. `act` buffers hold
//   what goes into matrix products; their values are rounded to the operation's ActType, stored in
//   act_bytes(type) each (the CPU stores f32). `wire` buffers are what ranks exchange: rows of
//   values in the WireType itself.
// - All pointers in the argument structs are device pointers unless named host_*.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/base/ids.h"
#include "common/device/types.h"
#include "common/model/spec/spec.h"
#include "common/step/sampling.h"

namespace pregate {

// Owns one device allocation, 256-byte aligned and zeroed.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  DeviceBuffer(void* data, size_t bytes, void (*release)(void*))
      : data_(data), bytes_(bytes), release_(release) {}
  DeviceBuffer(DeviceBuffer&& o) noexcept { *this = std::move(o); }
  DeviceBuffer& operator=(DeviceBuffer&& o) noexcept {
    std::swap(data_, o.data_);
    std::swap(bytes_, o.bytes_);
    std::swap(release_, o.release_);
    return *this;
  }
  ~DeviceBuffer() {
    if (data_ != nullptr) release_(data_);
  }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
  void (*release_)(void*) = nullptr;
};

// A weight matrix in the device's packed form: y[r, o] = sum_i x[r, i] * w[o, i].
struct Matrix {
  const void* data = nullptr;
  int outputs = 0;
  int inputs = 0;
  WeightFormat format = WeightFormat::kF32;
};

// One FFN part (an expert unit, or the resident part): gate, up [width, hidden], down
// [hidden, width]. Width 0 is legal: its output is 0.
struct UnitShape {
  int width = 0;
  int hidden = 0;
  WeightFormat format = WeightFormat::kF32;
};

// How many rows there are: a device scalar with a capacity that the host knows.
struct RowCount {
  const int32_t* num = nullptr;  // [1]
  int max = 0;
};

// The tokens of one step.
struct TokenBatch {
  RowCount rows;
  const int32_t* token_ids = nullptr;     // [max]
  const int32_t* positions = nullptr;     // [max] absolute
  const int32_t* seq_slots = nullptr;     // [max] row of block_tables
  const int32_t* block_tables = nullptr;  // [seq slots, blocks_per_seq]
  int blocks_per_seq = 0;
};

// One layer's paged keys and values; the layout inside is the device's own.
struct KvLayer {
  void* data = nullptr;  // KvLayerBytes()
  int num_blocks = 0;    // of kKvBlockTokens tokens
  int num_kv_heads = 0;
  int head_dim = 0;
  KvType type = KvType::kF32;
};

// Tokens sorted by expert: group e holds order[offsets[e] .. offsets[e+1]), each a token index.
// Within a group, tokens keep their order in the batch.
struct ExpertGroups {
  int32_t* offsets = nullptr;  // [num_experts + 1]
  int32_t* order = nullptr;    // [tokens max]
  int num_experts = 0;
};

// Who runs what in a step of several ranks (expert_service/core/exchange_plan.h), seen from `rank`.
struct ExchangeArgs {
  int rank = 0;
  int world_size = 1;
  int num_experts = 0;
  int stride = 0;                       // rows of one message: the most that a rank has of its own
  const int32_t* home_ranks = nullptr;  // [max] of every token of the plan, in its order
  const int32_t* routes = nullptr;      // [max]; outside 0..experts-1: the token stays out
  const int32_t* targets = nullptr;     // [world, experts]: who runs expert e for tokens of home h
};
// Message d is rows [d * stride, (d + 1) * stride) of the send buffer; the message of source s is
// rows [s * stride, ...) of what is received.
struct ExchangeArrays {
  int32_t* send_rows = nullptr;  // [world * stride] index among the rank's own tokens; -1: padding
  ExpertGroups received;         // over received rows; order [world * stride]
};

struct QkvArgs {
  int num_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  const float* inv_freq = nullptr;  // [head_dim / 2]
};

struct SampleArgs {
  RowCount rows;
  const float* logits = nullptr;  // [max, vocab]
  int vocab_size = 0;
  const SamplingParams* params = nullptr;  // [seq slots]
  const uint64_t* seeds = nullptr;         // [seq slots]
  // [seq slots, ceil(vocab / 32)] bitmask of the tokens that the repetition penalty touches.
  const uint32_t* seen = nullptr;
  const int32_t* seq_slots = nullptr;  // [max]
  const int32_t* positions = nullptr;  // [max] of the token to be drawn
  // out [max]: 1 where a raw logit is NaN or infinite (the token is then 0), else 0.
  uint8_t* not_finite = nullptr;
};

// Copies from host memory into the device's, one after the other, beside the operations. Used by
// the thread that enqueues operations; the device outlives it, and its end waits for what runs.
class TransferQueue {
 public:
  virtual ~TransferQueue() = default;

  // The place in the stream that the operations enqueued so far have reached: 1, 2, ...
  virtual uint64_t Mark() = 0;
  // Starts when the copies before it are done and the stream has passed mark `after` (0: at once).
  // Returns its number: 1, 2, ... `host_src` stays as it is until the copy is done.
  virtual uint64_t Copy(void* dst, const void* host_src, size_t bytes, uint64_t after) = 0;
  // Operations enqueued from now on wait for copy `number`. (The CPU waits on the spot, CUDA's
  // stream does.)
  virtual void Await(uint64_t number) = 0;
  // Copies that are done. Does not wait.
  virtual uint64_t num_done() = 0;
  // How long operations have waited in Await so far; complete after Synchronize.
  virtual absl::Duration stalled() = 0;
};

// Not thread-safe: one thread enqueues. Several devices may coexist in one process.
class Device {
 public:
  virtual ~Device() = default;

  virtual std::string name() const = 0;
  // Equal ids promise equal bits: instruction set path, kernel set and types.
  virtual std::string numerics_id(const StepTypes& types) const = 0;
  virtual size_t act_bytes(ActType type) const = 0;

  // --- memory ---
  // RESOURCE_EXHAUSTED with the sizes when there is not enough.
  virtual absl::StatusOr<DeviceBuffer> Allocate(size_t bytes) = 0;
  // Host memory that copies fast: pinned where the device has such memory. Not zeroed.
  virtual absl::StatusOr<DeviceBuffer> AllocateHost(size_t bytes) = 0;
  // In stream order; `host_src` may change when the call returns.
  virtual void Upload(void* dst, const void* host_src, size_t bytes) = 0;
  // In stream order; `host_dst` is filled after Synchronize.
  virtual void Download(void* host_dst, const void* src, size_t bytes) = 0;
  virtual absl::Status Synchronize() = 0;  // also reports errors of earlier operations
  virtual std::unique_ptr<TransferQueue> MakeTransferQueue() = 0;

  // --- packing (host side; the image is then uploaded as opaque bytes) ---
  virtual size_t MatrixBytes(int outputs, int inputs, WeightFormat format) const = 0;
  virtual void PackMatrix(absl::Span<const float> rows, int outputs, int inputs,
                          WeightFormat format, void* host_dst) const = 0;
  virtual size_t UnitBytes(const UnitShape& shape) const = 0;
  virtual void PackUnit(absl::Span<const float> gate, absl::Span<const float> up,
                        absl::Span<const float> down, const UnitShape& shape,
                        void* host_dst) const = 0;
  virtual size_t KvLayerBytes(int num_blocks, int num_kv_heads, int head_dim,
                              KvType type) const = 0;

  // --- the step ---
  // out[t, :] = table row token_ids[t], as f32. [max, table.inputs]
  virtual void Embed(const TokenBatch& batch, const Matrix& table, float* out) = 0;
  // out = act(x / sqrt(mean(x^2) + eps) * weight)
  virtual void RmsNorm(RowCount rows, int width, const float* x, const float* weight, float eps,
                       ActType act, void* act_out) = 0;
  // out[r, :] = act_in[r, :] . w^T (+ bias); f32 accumulation in one fixed order over inputs.
  virtual void Linear(RowCount rows, ActType act, const void* act_in, const Matrix& w,
                      const float* bias, float* out) = 0;
  // Rotates q and k of qkv [max, (heads + 2 kv_heads) * head_dim] (half-split RoPE at each token's
  // position), stores k and v into the layer's blocks in the layer's type, and writes q
  // [max, heads * head_dim].
  virtual void RotateAndStore(const TokenBatch& batch, const QkvArgs& args, const float* qkv,
                              const KvLayer& kv, float* q_out) = 0;
  // Causal attention of each token over its sequence's positions 0..position (all stored before
  // this call). Logits are multiplied by `scale`. act_out [max, heads * head_dim], rounded to
  // `act`.
  virtual void Attention(const TokenBatch& batch, const QkvArgs& args, const float* q,
                         const KvLayer& kv, float scale, ActType act, void* act_out) = 0;
  // out[t, :] = down(round(silu(gate(x_t)) * up(x_t))) with the unit of t's group, rounded to `act`;
  // rows in no group, and those of a group without a unit, are left alone. units: device array
  // [num_experts] of unit images or null.
  virtual void Ffn(RowCount rows, ActType act, const void* act_in, const ExpertGroups& groups,
                   const void* const* units, const UnitShape& shape, float* out) = 0;
  // h += shared + round_to(wire, own) in that order; own may be null (dense).
  virtual void AddFfn(RowCount rows, int width, const float* shared, const float* own,
                      WireType wire, float* h) = 0;
  // h += y
  virtual void AddResidual(RowCount rows, int width, const float* y, float* h) = 0;
  // Stable counting sort of tokens by route (the device's form of the exchange plan's local part).
  virtual void BuildGroups(RowCount rows, const int32_t* routes, const ExpertGroups& groups) = 0;
  // The same for a step of several ranks: every message has args.stride rows, so that its size does
  // not depend on routes. Own tokens keep their order by (target, expert, place); received rows are
  // grouped by (expert, source, place). out.received.num_experts = args.num_experts.
  virtual void BuildExchange(RowCount tokens, const ExchangeArgs& args,
                             const ExchangeArrays& out) = 0;

  // --- exchange: rows of `width` values; an index of -1 leaves the row alone ---
  // wire[r, :] = round(act[index[r], :])
  virtual void ActToWire(RowCount rows, int width, ActType act_type, const void* act,
                         const int32_t* index, WireType wire_type, void* wire) = 0;
  // act[r, :] = round(wire[r, :])
  virtual void WireToAct(RowCount rows, int width, WireType wire_type, const void* wire,
                         ActType act_type, void* act) = 0;
  // wire[r, :] = round(x[r, :])
  virtual void RoundToWire(RowCount rows, int width, const float* x, WireType wire_type,
                           void* wire) = 0;
  // out[index[r], :] = wire[r, :]
  virtual void WireToRows(RowCount rows, int width, WireType wire_type, const void* wire,
                          const int32_t* index, float* out) = 0;

  // out[r, :] = x[index[r], :]
  virtual void GatherRows(RowCount rows, int width, const float* x, const int32_t* index,
                          float* out) = 0;
  // Router: act_out = round(activation(x)).
  virtual void Activate(RowCount rows, int width, RouterActivation activation, const float* x,
                        ActType act, void* act_out) = 0;
  // Lowest index among the largest. out [max]
  virtual void ArgMax(RowCount rows, int width, const float* x, int32_t* out) = 0;
  // Draws one token a row (common/step/sampling.h). out_tokens [max]
  virtual void SampleTokens(const SampleArgs& args, int32_t* out_tokens) = 0;
  // Sets bit token_ids[i] of seen[seq_slots[i]].
  virtual void MarkSeen(RowCount rows, const int32_t* token_ids, const int32_t* seq_slots,
                        int vocab_size, uint32_t* seen) = 0;
  // out_logprobs[r] = log softmax(logits[r])[targets[r]]; out_greedy[r] = 1 where targets[r] is the
  // argmax.
  virtual void ScoreTokens(RowCount rows, int vocab_size, const float* logits,
                           const int32_t* targets, float* out_logprobs, uint8_t* out_greedy) = 0;
  // For rows with late[r] != 0: token_ids[r] = last_token[slot], routes[r] = last_route[slot].
  virtual void ResolveLate(RowCount rows, const uint8_t* late, const int32_t* seq_slots,
                           const int32_t* last_token, const int32_t* last_route, int32_t* token_ids,
                           int32_t* routes) = 0;
  // last[seq_slots[r]] = values[r]
  virtual void ScatterToSlots(RowCount rows, const int32_t* values, const int32_t* seq_slots,
                              int32_t* last) = 0;
};

}  // namespace pregate
