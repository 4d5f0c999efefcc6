// common/step/sampling.h for one row a block. Each filter is a cut: a place in the order (value
// descending, id ascending) below which tokens are out. Top-k and top-p find theirs by a radix
// select over that order's key, 8 bits a pass, on sums of integer weights, so that the order of
// additions shows nowhere: top-k's weights are 1, top-p's are exp(x - top) in units of 2^-40.
#include <cfloat>

#include "common/device/cuda/vocabulary.cuh"

namespace pregate::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kBins = 256;
constexpr double kWeightOne = static_cast<double>(uint64_t{1} << 40);

// Larger values, then lower ids, have larger keys; all keys differ.
__device__ uint64_t OrderKey(float value, int id) {
  const uint32_t bits = __float_as_uint(value);
  const uint32_t ordered = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return (uint64_t{ordered} << 32) | (0xFFFFFFFFu - static_cast<uint32_t>(id));
}

__device__ bool HasBit(const uint32_t* bits, int i) { return (bits[i / 32] >> (i % 32) & 1) != 0; }

// A row's logits where nothing but the repetition penalty touches them.
struct PenalizedRow {
  const float* logits;
  const uint32_t* seen;
  float penalty;

  __device__ float operator()(int i) const {
    const float x = logits[i];
    if (penalty == 1 || !HasBit(seen, i)) return x;
    return x > 0 ? __fdiv_rn(x, penalty) : __fmul_rn(x, penalty);
  }
};

// Which tokens may have a bias: all that do, and a few others by chance, so that the list of biases
// is seldom searched.
constexpr int kFilterWords = 1024;
struct BiasFilter {
  uint32_t words[kFilterWords];

  __device__ static int WordOf(int i) { return i / 32 % kFilterWords; }
  // By the whole block.
  __device__ void Build(const TokenBiases& biases) {
    for (int w = threadIdx.x; w < kFilterWords; w += kThreads) words[w] = 0;
    __syncthreads();
    for (int b = threadIdx.x; b < biases.num; b += kThreads) {
      const int id = biases.of[b].token;
      atomicOr(&words[WordOf(id)], 1u << (id % 32));
    }
    __syncthreads();
  }
  __device__ bool MayHave(int i) const { return (words[WordOf(i)] >> (i % 32) & 1) != 0; }
};

// A row's logits with all that may touch them.
struct AdjustedRow {
  PenalizedRow penalized;   // whose logits are the raw ones
  const uint32_t* allowed;  // null: all
  const TokenBiases* biases;
  const BiasFilter* filter;
  bool early;
  bool counts_tokens;
  const uint16_t* counts;
  float frequency, presence;

  // 0 where there is none.
  __device__ float BiasOf(int i) const {
    int low = 0, high = biases->num;
    while (low < high) {
      const int middle = (low + high) / 2;
      if (biases->of[middle].token < i) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    if (low == biases->num || biases->of[low].token != i) return 0;
    return early ? biases->of[low].early_bias : biases->of[low].bias;
  }
  __device__ float operator()(int i) const {
    if (allowed != nullptr && !HasBit(allowed, i)) return -INFINITY;
    float x = penalized.logits[i];
    if (filter->MayHave(i)) x = __fadd_rn(x, BiasOf(i));
    if (!HasBit(penalized.seen, i)) return x;
    x = x > 0 ? __fdiv_rn(x, penalized.penalty) : __fmul_rn(x, penalized.penalty);
    const float count = counts_tokens ? counts[i] : 0;
    if (count == 0) return x;
    return __fsub_rn(x, __fadd_rn(__fmul_rn(count, frequency), presence));
  }
};

// After the temperature.
template <class Row>
struct ScaledRow {
  Row row;
  float temperature;

  // + 0: -0 and 0 are equal, so their keys have to be.
  __device__ float operator()(int i) const {
    return __fadd_rn(__fdiv_rn(row(i), temperature), 0.0f);
  }
};

struct Scratch {
  Candidate best[32];
  uint64_t sums[32];
  unsigned long long bins[kBins];
  uint64_t prefix, before;
  BiasFilter filter;
};

// The key of the first token, from the largest down, at which the sum of the weights of tokens with
// keys of at least `cut` reaches `goal`; `cut` itself when it never does.
template <class Row, class Weight>
__device__ uint64_t CutAt(int n, const ScaledRow<Row>& x, uint64_t cut, uint64_t goal, Scratch& s,
                          const Weight& weight) {
  uint64_t prefix = 0, before = 0;
  for (int shift = 56; shift >= 0; shift -= 8) {
    for (int b = threadIdx.x; b < kBins; b += kThreads) s.bins[b] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += kThreads) {
      const float value = x(i);
      const uint64_t key = OrderKey(value, i);
      if (key < cut || (shift < 56 && key >> (shift + 8) != prefix)) continue;
      atomicAdd(&s.bins[key >> shift & (kBins - 1)],
                static_cast<unsigned long long>(weight(value)));
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      int bin = kBins - 1;
      while (bin > 0 && before + s.bins[bin] < goal) before += s.bins[bin--];
      s.prefix = prefix << 8 | static_cast<uint64_t>(bin);
      s.before = before;
    }
    __syncthreads();
    prefix = s.prefix;
    before = s.before;
    __syncthreads();
  }
  return prefix > cut ? prefix : cut;
}

