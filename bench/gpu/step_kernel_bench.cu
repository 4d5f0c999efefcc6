// Times the step kernel alone on a card: 32 layers of the paper's shape (llama2-7b, shared .25, own
// .25, bf16) on random weights, without embedding, logits and replica. A line of JSON for each number of
// rows, context and number of experts among the rows, beside the bytes that such a step must read.
// usage: gpu_step_kernel_bench ROWS CONTEXT EXPERTS [SLOTS], SLOTS: at most so many of each ring
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "common/device/cuda/step_kernel.h"

namespace {

using namespace pregate::cuda;

constexpr int kLayers = 32, kHidden = 4096, kHeads = 32, kHeadDim = 128, kWidth = 2752;
constexpr int kExperts = 7, kRepeats = 9;

void Check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "gpu_step_kernel_bench: %s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

// Small normal bf16 numbers.
__global__ void Fill(uint16_t* p, size_t n) {
  for (size_t i = blockIdx.x * size_t{256} + threadIdx.x; i < n; i += gridDim.x * size_t{256}) {
    const uint32_t x = (static_cast<uint32_t>(i) ^ static_cast<uint32_t>(i >> 32)) * 2654435761u;
    p[i] = static_cast<uint16_t>(0x3C00 | (x >> 16 & 0x807F));
  }
}

void* Allocate(size_t bytes) {
  void* data = nullptr;
  Check(cudaMalloc(&data, bytes), "cudaMalloc");
  Check(cudaMemset(data, 0, bytes), "cudaMemset");
  return data;
}
void* Weights(size_t elements) {
  void* data = Allocate(elements * 2);
  Fill<<<1024, 256>>>(static_cast<uint16_t*>(data), elements);
  return data;
}
template <class T>
T* Put(const std::vector<T>& values) {
  void* data = Allocate(values.size() * sizeof(T));
  Check(cudaMemcpy(data, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), "copy");
  return static_cast<T*>(data);
}

StepProblem MakeProblem(int rows, int context, int experts) {
  const int blocks_per_seq = (context + 15) / 16 + 1, num_blocks = blocks_per_seq * rows;
  constexpr size_t kMatrix = size_t{kWidth} * kHidden;
  const float* norm = Put(std::vector<float>(kHidden, 0.01f));
  std::vector<StepLayer> layers;
  for (int l = 0; l < kLayers; ++l) {
    std::vector<const void*> units;
    for (int e = 0; e <= kExperts; ++e) units.push_back(Weights(3 * kMatrix));
    const void* const* table = Put(units);
    StepLayer layer = {};
    layer.qkv = Weights(size_t{3} * kHidden * kHidden);
    layer.o = Weights(size_t{kHidden} * kHidden);
    layer.attention_norm = layer.ffn_norm = norm;
    layer.kv = Weights(size_t{2} * num_blocks * kHeads * 16 * kHeadDim);
    layer.num_blocks = num_blocks;
    layer.rotates = 1;
    layer.own_units = table;
    layer.shared_unit = table + kExperts;
    layer.shared_width = layer.own_width = kWidth;
    layer.shared_up = layer.own_up = static_cast<int>(kMatrix);
    layer.shared_down = layer.own_down = static_cast<int>(2 * kMatrix);
    layers.push_back(layer);
  }
  std::vector<int32_t> slots(rows), table(num_blocks), offsets(kExperts + 1), order;
  for (int r = 0; r < rows; ++r) slots[r] = r;
  for (int i = 0; i < num_blocks; ++i) table[i] = num_blocks - 1 - i;
  for (int e = 0; e < kExperts; ++e) {
    offsets[e] = static_cast<int32_t>(order.size());
    for (int r = e; r < rows && e < experts; r += experts) order.push_back(r);
  }
  offsets[kExperts] = rows;
  StepProblem p = {};
  p.tokens = {{Put<int32_t>({rows}), rows},
              Put(std::vector<int32_t>(rows, context - 1)),
              Put(slots),
              Put(table),
              blocks_per_seq};
  p.heads = {kHeads, kHeads, kHeadDim};
  p.scale = 0.088f;
  p.hidden = kHidden;
  p.attention_eps = p.ffn_eps = 1e-5f;
  p.attention_residual = p.ffn_residual = 1;
  p.rotation = {kHeadDim, Put(std::vector<float>(kHeadDim / 2, 0.01f)), 1, nullptr, nullptr, 0};
  p.wire_bf16 = true;
  p.layers = Put(layers);
  p.num_layers = kLayers;
  p.offsets = Put(offsets);
  p.order = Put(order);
  p.num_experts = kExperts;
  p.h = Put(std::vector<float>(size_t(rows) * kHidden, 0.5f));
  p.q = static_cast<float*>(Allocate(size_t(rows) * kHidden * 4));
  p.act = Allocate(size_t(rows) * kHidden * 2);
  p.mid_stride = 2 * kWidth;
  p.mid = Allocate(size_t(rows) * p.mid_stride * 2);
  p.tile_sums = Allocate(SplitAttentionBytes(p.tokens, p.heads));
  p.barrier = static_cast<BarrierCounts*>(Allocate(sizeof(BarrierCounts)));
  return p;
}

void Run(int rows, int context, int experts, int slots_max) {
  const StepProblem p = MakeProblem(rows, context, experts);
  cudaDeviceProp card;
  Check(cudaGetDeviceProperties(&card, 0), "cudaGetDeviceProperties");
  StepLaunch launch;
  for (int bytes = static_cast<int>(card.sharedMemPerBlockOptin); bytes > 0; bytes -= 1024) {
    launch = PlanStepLaunch(p, card.multiProcessorCount, bytes);
    if (launch.slots <= slots_max) break;
  }
  if (launch.slots == 0) Check(cudaErrorInvalidConfiguration, "no room for the rings");
  Stream stream;
  cudaEvent_t begin, end;
  Check(cudaEventCreate(&begin), "cudaEventCreate");
  Check(cudaEventCreate(&end), "cudaEventCreate");
  std::vector<float> ms(kRepeats);
  for (float& of_run : ms) {
    cudaEventRecord(begin);
    RunStepKernel(stream, p, launch);
    Check(stream.error, "launch");
    cudaEventRecord(end);
    Check(cudaEventSynchronize(end), "the kernel");
    cudaEventElapsedTime(&of_run, begin, end);
  }
  std::nth_element(ms.begin(), ms.begin() + kRepeats / 2, ms.end());
  const double weights = 2.0 * kHidden * (4.0 * kHidden + 3.0 * kWidth * (1 + experts));
  const double kv = 4.0 * rows * context * kHidden;
  std::printf(
      "{\"card\": \"%s\", \"rows\": %d, \"context\": %d, \"experts\": %d, \"slots\": %d, "
      "\"ms_median\": "
      "%.3f, \"gb\": %.3f, \"tb_per_s\": %.3f}\n",
      card.name, rows, context, experts, launch.slots, ms[kRepeats / 2],
      kLayers * (weights + kv) / 1e9, kLayers * (weights + kv) / ms[kRepeats / 2] / 1e9);
}

// The number in `text`, from 1 to `max`; ends the program with the argument's name and text otherwise.
int Argument(const char* name, const char* text, int max) {
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  if (*text != '\0' && *end == '\0' && value >= 1 && value <= max) return static_cast<int>(value);
  std::fprintf(stderr, "gpu_step_kernel_bench: %s is '%s', must be 1 to %d\n", name, text, max);
  std::exit(2);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4 && argc != 5) {
    std::fprintf(stderr, "usage: gpu_step_kernel_bench ROWS CONTEXT EXPERTS [SLOTS]\n");
    return 2;
  }
  const int rows = Argument("ROWS", argv[1], kStepRowsMax);
  const int context = Argument("CONTEXT", argv[2], 1 << 17);
  const int experts = Argument("EXPERTS", argv[3], std::min(rows, kExperts));
  Run(rows, context, experts, argc == 5 ? Argument("SLOTS", argv[4], 64) : 64);
  return 0;
}
