// Copies and per-slot state of single rows.
#include "common/device/cuda/launch.cuh"

namespace pregate::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void GatherRowsKernel(Rows rows, int width, const float* x, const int32_t* index,
                                 float* out) {
  const int r = blockIdx.x;
  AwaitKernelsBefore();
  if (r >= *rows.num) return;
  const float* row = x + int64_t{index[r]} * width;
  for (int i = threadIdx.x; i < width; i += kThreads) out[int64_t{r} * width + i] = row[i];
}

__device__ bool OwnRow(Rows rows, int* r) {
  AwaitKernelsBefore();
  *r = blockIdx.x * kThreads + threadIdx.x;
  return *r < *rows.num;
}

__global__ void ResolveLateKernel(Rows rows, const uint8_t* late, const int32_t* seq_slots,
                                  const int32_t* last_token, const int32_t* last_route,
                                  int32_t* token_ids, int32_t* routes) {
  int r;
  if (!OwnRow(rows, &r) || late[r] == 0) return;
  token_ids[r] = last_token[seq_slots[r]];
  routes[r] = last_route[seq_slots[r]];
}

__global__ void ScatterToSlotsKernel(Rows rows, const int32_t* values, const int32_t* seq_slots,
                                     int32_t* last) {
  int r;
  if (OwnRow(rows, &r)) last[seq_slots[r]] = values[r];
}

// Two counts share a word, and neither passes its last value.
__device__ void AddToCount(uint16_t* counts, int id) {
  auto* word = reinterpret_cast<uint32_t*>(counts) + id / 2;
  const int shift = id % 2 * 16;
  uint32_t old = *word, seen;
  do {
    seen = old;
    if ((seen >> shift & 0xFFFFu) == 0xFFFFu) return;
    old = atomicCAS(word, seen, seen + (1u << shift));
  } while (old != seen);
}

__global__ void NoteTokensKernel(Rows rows, const int32_t* token_ids, const int32_t* positions,
                                 const int32_t* seq_slots, int words_per_slot,
                                 TokenHistory history) {
  int r;
  if (!OwnRow(rows, &r)) return;
  const int id = token_ids[r], slot = seq_slots[r];
  const int64_t first_word = int64_t{slot} * words_per_slot;
  atomicOr(history.seen + first_word + id / 32, 1u << (id % 32));
  if (positions[r] >= history.counted_from[slot]) AddToCount(history.counts + first_word * 32, id);
}

}  // namespace

void GatherRows(Stream& stream, Rows rows, int width, const float* x, const int32_t* index,
                float* out) {
  LaunchEarly(stream, rows.max, kThreads, 0, GatherRowsKernel, rows, width, x, index, out);
}

void ResolveLate(Stream& stream, Rows rows, const uint8_t* late, const int32_t* seq_slots,
                 const int32_t* last_token, const int32_t* last_route, int32_t* token_ids,
                 int32_t* routes) {
  LaunchEarly(stream, CeilDiv(rows.max, kThreads), kThreads, 0, ResolveLateKernel, rows, late,
              seq_slots, last_token, last_route, token_ids, routes);
}

void ScatterToSlots(Stream& stream, Rows rows, const int32_t* values, const int32_t* seq_slots,
                    int32_t* last) {
  LaunchEarly(stream, CeilDiv(rows.max, kThreads), kThreads, 0, ScatterToSlotsKernel, rows, values,
              seq_slots, last);
}

void NoteTokens(Stream& stream, Rows rows, const int32_t* token_ids, const int32_t* positions,
                const int32_t* seq_slots, int words_per_slot, const TokenHistory& history) {
  LaunchEarly(stream, CeilDiv(rows.max, kThreads), kThreads, 0, NoteTokensKernel, rows, token_ids,
              positions, seq_slots, words_per_slot, history);
}

}  // namespace pregate::cuda