template <class Row>
__device__ uint64_t TopPCut(int n, const ScaledRow<Row>& x, uint64_t cut, float top_p, float top,
                            Scratch& s) {
  const auto weight = [top](float value) {
    return static_cast<uint64_t>(exp(static_cast<double>(value) - top) * kWeightOne);
  };
  uint64_t total = 0;
  for (int i = threadIdx.x; i < n; i += kThreads) {
    const float value = x(i);
    if (OrderKey(value, i) >= cut) total += weight(value);
  }
  total = BlockReduce(total, s.sums, uint64_t{0}, Sum());
  const uint64_t goal = static_cast<uint64_t>(ceil(top_p * static_cast<double>(total)));
  return CutAt(n, x, cut, goal > 0 ? goal : 1, s, weight);
}

__device__ float Gumbel(uint64_t seed, uint64_t position, int id) {
  const PhiloxBlock block = Philox(seed, position, static_cast<uint64_t>(id) / 4);
  return -logf(-logf(UniformOpen(block.lane[id % 4])));
}

template <class Row>
__device__ int32_t Draw(const SampleProblem& p, int r, const ScaledRow<Row>& x, int32_t greedy,
                        const SamplingParams& params, Scratch& s) {
  const int n = p.vocab_size;
  const float top = x(greedy);
  if (!isfinite(top)) return greedy;     // a temperature next to zero
  uint64_t cut = OrderKey(-FLT_MAX, n);  // infinity: not to be drawn
  if (params.top_k > 0 && params.top_k < n) {
    cut = CutAt(n, x, cut, params.top_k, s, [](float) { return uint64_t{1}; });
  }
  if (params.top_p < 1) cut = TopPCut(n, x, cut, params.top_p, top, s);
  const double lowest = params.min_p > 0 ? top + log(static_cast<double>(params.min_p))
                                         : -static_cast<double>(INFINITY);
  const uint64_t seed = p.args.seeds[p.args.seq_slots[r]];
  const int position = p.args.positions[r];
  Candidate mine = {0, -1};
  for (int i = threadIdx.x; i < n; i += kThreads) {
    const float value = x(i);
    const bool kept = i == greedy || (OrderKey(value, i) >= cut && value >= lowest);
    if (kept) mine = Better()(mine, {__fadd_rn(value, Gumbel(seed, position, i)), i});
  }
  return BlockBest(mine, s.best).id;
}

template <class Row>
__device__ int32_t Sample(const SampleProblem& p, int r, const Row& row,
                          const SamplingParams& params, Scratch& s) {
  const int32_t greedy = BlockBest(p.vocab_size, s.best, row).id;
  if (params.temperature == 0) return greedy;
  return Draw(p, r, ScaledRow<Row>{row, params.temperature}, greedy, params, s);
}

__global__ void __launch_bounds__(kThreads) SampleTokensKernel(SampleProblem p) {
  __shared__ Scratch s;
  const int r = blockIdx.x;
  AwaitKernelsBefore();
  if (r >= *p.rows.num) return;
  const SampleArgs& args = p.args;
  const int n = p.vocab_size, slot = args.seq_slots[r];
  const int64_t first_word = int64_t{slot} * CeilDiv(n, 32);
  const float* logits = p.logits + int64_t{r} * n;
  const SamplingParams params = args.params[slot];
  const TokenBiases& biases = args.biases[slot];
  const bool masked = args.masked[r] != 0;
  int bad = 0;
  for (int i = threadIdx.x; i < n; i += kThreads) bad |= !isfinite(logits[i]);
  bad = __syncthreads_or(bad);
  int32_t token = 0;
  const PenalizedRow row = {logits, args.history.seen + first_word, params.repetition_penalty};
  if (bad) {
    // Reported below.
  } else if (!masked && biases.num == 0 && !params.counts_tokens()) {
    token = Sample(p, r, row, params, s);
  } else {
    s.filter.Build(biases);
    token = Sample(p, r,
                   AdjustedRow{.penalized = row,
                               .allowed = masked ? args.allowed + first_word : nullptr,
                               .biases = &biases,
                               .filter = &s.filter,
                               .early = !masked && args.positions[r] < biases.early_until,
                               .counts_tokens = params.counts_tokens(),
                               .counts = args.history.counts + first_word * 32,
                               .frequency = params.frequency_penalty,
                               .presence = params.presence_penalty},
                   params, s);
  }
  if (threadIdx.x != 0) return;
  args.not_finite[r] = bad != 0;
  args.tokens[r] = token;
}

}  // namespace

void SampleTokens(Stream& stream, const SampleProblem& problem) {
  LaunchEarly(stream, problem.rows.max, kThreads, 0, SampleTokensKernel, problem);
}

}  // namespace pregate::cuda
