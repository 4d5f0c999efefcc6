// A device, behind which the CPU and CUDA stand (docs/CONTRACTS.md, "Device interface"): memory,
// packing, the halves of a layer, the emit stage, and the few operations between them.
//
// - Operations enqueue in stream order and return at once (the CPU runs them on the spot).
// - Row counts, group offsets, block tables and unit pointers are DEVICE arrays; the host passes
//   only capacities (`max`), which are the same for two steps of one bucket. A device's own scratch
//   is sized by capacities at their first use, a LayerWorkspace at start, so a later step of the
//   same bucket allocates nothing.
// - Arrays of rows hold `max` rows. What lies beyond the count may be read and, by products,
//   written; it never shows in the rows before.
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
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/base/ids.h"
#include "common/device/arrays.h"
#include "common/device/image_writer.h"
#include "common/device/layer.h"
#include "common/device/types.h"

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

// Of a device, whoever uses it.
struct DeviceMemory {
  int64_t free_bytes = 0;  // to be had now
  int64_t total_bytes = 0;
};

// When a copy, or a wait of operations for one, ran, as Device::MomentOf tells time: before the first
// BeginMoments only how long it took.
struct TransferSpan {
  bool is_wait = false;
  absl::Time begin, end;
};
inline constexpr int kTransferSpansMax = 4096;

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
  // Those that have ended, each once; complete as stalled() is. The first kTransferSpansMax since the
  // last call.
  virtual std::vector<TransferSpan> TakeSpans() = 0;
};

inline constexpr int kMomentsMax = 10;

// Not thread-safe: one thread enqueues. Several devices may coexist in one process.
class Device {
 public:
  virtual ~Device() = default;

  virtual std::string name() const = 0;
  // Equal ids promise equal bits: instruction set path, kernel set and types.
  virtual std::string numerics_id(const StepTypes& types) const = 0;
  virtual size_t act_bytes(ActType type) const = 0;

  // --- memory ---
  // The CPU's is the host's, within a container's limit. UNAVAILABLE where the system does not say.
  virtual absl::StatusOr<DeviceMemory> Memory() const = 0;
  // RESOURCE_EXHAUSTED with the sizes when there is not enough.
  virtual absl::StatusOr<DeviceBuffer> Allocate(size_t bytes) = 0;
  // Host memory that copies fast: pinned where the device has such memory. Not zeroed.
  virtual absl::StatusOr<DeviceBuffer> AllocateHost(size_t bytes) = 0;
  // In stream order; `host_src` may change when the call returns.
  virtual void Upload(void* dst, const void* host_src, size_t bytes) = 0;
  // In stream order; `host_dst` is filled after Synchronize.
  virtual void Download(void* host_dst, const void* src, size_t bytes) = 0;
  // Also reports errors of earlier operations. DATA_LOSS: the device and all that it held are lost to
  // this process for good.
  virtual absl::Status Synchronize() = 0;
  virtual std::unique_ptr<TransferQueue> MakeTransferQueue() = 0;

  // --- time, for people who look on ---
  // Moment 0 is now, before what is enqueued next.
  virtual void BeginMoments() = 0;
  // Moment 1..kMomentsMax - 1 is when what has been enqueued so far is done.
  virtual void NoteMoment(int moment) = 0;
  // On a line whose zero means nothing. REQUIRES: noted since BeginMoments, and Synchronize after it.
  virtual absl::Time MomentOf(int moment) = 0;
  // Whether that is the device's own clock, set by the host's at moment 0; else the host's.
  virtual bool has_clock() const = 0;

  // --- packing (images are opaque bytes to all others) ---
  // An image is written some rows of its tensors at a time, in any order and by several threads at
  // once. Once all rows are written all of its bytes are. Rows are in f32; where the format's
  // ValueType is bf16 they may be in bf16, which gives the same image as their values.
  virtual size_t MatrixBytes(int outputs, int inputs, WeightFormat format) const = 0;
  // Outputs first, first + 1, ... of a matrix whose shape `shape` has (its data is not looked at).
  virtual void PackMatrixRows(const WeightRows& rows, int64_t first, const Matrix& shape,
                              void* host_image) const = 0;
  virtual size_t UnitBytes(const UnitShape& shape) const = 0;
  // Rows of one tensor of a unit.
  virtual void PackUnitRows(UnitTensor tensor, const WeightRows& rows, int64_t first,
                            const UnitShape& shape, void* host_image) const = 0;
  // Writes images into what Allocate gave. RESOURCE_EXHAUSTED where there is no memory to stage them
  // in. The device outlives it.
  virtual absl::StatusOr<std::unique_ptr<ImageWriter>> MakeImageWriter() = 0;
  // Whether what Allocate gives is written by any thread of the host.
  virtual bool host_memory() const = 0;

