// Argmax and scores of rows of logits, one block a row. Ties of argmax: the lowest index.
#include "common/device/cuda/vocabulary.cuh"

namespace pregate::cuda {
namespace {

constexpr int kThreads = 512;

__global__ void ArgMaxKernel(Rows rows, int width, const float* x, int32_t* out) {
  __shared__ Candidate scratch[32];
  const int r = blockIdx.x;
  AwaitKernelsBefore();
  if (r >= *rows.num) return;
  const float* row = x + int64_t{r} * width;
  const Candidate best = BlockBest(width, scratch, [&](int i) { return row[i]; });
  if (threadIdx.x == 0) out[r] = best.id;
}

// Terms are floats, their sum a double: a float sum over a vocabulary would show in the score.
__global__ void ScoreTokensKernel(Rows rows, int vocab_size, const float* logits,
                                  const int32_t* targets, float* out_logprobs,
                                  uint8_t* out_greedy) {
  __shared__ Candidate scratch[32];
  __shared__ double sums[32];
  const int r = blockIdx.x;
  AwaitKernelsBefore();
  if (r >= *rows.num) return;
  const float* row = logits + int64_t{r} * vocab_size;
  const Candidate best = BlockBest(vocab_size, scratch, [&](int i) { return row[i]; });
  double sum = 0;
  for (int i = threadIdx.x; i < vocab_size; i += kThreads) {
    sum += static_cast<double>(expf(__fsub_rn(row[i], best.value)));
  }
  sum = BlockReduce(sum, sums, 0.0, Sum());
  if (threadIdx.x != 0) return;
  out_logprobs[r] =
      static_cast<float>(static_cast<double>(row[targets[r]]) - best.value - log(sum));
  out_greedy[r] = best.id == targets[r];
}

}  // namespace

void ArgMax(Stream& stream, Rows rows, int width, const float* x, int32_t* out) {
  LaunchEarly(stream, rows.max, width < kThreads ? 32 : kThreads, 0, ArgMaxKernel, rows, width, x,
              out);
}

void ScoreTokens(Stream& stream, Rows rows, int vocab_size, const float* logits,
                 const int32_t* targets, float* out_logprobs, uint8_t* out_greedy) {
  LaunchEarly(stream, rows.max, kThreads, 0, ScoreTokensKernel, rows, vocab_size, logits, targets,
              out_logprobs, out_greedy);
}

}  // namespace pregate::cuda