  // All rows at once.
  void PackMatrix(absl::Span<const float> rows, int outputs, int inputs, WeightFormat format,
                  void* host_image) const {
    PackMatrixRows(rows, 0, {nullptr, outputs, inputs, format}, host_image);
  }
  void PackUnit(absl::Span<const float> gate, absl::Span<const float> up,
                absl::Span<const float> down, const UnitShape& shape, void* host_image) const {
    PackUnitRows(UnitTensor::kGate, gate, 0, shape, host_image);
    PackUnitRows(UnitTensor::kUp, up, 0, shape, host_image);
    PackUnitRows(UnitTensor::kDown, down, 0, shape, host_image);
  }
  virtual size_t KvLayerBytes(int num_blocks, int num_kv_heads, int head_dim,
                              KvType type) const = 0;

  // --- a layer (layer.h says what each half computes) ---
  // out[t, :] = scale * table row token_ids[t], in f32. [max, table.inputs]
  virtual void Embed(const TokenBatch& batch, const Matrix& table, float scale, float* out) = 0;
  // h [max, hidden] += attention of each token over its sequence's positions up to its own, after
  // the batch's keys and values are stored in kv.
  virtual void AttentionHalf(const TokenBatch& batch, const AttentionShape& shape,
                             const AttentionWeights& weights, const KvLayer& kv,
                             const LayerWorkspace& workspace, float* h) = 0;
  // Stores what AttentionHalf would, and nothing else.
  virtual void StoreKv(const TokenBatch& batch, const AttentionShape& shape,
                       const AttentionWeights& weights, const KvLayer& kv,
                       const LayerWorkspace& workspace, const float* h) = 0;
  // The feed-forward half in one piece: h += S + round(O), where every row's unit is there. units:
  // device array [num_experts] of images; not looked at where weights.own.width is 0. Equal bits to
  // FfnBegin, ExpertFfn into workspace.own and FfnEnd, which is what it does unless a device fuses
  // them.
  virtual void FfnHalf(RowCount rows, const FfnShape& shape, const FfnWeights& weights,
                       const ExpertGroups& groups, const void* const* units,
                       const LayerWorkspace& workspace, float* h) {
    FfnBegin(rows, shape, weights, workspace, h);
    if (weights.own.width > 0) {
      ExpertFfn(rows, shape.act, workspace.act, groups, units, weights.own, workspace.own);
    }
    FfnEnd(rows, shape, weights, workspace, h);
  }
  // Its three parts, for experts that run in waves or on other ranks. FfnBegin leaves the inputs of
  // the experts' part in workspace.act.
  virtual void FfnBegin(RowCount rows, const FfnShape& shape, const FfnWeights& weights,
                        const LayerWorkspace& workspace, const float* h) = 0;
  // out[t, :] = down(round(silu(gate(x_t)) * up(x_t))) with the unit of t's group, rounded to `act`;
  // rows in no group, and those of a group whose unit is null, are left alone.
  virtual void ExpertFfn(RowCount rows, ActType act, const void* act_in, const ExpertGroups& groups,
                         const void* const* units, const UnitShape& shape, float* out) = 0;
  // h += S + round(O), O in workspace.own (where weights.own.width > 0).
  virtual void FfnEnd(RowCount rows, const FfnShape& shape, const FfnWeights& weights,
                      const LayerWorkspace& workspace, float* h) = 0;
  // AttentionHalf, then FfnHalf, of one layer after the other, in one piece and with equal bits.
  // False, and nothing has happened, where the device does not run such layers or so many rows so.
  // A caller may give a step's layers in several calls, and run some of them otherwise.
  // REQUIRES: the unit of every row's expert is there; no two slots share a block that a row stores.
  virtual bool LayersAtOnce(const TokenBatch& batch, absl::Span<const LayerCall> layers,
                            const FfnShape& ffn, const ExpertGroups& groups,
                            const LayerWorkspace& workspace, float* h) {
    return false;
  }
  // The router's feed-forward half.
  virtual void Mlp(RowCount rows, const MlpShape& shape, const MlpWeights& weights,
                   const LayerWorkspace& workspace, float* h) = 0;
  // Logits of chosen rows of h, and what args asks to be made of them.
  virtual void Emit(const EmitHead& head, const EmitArgs& args, const LayerWorkspace& workspace,
                    const float* h) = 0;

  // --- between layers ---
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

  // --- tokens and sequence slots ---
  // Lowest index among the largest. out [max]
  virtual void ArgMax(RowCount rows, int width, const float* x, int32_t* out) = 0;
  // Notes tokens that enter their sequences: sets bit token_ids[i] of the slot's `seen`, and counts
  // the token where positions[i] is counted.
  virtual void NoteTokens(RowCount rows, const int32_t* token_ids, const int32_t* positions,
                          const int32_t* seq_slots, int vocab_size,
                          const TokenHistory& history) = 0;
  // For rows with late[r] != 0: token_ids[r] = last_token[slot], routes[r] = last_route[slot].
  virtual void ResolveLate(RowCount rows, const uint8_t* late, const int32_t* seq_slots,
                           const int32_t* last_token, const int32_t* last_route, int32_t* token_ids,
                           int32_t* routes) = 0;
  // last[seq_slots[r]] = values[r]
  virtual void ScatterToSlots(RowCount rows, const int32_t* values, const int32_t* seq_slots,
                              int32_t* last) = 0;
};

}  // namespace pregate
